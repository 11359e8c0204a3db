//! One instance of a list. Its texts become arguments of programs and parts of paths, so each is
//! checked before anything is done with it.

use super::address::HostAddress;
use super::columns::Columns;
use crate::model::printable::one_line;

/// Longest name of an instance, of a plan and of a vault, in bytes.
const MOST_NAME: usize = 256;
const MOST_INSTANCE: usize = 128;
const MOST_PLAN: usize = 48;
const MOST_VAULT: usize = 400;
/// Most addresses of one instance.
const MOST_ADDRESSES: usize = 8;
/// The kinds of networks; the first is meant where nothing stands.
const NETWORKS: [&str; 3] = ["private", "internal", "public"];

/// An instance, as the list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetHost {
    /// The line of the file on which it begins.
    pub line: u64,
    /// What the cloud calls it: letters, digits, `.`, `_` and `-`, a letter or digit first.
    pub instance: String,
    /// What people call it; may be empty.
    pub name: String,
    /// Where it is reached, in the order in which that is tried.
    pub addresses: Vec<HostAddress>,
    /// `private`, `internal` or `public`.
    pub network: String,
    /// The plan that it is to have; empty: whatever the token says.
    pub plan: String,
    /// The vault that it is to use; empty: whatever the token says.
    pub vault: String,
}

impl FleetHost {
    /// The one of a row; or all that is wrong with it.
    pub(super) fn of(line: u64, cells: [&str; Columns::COUNT]) -> Result<Self, Vec<String>> {
        let [instance, name, address, network, plan, vault] = cells;
        let mut wrong = Vec::new();
        let mut require = |so: bool, what: &str| {
            if !so {
                wrong.push(what.to_owned());
            }
        };
        require(
            is_word(instance) && instance.len() <= MOST_INSTANCE,
            "instance: letters, digits, . _ and -, a letter or digit first, 128 at most",
        );
        require(
            name.len() <= MOST_NAME && !name.starts_with('-') && is_plain(name),
            "name: one line of text, not - at its start, 256 bytes at most",
        );
        let network = network.to_ascii_lowercase();
        let known = network.is_empty() || NETWORKS.contains(&network.as_str());
        require(known, "network type: private, internal or public");
        require(
            plan.is_empty() || is_word(plan) && is_small(plan) && plan.len() <= MOST_PLAN,
            "plan: small letters, digits, - and _, 48 at most",
        );
        require(
            vault.len() <= MOST_VAULT && !vault.starts_with('-') && is_plain(vault),
            "vault: one line of text, not - at its start, 400 bytes at most",
        );
        let mut addresses = Vec::new();
        for one in address.split(',').map(str::trim) {
            match one.parse::<HostAddress>() {
                _ if address.is_empty() => {}
                Ok(one) => addresses.push(one),
                Err(why) => wrong.push(format!("address: {why}")),
            }
        }
        if address.is_empty() {
            wrong.push("address: there is none".into());
        }
        if addresses.len() > MOST_ADDRESSES {
            wrong.push(format!("address: {MOST_ADDRESSES} at most"));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            line,
            instance: instance.to_owned(),
            name: name.to_owned(),
            addresses,
            network: match network.as_str() {
                "" => NETWORKS[0].to_owned(),
                _ => network,
            },
            plan: plan.to_owned(),
            vault: vault.to_owned(),
        })
    }
}

/// Whether it can be a name of a file, and never an option.
pub(super) fn is_word(text: &str) -> bool {
    let in_word = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    text.bytes()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric())
        && text.bytes().all(in_word)
}

fn is_small(text: &str) -> bool {
    text.bytes().all(|c| !c.is_ascii_uppercase() && c != b'.')
}

/// Whether a terminal shows it as it is, in one line.
fn is_plain(text: &str) -> bool {
    one_line(text) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 6] = ["i-1", "web 1", "10.0.0.1, a@b", "", "daily", "s3://b/p"];

    #[test]
    fn a_row_is_taken_as_it_stands() {
        let host = FleetHost::of(2, GOOD).unwrap();
        let addresses: Vec<&str> = host.addresses.iter().map(HostAddress::as_str).collect();
        assert_eq!(addresses, ["10.0.0.1", "a@b"]);
        assert_eq!((&*host.network, host.line), ("private", 2));
    }

    #[test]
    fn each_cell_is_checked_and_all_that_is_wrong_is_said() {
        let bad: [(usize, &[&str]); 6] = [
            (0, &["", "-a", "a b", "../a", "a/b", ".a", "ä", "a\0"]),
            (1, &["-x", "a\nb", "\u{1b}[31m", "\u{202e}x"]),
            (2, &["", "a,,b", "-a", "a;b", "a,b,c,d,e,f,g,h,i"]),
            (3, &["vpn", "private public"]),
            (4, &["a b", "-a", "a\n", "A", "a.b"]),
            (5, &["-v", "a\rb"]),
        ];
        for (place, texts) in bad {
            for text in texts {
                let mut cells = GOOD;
                cells[place] = text;
                let wrong = FleetHost::of(2, cells).unwrap_err();
                assert_eq!(wrong.len(), 1, "{text:?}: {wrong:?}");
            }
        }
        let all = FleetHost::of(2, ["-", "-", "-", "-", "-", "-"]).unwrap_err();
        assert_eq!(all.len(), 6, "{all:?}");
    }
}
