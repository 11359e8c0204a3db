//! Settings that are checked as a whole: all that is wrong is told at once, and no key is passed
//! over. It must never show the value of a key that it does not know.

use super::invalid::wrong;
use super::trusted;
use crate::error::{Error, Result};
use crate::model::printable::one_line;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use toml::{Table, Value};

/// Most faults that are told; the others are counted.
const MOST_FAULTS: usize = 16;

/// A file of settings as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettingsFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its keys.
    pub table: Table,
    /// When it was last written.
    pub written: Option<SystemTime>,
    /// What tells its text from any other; `None`: it stands nowhere yet.
    pub hash: Option<String>,
}

impl SettingsFile {
    /// Reads the file at `path`; `None` when it is not there.
    ///
    /// # Errors
    /// It cannot be read, others than root can write to it, or it is no TOML.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let Some(found) = trusted::read(path)? else {
            return Ok(None);
        };
        let table = toml::from_str(&found.text)
            .map_err(|error| wrong(path, &trusted::unparsed(&found.text, &error)))?;
        Ok(Some(Self {
            path: path.into(),
            table,
            written: found.written,
            hash: Some(blake3::hash(found.text.as_bytes()).to_hex().to_string()),
        }))
    }

    /// Its keys, to be taken out one by one.
    pub fn keys(&self) -> SettingKeys {
        SettingKeys {
            table: self.table.clone(),
            within: String::new(),
            faults: Vec::new(),
        }
    }

    /// What is wrong with it, as one error.
    pub fn error(&self, faults: &[String]) -> Error {
        let shown = faults.iter().take(MOST_FAULTS).map(String::as_str);
        let mut told = shown.collect::<Vec<_>>().join("; ");
        if faults.len() > MOST_FAULTS {
            told += &format!("; and {} more", faults.len() - MOST_FAULTS);
        }
        wrong(&self.path, &told)
    }
}

/// The keys of a table. Whoever has taken out what is known calls [`SettingKeys::faults`], which
/// tells what was wrong with them and what is left.
#[derive(Debug)]
pub struct SettingKeys {
    table: Table,
    within: String,
    faults: Vec<String>,
}

impl SettingKeys {
    /// A text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key)? {
            Value::String(text) if text.contains(char::is_control) => {
                self.fault(key, "a control character stands in it")
            }
            Value::String(text) if text.is_empty() => self.fault(key, "it is empty"),
            Value::String(text) => Some(text),
            _ => self.fault(key, "a text in quotes is expected"),
        }
    }

    /// A text, understood by `parse`, whose error says what would be right.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> std::result::Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => self.fault(key, &format!("{:?}: {why}", one_line(&text))),
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        match self.table.remove(key)? {
            Value::Boolean(flag) => Some(flag),
            _ => self.fault(key, "true or false is expected"),
        }
    }

    /// A whole number within a range.
    pub fn number(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.table.remove(key)?;
        let number = value.as_integer().and_then(|n| u32::try_from(n).ok());
        let (least, most) = (range.start(), range.end());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => self.fault(key, &format!("a number from {least} to {most} is expected")),
        }
    }

    /// Texts in brackets, of which none is empty.
    pub fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let is_text = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        let value = self.table.remove(key)?;
        let each = value.as_array().map(|all| {
            let texts = all
                .iter()
                .map(|one| one.as_str().filter(|text| is_text(text)));
            texts.map(|text| text.map(str::to_owned)).collect()
        });
        match each {
            Some(Some(texts)) => Some(texts),
            _ => self.fault(
                key,
                "texts in brackets are expected, like [\"vda\", \"vdb\"]",
            ),
        }
    }

    /// Whether the key is there, as a table.
    pub fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(Value::is_table)
    }

    /// Whether the key is there, as texts in brackets.
    pub fn is_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(Value::is_array)
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A table: `look` takes out its keys.
    pub fn table<T>(&mut self, key: &str, look: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match self.table.remove(key)? {
            Value::Table(table) => {
                let mut inside = Self {
                    table,
                    within: format!("{}{key}.", self.within),
                    faults: Vec::new(),
                };
                let seen = look(&mut inside);
                self.faults.extend(inside.faults());
                Some(seen)
            }
            _ => self.fault(key, "a table is expected"),
        }
    }

    /// Says that something is wrong with a key.
    pub fn fault<T>(&mut self, key: &str, why: &str) -> Option<T> {
        self.faults.push(format!("{}{key}: {why}", self.within));
        None
    }

    /// Says that a key is missing, unless something was wrong with it.
    pub fn missing(&mut self, key: &str, why: &str) {
        let name = format!("{}{key}:", self.within);
        if !self.faults.iter().any(|fault| fault.starts_with(&name)) {
            self.fault::<()>(key, why);
        }
    }

    /// All that is wrong, unknown keys among it.
    pub fn faults(mut self) -> Vec<String> {
        for key in self.table.keys() {
            let name = one_line(key);
            self.faults
                .push(format!("{}{name}: there is no such key", self.within));
        }
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> SettingKeys {
        let file = SettingsFile {
            table: toml::from_str(text).unwrap(),
            ..SettingsFile::default()
        };
        file.keys()
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "a = 1\nb = \"\"\nc = \"x\\ny\"\nd = \"no\"\ne = [1]\nf = 99\n\
                    secret = \"s3cret\"\n\
                    [g]\nh = \"yes\"\ni = 1\n";
        let mut keys = keys(text);
        assert_eq!(keys.text("a"), None);
        assert_eq!(keys.text("b"), None);
        assert_eq!(keys.text("c"), None);
        assert_eq!(keys.flag("d"), None);
        assert_eq!(keys.texts("e"), None);
        assert_eq!(keys.number("f", 1..=9), None);
        assert_eq!(keys.parsed("none", |_| Ok(1)), None);
        keys.missing("a", "not told twice");
        keys.missing("start", "a start is needed");
        let inside = keys.table("g", |inside| inside.text("h"));
        assert_eq!(inside, Some(Some("yes".to_owned())));
        let faults = keys.faults();
        assert_eq!(faults.len(), 9, "{faults:#?}");
        assert!(
            faults
                .iter()
                .any(|fault| fault.starts_with("g.i: there is no such key"))
        );
        assert!(
            faults
                .iter()
                .any(|fault| fault == "start: a start is needed")
        );
        assert!(!faults.concat().contains("s3cret"), "{faults:#?}");
        assert!(!faults.concat().contains("not told twice"), "{faults:#?}");
    }
}
