//! Whether the network comes up on another machine: what is set for a card's address, or for a name
//! that the kernel makes of the slot it sits in, counts for no other card. What cloud-init has
//! written, and writes anew, does not count.

use super::cloud_init::{made_by_it, makes_network};
use super::tree::{MachineFiles, said};
use super::verdict::{BootRisk, BootRiskLevel, Restorability};

/// A kind of file, and the line in it that binds it to one card.
struct NetworkFiles {
    folder: &'static str,
    starts: &'static str,
    ends: &'static str,
    /// The line that binds, and what it says of it.
    binds: fn(&str) -> Option<Binding>,
}

/// A line that binds a network to this machine, and what to do about it.
struct Binding {
    line: usize,
    what: String,
    remedy: &'static str,
}

const KINDS: [NetworkFiles; 9] = [
    kind("/etc/udev/rules.d", "", ".rules", udev_rule),
    kind("/etc/netplan", "", ".yaml", netplan),
    kind("/etc/sysconfig/network-scripts", "ifcfg-", "", ifcfg),
    kind("/etc/sysconfig/network", "ifcfg-", "", ifcfg),
    kind("/etc/systemd/network", "", ".link", systemd),
    kind("/etc/systemd/network", "", ".network", systemd),
    kind(
        "/etc/NetworkManager/system-connections",
        "",
        ".nmconnection",
        network_manager,
    ),
    kind("/etc/network", "interfaces", "", ifupdown),
    kind("/etc/network/interfaces.d", "", "", ifupdown),
];

const fn kind(
    folder: &'static str,
    starts: &'static str,
    ends: &'static str,
    binds: fn(&str) -> Option<Binding>,
) -> NetworkFiles {
    NetworkFiles {
        folder,
        starts,
        ends,
        binds,
    }
}

/// Looks at all of them.
pub(super) fn look(tree: &MachineFiles, found: &mut Restorability) {
    let anew = makes_network(tree, found);
    let (mut seen, mut by_cloud) = (0, false);
    for kind in &KINDS {
        for path in tree.files_in(kind.folder, kind.ends, found) {
            let name = path.rsplit('/').next().unwrap_or_default();
            if !name.starts_with(kind.starts) || is_folder(tree, &path) {
                continue;
            }
            let Some(text) = tree.text(&path, found) else {
                continue;
            };
            seen += 1;
            let Some(binding) = (kind.binds)(&text) else {
                continue;
            };
            if anew && made_by_it(&path, &text) {
                by_cloud = true;
                continue;
            }
            found.risk(BootRisk {
                level: BootRiskLevel::BehavesOtherwise,
                what: binding.what,
                place: format!("{path}:{}", binding.line),
                why: "another machine has another card: it may start without a network".into(),
                remedy: binding.remedy.into(),
            });
        }
    }
    found.saw("network", format!("{seen} files"));
    if by_cloud {
        found.note(
            "the network is set up for this machine's card by cloud-init, which does it anew \
             elsewhere if it finds a cloud there (or a seed of NoCloud)",
        );
    }
}

fn is_folder(tree: &MachineFiles, path: &str) -> bool {
    tree.has(&format!("{path}/."))
}

/// The first line of which `look` says something.
fn first(text: &str, mut look: impl FnMut(&str) -> Option<String>) -> Option<(usize, String)> {
    let lines = said("", text).filter_map(|line| {
        let number = line.place.trim_start_matches(':').parse().ok()?;
        Some((number, look(line.text)?))
    });
    lines.into_iter().next()
}

/// `SUBSYSTEM=="net", ATTR{address}=="52:54:...", NAME="eth0"`.
fn udev_rule(text: &str) -> Option<Binding> {
    let (line, what) = first(text, |line| {
        let plain = line.replace(' ', "");
        let bound = plain.contains("ATTR{address}==") && plain.contains(",NAME=");
        bound.then(|| "a network card gets its name by its address".to_owned())
    })?;
    Some(Binding {
        line,
        what,
        remedy: "take the line out: the card gets a name by itself",
    })
}

fn ifcfg(text: &str) -> Option<Binding> {
    let (line, what) = first(text, |line| {
        let value = line.strip_prefix("HWADDR=")?.trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| format!("a network is set up for the card {value} alone"))
    })?;
    Some(Binding {
        line,
        what,
        remedy: "take HWADDR out",
    })
}

/// systemd.link(5), systemd.network(5).
fn systemd(text: &str) -> Option<Binding> {
    let mut section = String::new();
    let (line, what) = first(text, |line| {
        if line.starts_with('[') {
            section = line.to_owned();
        }
        let (key, value) = line.split_once('=')?;
        let bound = matches!(key.trim(), "MACAddress" | "PermanentMACAddress");
        let bound = bound && section == "[Match]";
        bound.then(|| format!("a network card is known by its address {}", value.trim()))
    })?;
    Some(Binding {
        line,
        what,
        remedy: "match by Type=ether or by a driver in place of the address",
    })
}

fn network_manager(text: &str) -> Option<Binding> {
    let (line, what) = first(text, |line| {
        let value = line.strip_prefix("mac-address=")?;
        (!value.is_empty()).then(|| format!("a connection is for the card {value} alone"))
    })?;
    Some(Binding {
        line,
        what,
        remedy: "nmcli connection modify NAME 802-3-ethernet.mac-address ''",
    })
}

/// interfaces(5).
fn ifupdown(text: &str) -> Option<Binding> {
    let (line, what) = first(text, |line| {
        let name = line.strip_prefix("iface ")?.split_whitespace().next()?;
        of_a_slot(name).then(|| format!("the network is set up for {name}, named by its slot"))
    })?;
    Some(Binding {
        line,
        what,
        remedy: "name it by a pattern (auto /en*=lan, iface lan inet dhcp), or be ready to change \
                 it on a console",
    })
}

/// `enp1s0`, `ens3`, `eno1`, `enx0123...`: systemd.net-naming-scheme(7).
fn of_a_slot(name: &str) -> bool {
    let rest = name.strip_prefix("en").unwrap_or_default();
    let of_slot = rest.starts_with(['o', 's', 'p', 'x', 'P']);
    of_slot && rest.contains(|c: char| c.is_ascii_digit()) && !rest.contains(['*', '['])
}

/// A line of YAML: how far it is moved in, and what it says.
struct YamlLine<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

fn yaml(text: &str) -> Vec<YamlLine<'_>> {
    let lines = (1..).zip(text.lines()).map(|(number, line)| YamlLine {
        number,
        indent: line.len() - line.trim_start().len(),
        text: line.trim(),
    });
    let said = lines.filter(|line| !line.text.is_empty() && !line.text.starts_with('#'));
    said.collect()
}

/// `match: macaddress:`, or a card under `ethernets:` whose name is of a slot.
fn netplan(text: &str) -> Option<Binding> {
    let lines = yaml(text);
    for (at, line) in lines.iter().enumerate() {
        let before = lines.get(..at).unwrap_or_default().iter().rev();
        let mut above = before.filter(|one| one.indent < line.indent);
        let in_match = above
            .next()
            .is_some_and(|one| one.text.trim_matches('"') == "match:");
        let by_address = line.text.starts_with("macaddress:") && in_match
            || line.text.starts_with("match:") && line.text.contains("macaddress");
        if by_address {
            return Some(Binding {
                line: line.number,
                what: "a network card is known by its address".into(),
                remedy: "match by name: \"en*\" in place of macaddress, without set-name",
            });
        }
    }
    cards_by_slot(&lines)
}

fn cards_by_slot(lines: &[YamlLine<'_>]) -> Option<Binding> {
    let start = lines.iter().position(|line| line.text == "ethernets:")?;
    let outer = lines.get(start)?.indent;
    let rest = lines.get(start + 1..)?;
    let block: Vec<&YamlLine<'_>> = rest.iter().take_while(|line| line.indent > outer).collect();
    let inner = block.first()?.indent;
    for (at, card) in block
        .iter()
        .enumerate()
        .filter(|(_, line)| line.indent == inner)
    {
        let name = card.text.split(':').next()?.trim_matches(['"', '\'']);
        let own = block.get(at + 1..).unwrap_or_default().iter();
        let mut own = own.take_while(|line| line.indent > inner);
        if of_a_slot(name) && !own.any(|line| line.text.starts_with("match:")) {
            return Some(Binding {
                line: card.number,
                what: format!("the network is set up for {name}, named by its slot"),
                remedy: "give the card a name of your own, and match: {name: \"en*\"}",
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_of_a_slot_are_told_from_patterns() {
        for name in ["enp1s0", "ens3", "eno1", "enx525400123456", "enP1s0"] {
            assert!(of_a_slot(name), "{name}");
        }
        for name in ["eth0", "lo", "en*", "end0", "enp*", "br0", "wlan0"] {
            assert!(!of_a_slot(name), "{name}");
        }
    }

    #[test]
    fn netplan_binds_by_address_or_slot_and_not_by_pattern() {
        let bound = |text: &str| netplan(text).map(|one| (one.line, one.what));
        let by_address = "network:\n  ethernets:\n    eth0:\n      dhcp4: true\n      match:\n\
                          \u{20}       macaddress: fa:16:3e:00:00:01\n      set-name: eth0\n";
        assert_eq!(bound(by_address).unwrap().0, 6);
        let by_slot = "network:\n  version: 2\n  ethernets:\n    enp1s0:\n      dhcp4: true\n";
        assert_eq!(bound(by_slot).unwrap().0, 4);
        let by_pattern = "network:\n  version: 2\n  ethernets:\n    all-en:\n      match:\n        \
                          name: en*\n      dhcp4: true\n";
        assert_eq!(bound(by_pattern), None);
        // The address that a card is to have binds it to none.
        let to_have = "network:\n  ethernets:\n    eth0:\n      macaddress: fa:16:3e:00:00:01\n";
        assert_eq!(bound(to_have), None);
    }
}
