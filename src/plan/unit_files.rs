//! The files of a plan's units. It must never write over, or remove, a file that it has not
//! written: another program's, an administrator's, or the link of a unit that was masked.

use super::clock::HostClock;
use super::file::SnapshotPlan;
use super::name::PlanName;
use super::units::{UnitContext, UnitNames, first_line, service_text, timer_text};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::put_file_beside_others;
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No unit of ours is longer, in bytes.
const MOST: u64 = 64 << 10;
/// systemd and people read them.
const MODE: u32 = 0o644;

/// The folder of units.
#[derive(Clone, Debug)]
pub struct UnitFolder(PathBuf);

/// How a plan's units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// As the plan has them.
    Written,
    /// Ours, and of an earlier state of the plan, or one of the two is missing.
    Stale,
    /// There are none.
    Absent,
    /// Somebody else's file has the name of one.
    Foreign,
}

/// A plan's units, as they are to be.
#[derive(Clone, Debug)]
pub struct PlanUnits {
    name: PlanName,
    names: UnitNames,
    service: String,
    timer: String,
}

impl PlanUnits {
    /// Those of a plan.
    pub fn of(plan: &SnapshotPlan, clock: &HostClock, context: &UnitContext) -> Self {
        Self {
            name: plan.name.clone(),
            names: UnitNames::of(&plan.name),
            service: service_text(plan, context),
            timer: timer_text(plan, clock),
        }
    }

    /// Their names.
    pub fn names(&self) -> &UnitNames {
        &self.names
    }

    fn each(&self) -> [(&str, &str); 2] {
        [
            (&self.names.service, &self.service),
            (&self.names.timer, &self.timer),
        ]
    }
}

/// What stands at a unit's name.
enum UnitFound {
    Nothing,
    Ours(String),
    Others,
}

impl UnitFolder {
    /// The one at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// How the units are.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn state(&self, units: &PlanUnits) -> Result<UnitState> {
        let mut counts = [0; 2];
        for (name, text) in units.each() {
            match self.found(name, &units.name)? {
                UnitFound::Others => return Ok(UnitState::Foreign),
                UnitFound::Ours(there) if there == text => counts[0] += 1,
                UnitFound::Ours(_) => return Ok(UnitState::Stale),
                UnitFound::Nothing => counts[1] += 1,
            }
        }
        Ok(match counts {
            [2, 0] => UnitState::Written,
            [0, 2] => UnitState::Absent,
            _ => UnitState::Stale,
        })
    }

    /// Writes them. Nothing is written where one of the names is taken.
    ///
    /// # Errors
    /// `Exists` where somebody else's file has the name of one; the folder cannot be written to.
    pub fn write(&self, units: &PlanUnits) -> Result<()> {
        for (name, _) in units.each() {
            self.refuse_others(name, &units.name)?;
        }
        for (name, text) in units.each() {
            put_file_beside_others(&self.0.join(name), text.as_bytes(), MODE)?;
        }
        Ok(())
    }

    /// Refuses to go on where one of the names is taken by somebody else.
    ///
    /// # Errors
    /// `Exists`.
    pub fn refuse_foreign(&self, plan: &PlanName) -> Result<()> {
        let names = UnitNames::of(plan);
        self.refuse_others(&names.timer, plan)?;
        self.refuse_others(&names.service, plan)
    }

    /// Removes those of a plan. Returns whether there were any.
    ///
    /// # Errors
    /// `Exists` where somebody else's file has the name of one: it stays.
    pub fn remove(&self, plan: &PlanName) -> Result<bool> {
        let names = UnitNames::of(plan);
        let mut removed = false;
        // The timer first: a timer without its service would fail.
        for name in [&names.timer, &names.service] {
            self.refuse_others(name, plan)?;
            let path = self.0.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => {
                    other.io_context("remove", &path)?;
                    removed = true;
                }
            }
        }
        Ok(removed)
    }

    fn refuse_others(&self, name: &str, plan: &PlanName) -> Result<()> {
        if !matches!(self.found(name, plan)?, UnitFound::Others) {
            return Ok(());
        }
        let path = self.0.join(name);
        let what = format!("{} is not stillpoint's: it was left alone", path.display());
        Err(Error::new(ErrorKind::Exists, what)
            .with_hint("look at it; remove it, or name the plan otherwise"))
    }

    fn found(&self, name: &str, plan: &PlanName) -> Result<UnitFound> {
        let path = self.0.join(name);
        let file = match plain::open(&path, OFlag::O_RDONLY) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(UnitFound::Nothing);
            }
            // A link (a unit that is masked is one to /dev/null), a folder.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                return Ok(UnitFound::Others);
            }
            other => other.io_context("open", &path)?,
        };
        let mut bytes = Vec::new();
        let read = file.take(MOST + 1).read_to_end(&mut bytes);
        read.io_context("read", &path)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(match text.starts_with(&first_line(plan)) {
            true => UnitFound::Ours(text),
            false => UnitFound::Others,
        })
    }
}
