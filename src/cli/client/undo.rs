//! Taking back what an activation has done that failed, the last first. What cannot be taken back
//! is told, and the note of it stays.

use super::super::args::{Common, PlanAction, PlanArgs, PlanNameArgs};
use super::super::plan::{self, Dispatch};
use super::places::ClientPlaces;
use crate::client::{ClientNote, standing};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{put_file, remove_file};
use crate::plan::PlanName;
use crate::report::Report;
use serde_json::Value;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A thing that was done.
pub enum DoneThing {
    /// A file was put.
    File(DoneFile),
    /// A folder was made.
    Folder(PathBuf),
    /// A plan was made.
    Plan(PlanName),
}

/// A file that was put.
pub struct DoneFile {
    /// Where it is.
    pub path: PathBuf,
    /// What stood there before; `None`: nothing.
    pub before: Option<Zeroizing<Vec<u8>>>,
    /// What was put.
    pub after: Zeroizing<Vec<u8>>,
    /// Who may read it.
    pub mode: u32,
}

/// What taking back needs.
pub struct UndoContext<'a> {
    /// The options of every command.
    pub common: &'a Common,
    /// What runs commands.
    pub dispatch: Dispatch,
    /// Where things are.
    pub places: &'a ClientPlaces,
    /// The note from before, whatever stands in it.
    pub before: Option<&'a [u8]>,
}

/// Takes all of it back, and returns what to say of that.
pub fn take_back(done: Vec<DoneThing>, context: &UndoContext<'_>) -> String {
    let mut stays = Vec::new();
    for one in done.into_iter().rev() {
        let name = one.name();
        if let Err(error) = one.take_back(context) {
            stays.push(format!("{name} ({error})"));
        }
    }
    if stays.is_empty() {
        let noted = match context.before {
            Some(before) => put_file(&context.places.note, before, 0o600),
            None => ClientNote::remove(&context.places.note).map(drop),
        };
        if let Err(error) = noted {
            stays.push(format!("the note of it ({error})"));
        }
    }
    match stays.is_empty() {
        true => "this host is as it was".into(),
        false => format!(
            "THIS STANDS and could not be taken back: {}; `stillpoint client deactivate` tries \
             again",
            stays.join(", ")
        ),
    }
}

impl DoneThing {
    fn name(&self) -> String {
        match self {
            Self::File(file) => file.path.display().to_string(),
            Self::Folder(path) => path.display().to_string(),
            Self::Plan(name) => format!("plan {name}"),
        }
    }

    fn take_back(self, context: &UndoContext<'_>) -> Result<()> {
        match self {
            // Somebody may use it by now.
            Self::Folder(path) => {
                let _ = std::fs::remove_dir(&path);
                Ok(())
            }
            Self::File(file) => file.take_back(),
            Self::Plan(name) => {
                let name = name.to_string();
                let delete = PlanArgs {
                    action: PlanAction::Delete(PlanNameArgs { name }),
                };
                let report = plan::run(&delete, context.common, context.dispatch)?;
                nothing_left(&report)
            }
        }
    }
}

/// An error where the units of a deleted plan are still there, or its timer may still run.
pub fn nothing_left(deleted: &Report) -> Result<()> {
    let warnings = deleted.json["warnings"].as_array();
    let warnings: Vec<&str> = warnings
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match warnings.is_empty() {
        true => Ok(()),
        false => {
            let what = format!("not all of the plan is gone: {}", warnings.join("; "));
            Err(Error::new(ErrorKind::Failed, what)
                .with_hint("is systemd well? `systemctl list-timers` shows what still runs"))
        }
    }
}

impl DoneFile {
    fn take_back(self) -> Result<()> {
        // What somebody has written meanwhile is his.
        if standing(&self.path)?.is_none_or(|there| there != self.after) {
            return Ok(());
        }
        match &self.before {
            Some(before) => put_file(&self.path, before, self.mode),
            None => remove_file(&self.path).io_context("remove", &self.path),
        }
    }
}
