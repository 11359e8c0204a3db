//! What a command answers: the same in JSON and in text.

use super::exit::{BELOW, DONE};
use serde_json::Value;

/// What a command answers.
pub struct Outcome {
    /// For programs.
    pub json: Value,
    /// For people; the last line is the verdict.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

impl Outcome {
    /// Done as asked.
    pub fn done(json: Value, text: impl Into<String>) -> Self {
        Self {
            json,
            text: text.into(),
            code: DONE,
        }
    }

    /// Done, but below what was asked, when `below`.
    #[must_use]
    pub fn below(mut self, below: bool) -> Self {
        if below {
            self.code = BELOW;
        }
        self
    }
}
