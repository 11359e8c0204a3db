//! Whether a snapshot tells what looks like encryption at work.

use serde::Deserialize;

/// The table `[alarm]` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlarmTable {
    encryption: Option<bool>,
}

impl AlarmTable {
    /// As `given` by what goes before the file, then as in this table, then yes.
    pub(super) fn encryption(&self, given: Option<bool>) -> bool {
        given.or(self.encryption).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_unless_somebody_says_otherwise() {
        let of = |file: &str, given| {
            let table: AlarmTable = toml::from_str(file).unwrap();
            table.encryption(given)
        };
        assert!(of("", None));
        assert!(!of("encryption = false", None));
        assert!(of("encryption = false", Some(true)));
        assert!(!of("encryption = true", Some(false)));
        assert!(toml::from_str::<AlarmTable>("encryption = \"no\"").is_err());
        assert!(toml::from_str::<AlarmTable>("other = true").is_err());
    }
}
