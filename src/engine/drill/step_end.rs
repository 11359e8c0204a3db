//! What came of a step of a drill: only what was tried and is right has passed, only what was tried
//! and is wrong has failed.

use crate::format::DrillOutcome;
use crate::hooks::ProgramEnd;

/// The longest end of what a program said that is kept.
const SAID: usize = 500;

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepEnd {
    pub outcome: DrillOutcome,
    pub said: String,
}

impl StepEnd {
    pub(super) fn passed(said: impl Into<String>) -> Self {
        Self::new(DrillOutcome::Passed, said)
    }

    pub(super) fn failed(said: impl Into<String>) -> Self {
        Self::new(DrillOutcome::Failed, said)
    }

    pub(super) fn not_done(said: impl Into<String>) -> Self {
        Self::new(DrillOutcome::NotDone, said)
    }

    fn new(outcome: DrillOutcome, said: impl Into<String>) -> Self {
        let said = said.into();
        Self { outcome, said }
    }

    /// The same, but nobody knows, for this reason.
    #[must_use]
    pub(super) fn in_doubt(self, why: &str) -> Self {
        Self::not_done(format!("{why}: {}", self.said))
    }
}

/// How a program ended, and the last that it said.
pub(super) fn said_by(end: &ProgramEnd) -> String {
    match end.output.trim() {
        "" => end.how.clone(),
        output => format!("{}: {}", end.how, tail(output)),
    }
}

/// The end of a text, at the beginning of a line where it can be.
pub(super) fn tail(text: &str) -> String {
    let text = text.trim();
    let start = text.len().saturating_sub(SAID);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at));
    let end = text.get(start.unwrap_or(0)..).unwrap_or_default();
    match (end.len() < text.len(), end.split_once('\n')) {
        (true, Some((_, lines))) => lines.trim().to_owned(),
        _ => end.to_owned(),
    }
}
