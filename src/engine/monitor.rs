//! How the engine reports what it does, and learns that it shall stop. It never prints by itself.

use super::restore::Overwritten;
use super::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Cancel, RequestCounts};

/// Something worth reporting. Nothing is reported while anything is frozen.
#[derive(Clone, Debug)]
pub enum Event {
    /// What is being done now.
    Phase(RunPhase),
    /// How far it is.
    Progress {
        /// Bytes done.
        done: Bytes,
        /// Bytes there are to do, as far as is known.
        total: Bytes,
    },
    /// What was asked of the vault by the whole run, told at its end, also when it failed.
    Asked(RequestCounts),
    /// Something that the user should know.
    Warning(String),
    /// What a hook of the operator's has printed, a line or several.
    Said(String),
    /// A detail, for those who ask for details.
    Note(String),
}

/// Who listens to the engine.
pub trait Monitor: Cancel {
    /// Takes an event; must return soon and must not fail.
    fn tell(&self, event: Event);

    /// Whether what is on these devices may be overwritten; an error when not.
    fn confirm(&self, lost: &[Overwritten]) -> Result<()> {
        Err(refused_to_overwrite(lost))
    }
}

/// The error that names what would have been lost.
pub fn refused_to_overwrite(lost: &[Overwritten]) -> Error {
    let each = lost.iter().map(|one| {
        let (target, device) = (one.target.display(), &one.device);
        format!("{target} ({device}) holds {}", one.holds.join("; "))
    });
    let each: Vec<String> = each.collect();
    let what = format!(
        "{}: this would be lost; nothing was written",
        each.join(" | ")
    );
    Error::new(ErrorKind::Usage, what).with_hint("add --yes if it may be overwritten")
}

/// Ignores what is reported, and never stops a run.
pub struct Silent;

impl Monitor for Silent {
    fn tell(&self, _: Event) {}
}

impl Cancel for Silent {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}
