//! Where activation writes on this host, and that one process does at a time.

use super::super::args::Common;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{FileLock, open_run_dir};
use crate::plan::PlanFolder;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Who only looks has the lock for no longer.
const SHORT: Duration = Duration::from_secs(1);

/// Where activation writes.
pub struct ClientPlaces {
    /// The folder of settings, with keys and credentials.
    pub folder: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// The note of what was written.
    pub note: PathBuf,
    /// A folder in memory.
    pub run_dir: PathBuf,
    /// The files of plans.
    pub plans: PlanFolder,
}

impl ClientPlaces {
    /// As options, environment and custom say.
    pub fn of(common: &Common) -> Result<Self> {
        let place = common.config_place();
        let whole = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| Error::io("name", &path, error))
        };
        let folder = whole(place.folder().to_owned())?;
        Ok(Self {
            plans: PlanFolder::within(&folder),
            config: whole(place.path())?,
            note: whole(common.client_note.clone())?,
            run_dir: common.run_dir.clone(),
            folder,
        })
    }

    /// The right to change what activation writes, until it is dropped.
    ///
    /// # Errors
    /// `Busy`: another process has it.
    pub fn lock(&self) -> Result<FileLock> {
        open_run_dir(&self.run_dir)?;
        let lock = FileLock::take(&self.run_dir.join("client.lock"), SHORT, &|| Ok(()))?;
        lock.ok_or_else(|| {
            let what = "another `stillpoint client` is at work here; nothing was changed";
            Error::new(ErrorKind::Busy, what).with_hint("run it again when that one has ended")
        })
    }

    /// Whether another process has that right.
    pub fn is_locked(&self) -> bool {
        let path = self.run_dir.join("client.lock");
        path.exists() && matches!(FileLock::try_take(&path), Ok(None))
    }

    /// That others cannot put keys into the folder of settings, or rename them. It may be missing.
    ///
    /// # Errors
    /// They can.
    pub fn check_folder(&self) -> Result<()> {
        let found = match fs::metadata(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.io_context("look at", &self.folder)?,
        };
        let owner = nix::unistd::geteuid().as_raw();
        if found.is_dir() && found.uid() == owner && found.mode() & 0o022 == 0 {
            return Ok(());
        }
        let path = self.folder.display();
        let what = format!("{path}: others than root can write to it; nothing was changed");
        Err(Error::new(ErrorKind::Usage, what)
            .with_hint(format!("chown root: {path} && chmod 0755 {path}")))
    }
}
