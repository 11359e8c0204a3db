//! The files of plans, and the notes of their runs: whole files, put in place at once, that their
//! owner alone can read. It must never replace a file that it was not asked to.

use super::file::SnapshotPlan;
use super::name::{PlanId, PlanName};
use super::record::{MOST_BYTES, PlanRecord};
use crate::config::SettingsFile;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{
    FileLock, open_run_dir, put_file_beside_others, put_new_file_beside_others, read_note,
    remove_file,
};
use jiff::Timestamp;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most plans of a host.
pub const MOST_PLANS: usize = 256;
/// Nobody who only looks has the lock of a plan for so long.
const LOOKS_WITHIN: Duration = Duration::from_millis(200);
/// Names in the folder beyond so many plans are not read.
const MOST_ENTRIES: usize = 4 * MOST_PLANS;
/// The ending of a plan's file.
const ENDING: &str = "toml";
/// All of it is its owner's alone.
const MODE: u32 = 0o600;

/// The folder of the plans' files.
#[derive(Clone, Debug)]
pub struct PlanFolder(PathBuf);

impl PlanFolder {
    /// The one in a host's folder of settings.
    pub fn within(settings: &Path) -> Self {
        Self(settings.join("plans.d"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a plan.
    pub fn file(&self, name: &PlanName) -> PathBuf {
        self.0.join(format!("{name}.{ENDING}"))
    }

    /// That others than root cannot put plans there, or rename them.
    fn check(&self) -> Result<()> {
        let found = match fs::metadata(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.io_context("look at", &self.0)?,
        };
        if found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0 {
            return Ok(());
        }
        let path = self.0.display();
        let what = format!("{path}: others than root can write to it: no plan there is run");
        Err(Error::new(ErrorKind::Usage, what)
            .with_hint(format!("chown root: {path} && chmod 0755 {path}")))
    }

    /// The names of all plans, in order; none where there is no folder. A file whose name is none
    /// for a plan is an entry of its own: it was meant to be one.
    ///
    /// # Errors
    /// The folder cannot be read, or holds too many.
    pub fn names(&self) -> Result<Vec<Result<PlanName>>> {
        self.check()?;
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.io_context("list", &self.0)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.io_context("list", &self.0)?.path();
            let hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden || path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            found.push(path);
            if found.len() > MOST_ENTRIES {
                break;
            }
        }
        found.sort_by_cached_key(|path| path.file_stem().map(ToOwned::to_owned));
        let name = |path: &PathBuf| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = stem.parse::<PlanName>();
            name.map_err(|error| error.context(format!("the file {}", path.display())))
        };
        let mut names: Vec<Result<PlanName>> = found.iter().take(MOST_PLANS).map(name).collect();
        if found.len() > MOST_PLANS {
            let what = format!(
                "more than {MOST_PLANS} plans in {}: the others are not looked at",
                self.0.display()
            );
            names.push(Err(
                Error::new(ErrorKind::Usage, what).with_hint("remove some")
            ));
        }
        Ok(names)
    }

    /// The file of a plan, which is there, whatever stands in it.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub fn settings_path(&self, name: &PlanName) -> Result<PathBuf> {
        let path = self.file(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.no_plan(name)),
            other => other.map(|_| path.clone()).io_context("look at", &path),
        }
    }

    fn no_plan(&self, name: &PlanName) -> Error {
        let what = format!(
            "there is no plan {name}: no file {}",
            self.file(name).display()
        );
        Error::new(ErrorKind::NotFound, what).with_hint("`stillpoint plan list` lists them")
    }

    /// The file of a plan, as it is.
    ///
    /// # Errors
    /// `NotFound` where there is none; what cannot be read.
    pub fn settings(&self, name: &PlanName) -> Result<SettingsFile> {
        self.check()?;
        SettingsFile::read(&self.file(name))?.ok_or_else(|| self.no_plan(name))
    }

    /// A plan.
    ///
    /// # Errors
    /// As [`PlanFolder::settings`]; all that is wrong with it.
    pub fn plan(&self, name: &PlanName) -> Result<SnapshotPlan> {
        SnapshotPlan::of(name.clone(), &self.settings(name)?)
    }

    /// Writes the file of a new plan.
    ///
    /// # Errors
    /// `Exists` where there is one of that name.
    pub fn create(&self, name: &PlanName, text: &str) -> Result<()> {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o755).create(&self.0);
        made.io_context("make", &self.0)?;
        self.check()?;
        let there = self.names()?.len();
        if there >= MOST_PLANS {
            let what = format!("there are {there} plans, and {MOST_PLANS} at most");
            return Err(Error::new(ErrorKind::Usage, what).with_hint("delete one first"));
        }
        let path = self.file(name);
        put_new_file_beside_others(&path, text.as_bytes(), MODE).map_err(|error| {
            match error.kind() {
                ErrorKind::Exists => {
                    let what = format!("a plan {name} is there already: {}", path.display());
                    Error::new(ErrorKind::Exists, what).with_hint(format!(
                        "name it otherwise, or change it with `stillpoint plan modify {name}`"
                    ))
                }
                _ => error,
            }
        })
    }

    /// Writes the file of a plan that is there anew.
    ///
    /// # Errors
    /// It cannot be written; the old one is untouched.
    pub fn replace(&self, name: &PlanName, text: &str) -> Result<()> {
        let path = self.file(name);
        if let Ok(target) = fs::read_link(&path) {
            let what = format!("{} is a link to {}", path.display(), target.display());
            return Err(Error::new(ErrorKind::Usage, what)
                .with_hint("change that file: a link is not replaced"));
        }
        put_file_beside_others(&path, text.as_bytes(), MODE)
    }

    /// Removes the file of a plan.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &PlanName) -> Result<()> {
        let path = self.file(name);
        remove_file(&path).io_context("remove", &path)
    }
}

/// The folder of the notes of runs, which is this user's alone.
#[derive(Clone, Debug)]
pub struct PlanNotes(PathBuf);

impl PlanNotes {
    /// The one at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    fn note(&self, name: &PlanName) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Where its ID stands besides: an older version of the program drops it from the note.
    fn id_file(&self, name: &PlanName) -> PathBuf {
        self.0.join(format!("{name}.id"))
    }

    fn lock_file(&self, name: &PlanName) -> PathBuf {
        self.0.join(format!("{name}.lock"))
    }

    /// What is noted of a plan; `None`: nothing.
    ///
    /// # Errors
    /// A note is there and cannot be read.
    pub fn noted(&self, name: &PlanName) -> Result<Option<PlanRecord>> {
        let bytes = match read_note(&self.note(name), MOST_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        PlanRecord::decode(&bytes, name).map(Some)
    }

    /// Notes it. It outlasts a power cut.
    ///
    /// # Errors
    /// The folder is another user's, or cannot be written to.
    pub fn write(&self, name: &PlanName, record: &PlanRecord) -> Result<()> {
        let written = self.make().and_then(|()| {
            // First: a note whose ID was dropped is not known from one of before there were any.
            self.write_id(name, record.id.as_ref())?;
            put_file_beside_others(&self.note(name), &record.encode()?, MODE)
        });
        written.map_err(|error| {
            error
                .context(format!("nothing can be noted of plan {name}"))
                .with_hint("make room there, or name another folder with --plan-notes")
        })
    }

    /// The ID that a plan of which something is noted has had; `None`: none was ever noted.
    ///
    /// # Errors
    /// One was, and cannot be read.
    pub fn id(&self, name: &PlanName) -> Result<Option<PlanId>> {
        let path = self.id_file(name);
        let bytes = match read_note(&path, MOST_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let text = String::from_utf8_lossy(&bytes);
        text.trim().parse().map(Some).map_err(|why: String| {
            let what = format!("{}: {why}", path.display());
            Error::new(ErrorKind::Failed, what)
        })
    }

    fn write_id(&self, name: &PlanName, id: Option<&PlanId>) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        if matches!(self.id(name), Ok(Some(there)) if there == *id) {
            return Ok(());
        }
        put_file_beside_others(&self.id_file(name), format!("{id}\n").as_bytes(), MODE)
    }

    /// Notes that a plan's file is gone: what comes by its name later is another plan. Who runs it
    /// has read its file.
    ///
    /// # Errors
    /// The note cannot be read or written.
    pub fn note_gone(&self, name: &PlanName, now: Timestamp) -> Result<()> {
        let Some(_lock) = self.lock(name)? else {
            return Ok(());
        };
        match self.noted(name)? {
            Some(record) if record.gone_since.is_none() => {
                let gone_since = Some(now);
                self.write(
                    name,
                    &PlanRecord {
                        gone_since,
                        ..record
                    },
                )
            }
            _ => Ok(()),
        }
    }

    /// The right to run a plan, until it is dropped; `None` when somebody runs it.
    ///
    /// # Errors
    /// The folder is another user's, or cannot be written to.
    pub fn lock(&self, name: &PlanName) -> Result<Option<FileLock>> {
        self.make()?;
        // Who asks whether it is run has it for an instant.
        FileLock::take(&self.lock_file(name), LOOKS_WITHIN, &|| Ok(()))
    }

    /// Whether somebody runs a plan. Nothing is made for it.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn is_running(&self, name: &PlanName) -> Result<bool> {
        let path = self.lock_file(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.io_context("look at", &path)?,
        };
        // Another one that looks has it for an instant.
        Ok(FileLock::take(&path, LOOKS_WITHIN, &|| Ok(()))?.is_none())
    }

    /// The processes that run a plan, as far as they can be seen.
    pub fn runners(&self, name: &PlanName) -> Vec<u32> {
        FileLock::holders(&self.lock_file(name))
    }

    /// Forgets a plan. The lock stays: who waits for it must not get another one.
    ///
    /// # Errors
    /// Its note cannot be removed.
    pub fn forget(&self, name: &PlanName) -> Result<()> {
        // The note first: without one an ID counts for nothing.
        for path in [self.note(name), self.id_file(name)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.io_context("remove", &path)?,
            }
        }
        Ok(())
    }

    /// The plans of which something is noted, as far as that can be seen.
    pub fn names(&self) -> Vec<PlanName> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let names = entries.take(MOST_ENTRIES).filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        });
        let mut names: Vec<PlanName> = names.collect();
        names.sort();
        names
    }

    fn make(&self) -> Result<()> {
        open_run_dir(&self.0)
    }
}
