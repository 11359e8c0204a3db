//! What is known of a place that was tried: a row for each thing that was tried or asked.

use crate::error::Error;
use crate::model::{LockRule, RequestCounts};
use std::time::Duration;

/// What was tried or asked, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRow {
    /// What it is, in a word that scripts may know.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub state: RowState,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Whether what was found will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowState {
    /// It is as it should be.
    Good,
    /// It may not be asked, or the store does not know the question.
    Unknown,
    /// A vault can be kept there, and this is the worse for it.
    Warning,
    /// No vault can be kept there.
    Bad,
}

/// What is known of a place.
#[derive(Debug, Default)]
pub struct StoreCheck {
    /// Where it is.
    pub location: String,
    /// What was found, in the order in which it was tried.
    pub rows: Vec<CheckRow>,
    /// The median time of a small request and its answer.
    pub round_trip: Option<Duration>,
    /// Lines for the configuration, with the settings that fit.
    pub settings: Vec<String>,
    /// How the vault that is there has what snapshots need locked; `None`: it does not.
    pub lock: Option<LockRule>,
    /// What could not be deleted.
    pub left_behind: Vec<String>,
    /// What all of it has asked.
    pub requests: Option<RequestCounts>,
}

impl StoreCheck {
    /// The worst of what was found.
    pub fn worst(&self) -> RowState {
        let states = self.rows.iter().map(|row| row.state);
        states.max().unwrap_or(RowState::Good)
    }

    /// The error of a check that was stopped: what is left is named.
    pub fn stopped(&self, error: Error) -> Error {
        if self.left_behind.is_empty() {
            return error.and_said("nothing was left behind");
        }
        let (place, left) = (&self.location, self.left_behind.join(", "));
        error
            .and_said("not all that was put could be deleted")
            .with_hint(format!("delete what is left below {place}: {left}"))
    }

    /// Adds what was found.
    pub(super) fn row(&mut self, name: &'static str, state: RowState, found: impl Into<String>) {
        let found = found.into();
        self.rows.push(CheckRow {
            name,
            state,
            found,
            remedy: None,
        });
    }

    /// Adds what is as it should be.
    pub(super) fn good(&mut self, name: &'static str, found: impl Into<String>) {
        self.row(name, RowState::Good, found);
    }

    /// The last row has this remedy.
    pub(super) fn remedy(&mut self, remedy: impl Into<String>) {
        if let Some(row) = self.rows.last_mut() {
            row.remedy = Some(remedy.into());
        }
    }

    /// A row of what failed; its hint is the remedy.
    pub(super) fn failed(&mut self, name: &'static str, state: RowState, error: &Error) {
        self.row(name, state, error.to_string());
        if let Some(hint) = error.hint() {
            self.remedy(hint);
        }
    }

    /// Whether a row of this name is bad.
    pub(super) fn is_bad(&self, name: &str) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.name == name && row.state == RowState::Bad)
    }
}
