//! How gently a snapshot reads the disks.

use super::invalid::wrong;
use super::rate::parse_rate;
use crate::error::Result;
use crate::model::Bytes;
use serde::Deserialize;
use std::path::Path;

/// The table `[reading]` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadingTable {
    limit: Option<String>,
    priority: Option<PriorityWord>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum PriorityWord {
    #[default]
    Idle,
    Normal,
}

/// How gently a snapshot reads the disks while nothing is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingSettings {
    /// Most bytes a second; `None`: as many as can be.
    pub limit: Option<Bytes>,
    /// Whether nearly all is read only when nobody else wants to read or write.
    pub idle: bool,
}

impl ReadingTable {
    /// As `given` by what goes before the file at `path`, then as in this table, then the defaults.
    pub(super) fn settings(&self, path: &Path, given: Option<Bytes>) -> Result<ReadingSettings> {
        let file = self.limit.as_deref().map(parse_rate).transpose();
        let file = file.map_err(|why| wrong(path, &format!("reading.limit: {why}")))?;
        Ok(ReadingSettings {
            limit: given.or(file),
            idle: self.priority.unwrap_or_default() == PriorityWord::Idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &str, given: Option<Bytes>) -> Result<ReadingSettings> {
        let table: ReadingTable = toml::from_str(file).unwrap();
        table.settings(Path::new("/c"), given)
    }

    #[test]
    fn what_was_given_goes_before_the_file_and_that_before_the_default() {
        let usual = settings("", None).unwrap();
        assert_eq!((usual.limit, usual.idle), (None, true));
        let file = "limit = \"20MiB/s\"\npriority = \"normal\"\n";
        let of_file = settings(file, None).unwrap();
        assert_eq!(
            (of_file.limit, of_file.idle),
            (Some(Bytes(20 << 20)), false)
        );
        let given = settings(file, Some(Bytes(7))).unwrap();
        assert_eq!((given.limit, given.idle), (Some(Bytes(7)), false));
        let error = settings("limit = \"fast\"", None).unwrap_err();
        assert!(error.to_string().contains("reading.limit"), "{error}");
    }
}
