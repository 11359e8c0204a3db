//! The note of a pending postscript: written before the prescript is started, removed when the
//! postscript has been run. If engine and supervisor both die between the two, a later run finds
//! it. It is trusted no more than any file: what it names is judged again.

use crate::error::{Error, ErrorKind, Result};
use crate::helper::{ProcessStamp, read_note, write_note};
use crate::sys::machine::boot_id;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How the names of notes begin.
pub(super) const NOTES: &str = "hooks-";
const VERSION: u32 = 1;
/// No note is longer, in bytes; what it is made from came in one message, which is shorter.
const MAX_NOTE: u64 = 1 << 20;

/// A postscript that is still to be run, and the process that is to run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PendingNote {
    version: u32,
    boot_id: String,
    /// The process that runs it, as long as that is alive. Notes of earlier versions say `keeper`.
    #[serde(alias = "keeper")]
    pub(super) supervisor: ProcessStamp,
    #[serde(with = "crate::helper::path_bytes")]
    pub(super) postscript: PathBuf,
    pub(super) environment: Vec<(String, String)>,
    pub(super) timeout_ms: u64,
}

impl PendingNote {
    /// A note that this process is to run it.
    pub(super) fn new(
        postscript: &Path,
        environment: &[(String, String)],
        timeout_ms: u64,
    ) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            boot_id: boot_id()?,
            supervisor: ProcessStamp::of(std::process::id())?,
            postscript: postscript.to_owned(),
            environment: environment.to_vec(),
            timeout_ms,
        })
    }

    /// Writes it to `path`, in place of what may be there, wholly or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_note(path, self)
    }

    /// Whether it was written in the boot that `boot_id` names: a reboot ends whatever held
    /// applications.
    pub(super) fn is_of_boot(&self, boot_id: &str) -> bool {
        self.boot_id == boot_id
    }

    /// Reads a note that root alone can have written to `path`.
    ///
    /// # Errors
    /// `NotFound` when it is gone, `Damaged` when it is none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = read_note(path, MAX_NOTE)?;
        let no = |why: &str| {
            let message = format!("{} is no note of a postscript: {why}", path.display());
            let hint = format!("look at it; then: rm {}", path.display());
            Error::new(ErrorKind::Damaged, message).with_hint(hint)
        };
        let note: Self = serde_json::from_slice(&text).map_err(|error| no(&error.to_string()))?;
        match note.version {
            VERSION => Ok(note),
            _ => Err(no("it is of another version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_note_is_believed_only_where_root_alone_can_have_written_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hooks-1.json");
        let told = [("STILLPOINT_RUN".to_owned(), "x".to_owned())];
        let note = PendingNote::new(Path::new("/tmp/post"), &told, 5).unwrap();
        note.write(&path).unwrap();
        note.write(&path).unwrap();
        assert_eq!(PendingNote::read(&path).unwrap(), note);
        assert!(note.is_of_boot(&boot_id().unwrap()) && note.supervisor.is_alive());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let earlier = fs::read_to_string(&path).unwrap();
        fs::write(&path, earlier.replace("\"supervisor\"", "\"keeper\"")).unwrap();
        assert_eq!(PendingNote::read(&path).unwrap(), note);

        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(PendingNote::read(&link).is_err(), "a link was followed");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let open = PendingNote::read(&path).unwrap_err();
        assert_eq!(open.kind(), ErrorKind::Damaged, "{open}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&path, dir.path().join("second")).unwrap();
        assert!(PendingNote::read(&path).is_err());
        fs::remove_file(&path).unwrap();
        let gone = PendingNote::read(&path).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    }
}
