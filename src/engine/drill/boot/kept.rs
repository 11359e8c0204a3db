//! What was seen of a machine, kept on this host: its console's log and a picture of its screen, in
//! a folder for each drill. They may hold what only root may know. Old ones go.

use crate::error::{ErrorKind, IoContext, Result};
use crate::format::KeptDigest;
use crate::model::SnapshotId;
use crate::store::make_private;
use jiff::Timestamp;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Of so many drills it is kept.
const MOST_KEPT: usize = 16;
const CONSOLE: &str = "console.log";
/// What a picture may be called.
const SCREENS: [&str; 2] = ["screen.png", "screen.ppm"];

/// What was seen.
#[derive(Default)]
pub(super) struct SeenMachine {
    pub console: String,
    pub picture: Option<Picture>,
}

/// A picture of a screen.
pub(super) struct Picture {
    pub bytes: Vec<u8>,
    /// `png` or `ppm`.
    pub ending: &'static str,
}

impl SeenMachine {
    /// What the record says of the log.
    pub(super) fn console_digest(&self) -> KeptDigest {
        KeptDigest::of(self.console.as_bytes())
    }

    /// What the record says of the picture.
    pub(super) fn screen_digest(&self) -> Option<KeptDigest> {
        self.picture.as_ref().map(|one| KeptDigest::of(&one.bytes))
    }

    /// Puts it into a folder of its own below `parent`; which.
    pub(super) fn keep(&self, parent: &Path) -> Result<PathBuf> {
        make_place(parent)?;
        clear(parent);
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let folder = parent.join(SnapshotId::generate(now).to_string());
        make_private(&folder)?;
        put(&folder.join(CONSOLE), self.console.as_bytes())?;
        if let Some(picture) = &self.picture {
            put(
                &folder.join(format!("screen.{}", picture.ending)),
                &picture.bytes,
            )?;
        }
        Ok(folder)
    }
}

/// Makes the folder that all these folders are in, if that is not there.
///
/// # Errors
/// `Usage`: it cannot be made, or others can read or change it.
pub(super) fn make_place(parent: &Path) -> Result<()> {
    make_private(parent).map_err(|error| {
        error
            .with_kind(ErrorKind::Usage)
            .with_hint("name another folder with --keep, or have it be its owner's alone")
    })
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(bytes));
    written.io_context("write", path)
}

/// Takes away the oldest folders of ours, with the files that we put there and nothing else.
fn clear(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut ours: Vec<String> = names
        .filter(|name| name.parse::<SnapshotId>().is_ok())
        .collect();
    ours.sort();
    let over = ours.len().saturating_sub(MOST_KEPT - 1);
    for name in ours.iter().take(over) {
        let folder = parent.join(name);
        for file in SCREENS.into_iter().chain([CONSOLE]) {
            let _ = fs::remove_file(folder.join(file));
        }
        let _ = fs::remove_dir(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn old_ones_go_and_nothing_else_does() {
        let parent = tempfile::tempdir().unwrap();
        let keep = parent.path().join("drills");
        let seen = SeenMachine {
            console: "login:\n".into(),
            picture: Some(Picture {
                bytes: b"picture".to_vec(),
                ending: "png",
            }),
        };
        let first = seen.keep(&keep).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&first), mode(&first.join(CONSOLE))], [0o700, 0o600]);
        // Names of one millisecond are in no order.
        let then = Timestamp::now().as_millisecond();
        while Timestamp::now().as_millisecond() == then {}
        fs::write(keep.join("another"), "x").unwrap();
        fs::write(first.join("another"), "x").unwrap();
        for _ in 0..MOST_KEPT + 3 {
            let folder = seen.keep(&keep).unwrap();
            assert_eq!(fs::read(folder.join("screen.png")).unwrap(), b"picture");
        }
        // The first one holds a file of somebody else's.
        assert!(!first.join(CONSOLE).exists() && first.join("another").exists());
        assert!(keep.join("another").exists());
        assert!(fs::read_dir(&keep).unwrap().count() <= MOST_KEPT + 2);
    }
}
