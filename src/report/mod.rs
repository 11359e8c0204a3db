//! What commands and jobs report, as a JSON document for programs and as text for people, made of
//! the values that engine, jobs and vault return. Nothing here knows the command line or the
//! terminal, nor does any work of its own: a web page or a scheduler reports in the same words.

pub mod against_disk;
pub mod diff;
pub mod disks;
pub mod doctor;
pub mod error;
pub mod job;
pub mod jobs;
pub mod list;
pub mod mirror;
pub mod restore;
mod schema;
pub mod show;
pub mod snapshot;
mod text;
pub mod thaw;
pub mod track;
pub mod vault;
pub mod verify;

pub use schema::schema;

use crate::model::exit::{BELOW, DONE};
use crate::model::printable::one_line;
use serde_json::{Value, json};

/// What a command, or a job, has to report.
pub struct Report {
    /// For programs.
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
        if let Value::Object(document) = &mut self.json {
            let warnings = document.entry("warnings").or_insert_with(|| json!([]));
            if let Value::Array(warnings) = warnings {
                warnings.push(json!(warning));
            }
        }
        let verdict = self.text.trim_end().rfind('\n').map_or(0, |end| end + 1);
        self.text
            .insert_str(verdict, &format!("warning: {}\n", one_line(warning)));
        if self.code == DONE {
            self.code = BELOW;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
