//! Where an instance is reached. It becomes an argument of a program, so it can never be an option,
//! nor mean anything to a shell.

use std::fmt;
use std::str::FromStr;

/// Longest address, in bytes.
const MOST: usize = 255;

/// A name or an IP address, with `user@` before it if need be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostAddress(String);

impl HostAddress {
    /// As it stands in the list.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostAddress {
    /// What is wrong with it.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, host) = match text.split_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        let in_name = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let in_host = |c: u8| in_name(c) || c == b':';
        let starts_well = |part: &str| part.bytes().next().is_some_and(|c| c != b'-');
        if text.len() > MOST {
            return Err("it is longer than 255 bytes");
        }
        if !starts_well(host) || !user.is_none_or(starts_well) {
            return Err("an address begins with a letter, a digit, or : as in ::1");
        }
        if !host.bytes().all(in_host) || !user.is_none_or(|user| user.bytes().all(in_name)) {
            return Err(
                "an address is a name or an IP address, with user@ before it if need be; \
                        another port stands in the configuration of ssh",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_option_and_nothing_to_a_shell() {
        for good in [
            "10.0.0.5",
            "web-1.internal",
            "admin@web_1",
            "::1",
            "fd00::5:1",
            &"x".repeat(255),
        ] {
            assert_eq!(good.parse::<HostAddress>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "@a",
            "a@",
            "-l@a",
            "a@-b",
            "a b",
            "a;b",
            "$(a)",
            "a`b`",
            "a\nb",
            "a\0b",
            "ä",
            "a@b@c",
            "a/b",
            "a'b",
            "a\"b",
            "a%h",
            "[::1]",
            &"x".repeat(256),
        ] {
            assert!(bad.parse::<HostAddress>().is_err(), "{bad:?}");
        }
    }
}
