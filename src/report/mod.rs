//! What commands and jobs report, as a JSON document for programs and as text for people, made of
//! the values that engine, jobs and vault return. Nothing here knows the command line or the
//! terminal, nor does any work of its own: a web page or a scheduler reports in the same words.

pub mod against_disk;
pub mod check;
pub mod client;
pub mod cp;
pub mod diff;
pub mod diff_map;
pub mod disks;
pub mod doctor;
pub mod drill;
pub mod error;
pub mod fleet;
pub mod gc;
mod gc_rewriting;
pub mod info;
pub mod job;
pub mod jobs;
pub mod keep;
pub mod key;
pub mod list;
pub mod lock;
mod lost_files;
pub mod ls;
pub mod mirror;
pub mod mount;
pub mod notify;
pub mod plan;
pub mod prune;
pub mod recover;
pub mod repair;
pub mod restorable;
pub mod restore;
mod schema;
pub mod serve;
pub mod show;
pub mod snapshot;
pub mod status;
mod status_drills;
mod text;
pub mod thaw;
pub mod track;
pub mod vault;
pub mod verify;

pub use schema::schema;

use crate::model::RequestCounts;
use crate::model::exit::{BELOW, DONE};
use crate::model::printable::one_line;
use serde_json::{Value, json};

/// What a command, or a job, has to report.
pub struct Report {
    /// For programs; null: it was printed before.
    pub json: Value,
    /// For people; the last line is the verdict.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

impl Report {
    /// Reports that all was done as asked.
    pub fn done(json: Value, text: impl Into<String>) -> Self {
        Self {
            json,
            text: text.into(),
            code: DONE,
        }
    }

    /// Adds a warning to the document, and to the text before the verdict. Success becomes the code
    /// below it.
    pub fn warn(&mut self, warning: &str) {
        self.mention(warning);
        if self.code == DONE {
            self.code = BELOW;
        }
    }

    /// The same of what is no less than was asked for.
    pub fn mention(&mut self, warning: &str) {
        if let Value::Object(document) = &mut self.json {
            let warnings = document.entry("warnings").or_insert_with(|| json!([]));
            if let Value::Array(warnings) = warnings {
                warnings.push(json!(warning));
            }
        }
        self.say_before_the_verdict(&format!("warning: {}", one_line(warning)));
    }

    /// Adds what was asked of the vault, if somebody counted.
    pub fn add_requests(&mut self, requests: Option<RequestCounts>) {
        if let Value::Object(document) = &mut self.json {
            document.insert("requests".into(), json!(requests));
        }
        if let Some(requests) = requests {
            self.say_before_the_verdict(&asked(&requests));
        }
    }

    fn say_before_the_verdict(&mut self, line: &str) {
        let verdict = self.text.trim_end().rfind('\n').map_or(0, |end| end + 1);
        self.text.insert_str(verdict, &format!("{line}\n"));
    }

    /// If `below`: the result is less than what was asked for.
    #[must_use]
    pub fn below(mut self, below: bool) -> Self {
        if below {
            self.code = BELOW;
        }
        self
    }
}

/// What was asked of a vault, in a line.
fn asked(requests: &RequestCounts) -> String {
    format!("asked of the vault: {requests}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bytes;

    #[test]
    fn what_was_asked_of_the_vault_stands_before_the_verdict() {
        let mut report = Report::done(json!({}), "first\nverdict");
        report.add_requests(None);
        assert_eq!(report.text, "first\nverdict");
        assert_eq!(report.json, json!({"requests": null}));
        report.add_requests(Some(RequestCounts {
            put: 2,
            get: 3,
            size: 4,
            list: 5,
            delete: 6,
            sent_bytes: Bytes(1 << 20),
            received_bytes: Bytes(7),
        }));
        let line = "asked of the vault: 2 put, 3 get, 4 size, 5 list, 6 delete; 1.00 MiB sent, \
                    7 B received";
        assert_eq!(report.text, format!("first\n{line}\nverdict"));
        let document = json!({"put": 2, "get": 3, "size": 4, "list": 5, "delete": 6,
            "sent_bytes": 1 << 20, "received_bytes": 7});
        assert_eq!(report.json, json!({"requests": document}));
        assert_eq!(report.code, DONE);
    }

    #[test]
    fn a_late_warning_stands_before_the_verdict() {
        let mut outcome = Report::done(json!({"a": 1}), "first\nverdict\n");
        outcome.warn("w");
        assert_eq!(outcome.text, "first\nwarning: w\nverdict\n");
        assert_eq!(outcome.json, json!({"a": 1, "warnings": ["w"]}));
        assert_eq!(outcome.code, BELOW);
        let mut damaged = Report::done(json!({"warnings": ["v"]}), "verdict");
        damaged.code = 4;
        damaged.warn("w");
        assert_eq!(damaged.text, "warning: w\nverdict");
        assert_eq!(damaged.json, json!({"warnings": ["v", "w"]}));
        assert_eq!(damaged.code, 4);
    }
}
