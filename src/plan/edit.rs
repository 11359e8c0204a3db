//! Changing the file of a plan, and writing it. Whatever was changed, the whole is checked as if it
//! had been written by hand.

use super::file::SnapshotPlan;
use super::name::PlanName;
use crate::config::SettingsFile;
use crate::error::{Error, ErrorKind, Result};
use jiff::Timestamp;
use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;
use toml::{Table, Value};

/// What stands above all keys.
const HEAD: &str = "# A plan of stillpoint; `stillpoint help plans` describes each key. It may be \
                    edited by hand.\n# `stillpoint plan modify` writes it anew, and keeps no \
                    comments.\n";

/// The file of a plan that is being changed.
#[derive(Clone, Debug)]
pub struct PlanEdit {
    name: PlanName,
    file: SettingsFile,
}

impl PlanEdit {
    /// Of a file that is there.
    pub fn of(name: PlanName, file: SettingsFile) -> Self {
        Self { name, file }
    }

    /// Of one that is to stand at `path`.
    pub fn new(name: PlanName, path: &Path) -> Self {
        let file = SettingsFile {
            path: path.into(),
            ..SettingsFile::default()
        };
        Self { name, file }
    }

    /// Sets a text. `key` is that of a table and one within it, with a dot between, or a key alone.
    pub fn set_text(&mut self, key: &str, text: &str) {
        self.set(key, Value::String(text.into()));
    }

    /// Sets `true` or `false`.
    pub fn set_flag(&mut self, key: &str, flag: bool) {
        self.set(key, Value::Boolean(flag));
    }

    /// Sets a number.
    pub fn set_number(&mut self, key: &str, number: u32) {
        self.set(key, Value::Integer(number.into()));
    }

    /// Sets texts in brackets.
    pub fn set_texts(&mut self, key: &str, texts: &[String]) {
        let texts = texts.iter().cloned().map(Value::String);
        self.set(key, Value::Array(texts.collect()));
    }

    /// Takes a key away: one alone, a table, or one within it.
    pub fn remove(&mut self, key: &str) {
        let table = &mut self.file.table;
        match key.split_once('.') {
            None => drop(table.remove(key)),
            Some((outer, inner)) => {
                if let Some(Value::Table(inside)) = table.get_mut(outer) {
                    inside.remove(inner);
                }
            }
        }
    }

    /// The text of a key, if it has one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.file.table.get(key)?.as_str()
    }

    fn set(&mut self, key: &str, value: Value) {
        let table = &mut self.file.table;
        let Some((outer, inner)) = key.split_once('.') else {
            table.insert(key.into(), value);
            return;
        };
        let entry = table.entry(outer.to_owned());
        let entry = entry.or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        if let Value::Table(inside) = entry {
            inside.insert(inner.into(), value);
        }
    }

    /// The plan that it is now, written at `now`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn plan(&self, now: Timestamp) -> Result<SnapshotPlan> {
        let mut file = self.file.clone();
        file.written = Some(SystemTime::from(now));
        SnapshotPlan::of(self.name.clone(), &file)
    }

    /// Its text.
    ///
    /// # Errors
    /// It holds what no plan has.
    pub fn render(&self) -> Result<String> {
        let mut text = String::from(HEAD);
        let (tables, keys): (Vec<_>, Vec<_>) = self
            .file
            .table
            .iter()
            .partition(|(_, value)| value.is_table());
        for (key, value) in keys {
            write_key(&mut text, key, value)?;
        }
        for (name, value) in tables {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n[{name}]");
            for (key, value) in value.as_table().into_iter().flatten() {
                write_key(&mut text, key, value)?;
            }
        }
        Ok(text)
    }
}

fn write_key(text: &mut String, key: &str, value: &Value) -> Result<()> {
    let strange = || Error::new(ErrorKind::Usage, format!("{key:?} cannot be written"));
    let value = match value {
        Value::String(value) => quoted(value),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Array(values) => {
            let each = values.iter().map(|value| value.as_str().map(quoted));
            let each: Option<Vec<String>> = each.collect();
            format!("[{}]", each.ok_or_else(strange)?.join(", "))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => return Err(strange()),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{key} = {value}");
    Ok(())
}

/// A text as TOML has it. What a plan holds has no control characters, and what JSON escapes
/// besides, TOML does too.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    fn edit() -> PlanEdit {
        let mut edit = PlanEdit::new("daily".parse().unwrap(), Path::new("/etc/p/daily.toml"));
        edit.set_text("start", "2026-12-01T02:30:00");
        edit.set_text("every", "1d");
        edit
    }

    #[test]
    fn what_is_written_is_read_as_the_same_plan() {
        let mut edit = edit();
        edit.set_text("zone", "Europe/Berlin");
        edit.set_text("disks", "all");
        edit.set_texts("exclude", &["vdb".into(), "a \"quoted\" \\ one".into()]);
        edit.set_text("vault", "/backup/with \"quotes\"");
        edit.set_text("level", "application");
        edit.set_text("hooks.prescript", "/etc/ä");
        edit.set_text("retention", "30d");
        edit.set_text("jitter", "20m");
        edit.set_text("window", "01:00-05:00");
        edit.set_flag("suspended", true);
        edit.set_text("mirror.to", "second");
        edit.set_text("mirror.every", "1w");
        edit.set_text("verify.sample", "5%");
        edit.set_text("limits.read", "20MiB/s");
        edit.set_text("drill.every", "1w");
        edit.set_flag("drill.boot", true);
        edit.set_text("drill.check", "/etc/check \"1\"");
        edit.set_text("drill.timeout", "1h");
        edit.set_text("drill.memory", "2GiB");
        edit.set_text("gc.every", "1d");
        let plan = edit.plan(now()).unwrap();
        let read = SettingsFile {
            table: toml::from_str(&edit.render().unwrap()).unwrap(),
            written: Some(SystemTime::from(now())),
            path: "/etc/p/daily.toml".into(),
            hash: None,
        };
        assert_eq!(read.table, edit.file.table);
        assert_eq!(SnapshotPlan::of(plan.name.clone(), &read).unwrap(), plan);
        assert!(plan.suspended && plan.follow_ups().len() == 5);
        assert_eq!(plan.timing(), "2026-12-01T02:30:00 Europe/Berlin 1d 1200s");
    }

    #[test]
    fn a_rule_takes_the_place_of_days() {
        let mut edit = edit();
        edit.set_text("retention", "30d");
        edit.set_number("retention.daily", 7);
        let retention = edit.plan(now()).unwrap().retention;
        let Some(crate::plan::PlanRetention::Rules(rules)) = retention else {
            panic!("{retention:?}");
        };
        assert_eq!(rules.daily, 7);
        edit.remove("retention");
        assert_eq!(edit.plan(now()).unwrap().retention, None);
    }

    #[test]
    fn all_that_is_wrong_with_its_drill_is_told() {
        let mut edit = edit();
        edit.set_text("drill.check", "x.sh");
        edit.set_text("drill.timeout", "2d");
        edit.set_text("drill.memory", "1GiB");
        edit.set_text("drill.machine", "pc");
        let said = edit.plan(now()).unwrap_err().to_string();
        for told in [
            "drill.every: say how often",
            "drill.check:",
            "drill.timeout:",
            "drill.memory: it is that of a machine",
            "drill.machine: there is no such key",
        ] {
            assert!(said.contains(told), "{told}: {said}");
        }
        edit.remove("drill");
        assert_eq!(edit.plan(now()).unwrap().drill, None);
    }

    #[test]
    fn all_that_is_wrong_with_a_plan_is_told_with_its_file() {
        let mut edit = PlanEdit::new("daily".parse().unwrap(), Path::new("/etc/p/daily.toml"));
        edit.set_text("start", "2026-12-01T02:30:00Z");
        edit.set_text("every", "10000h");
        edit.set_text("zone", "Europe/Nowhere");
        edit.set_text("strat", "x");
        edit.set_text("vault", "./vault");
        edit.set_text("level", "best");
        edit.set_text("hooks.prescript", "x.sh");
        edit.set_text("mirror.every", "1d");
        edit.set_texts("disks", &[]);
        edit.set_texts("exclude", &["vdb".into()]);
        edit.set_text("retention", "11y");
        edit.set_text("jitter", "13h");
        edit.set_text("window", "x");
        edit.set_text("verify.sample", "5");
        edit.set_text("gc.evry", "1d");
        let error = edit.plan(now()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let said = error.to_string();
        for told in [
            "/etc/p/daily.toml",
            "start:",
            "every:",
            "zone:",
            "strat: there is no such key",
            "vault:",
            "level:",
            "hooks.prescript:",
            "mirror.to:",
            "disks:",
            "exclude:",
            "retention:",
            "jitter:",
            "window:",
            "verify.sample:",
            "gc.evry: there is no such key",
            "gc.every:",
        ] {
            assert!(said.contains(told), "{told}: {said}");
        }
    }
}
