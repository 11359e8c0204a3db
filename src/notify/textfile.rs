//! The file for node_exporter's textfile collector: as a whole or not at all, for all to read. The
//! folder may be another user's: it is opened once, without following a link, and what is made
//! there is new.

use crate::error::{Error, ErrorKind, IoContext, Result};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The file's name.
pub const METRICS_FILE: &str = "stillpoint.prom";

/// Puts the text into the folder.
///
/// # Errors
/// The folder is not there, is reached by a link, or cannot be written to.
pub fn put_metrics(folder: &Path, text: &str) -> Result<()> {
    let within = open_folder(folder)?;
    // The collector reads what ends in .prom.
    let aside = format!(".{METRICS_FILE}.new");
    let path = folder.join(METRICS_FILE);
    let put = write(&within, &aside, text)
        .and_then(|()| renameat(&within, aside.as_str(), &within, METRICS_FILE).map_err(Into::into))
        .io_context("write", &path);
    if put.is_err() {
        let _ = unlinkat(&within, aside.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    put
}

fn open_folder(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, folder, how).map_err(|errno| {
        let error = Error::io("open the folder of metrics", folder, errno.into());
        match errno {
            nix::errno::Errno::ELOOP => error
                .with_kind(ErrorKind::Usage)
                .with_hint("there is a link in its path, and none is followed: name it without"),
            _ => error,
        }
    })
}

fn write(folder: &OwnedFd, name: &str, text: &str) -> std::io::Result<()> {
    // Left by a process that was killed at this very point. One process at a time tells.
    let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let made = openat(
        folder,
        name,
        flags | OFlag::O_CLOEXEC,
        Mode::from_bits_truncate(0o600),
    )?;
    let mut file = File::from(made);
    file.write_all(text.as_bytes())?;
    // Whatever the umask says.
    fchmod(&file, Mode::from_bits_truncate(0o644))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn the_file_is_whole_readable_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let folder = dir.join("metrics");
        let missing = put_metrics(&folder, "x 1\n").unwrap_err();
        assert!(missing.to_string().contains("metrics"), "{missing}");
        fs::create_dir(&folder).unwrap();
        put_metrics(&folder, "x 1\n").unwrap();
        let path = folder.join(METRICS_FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o644);
        // A link in the file's place is replaced, and what it leads to is untouched.
        let victim = dir.join("victim");
        fs::write(&victim, "whole").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        let aside = folder.join(format!(".{METRICS_FILE}.new"));
        symlink(&victim, &aside).unwrap();
        put_metrics(&folder, "x 2\n").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "whole");
        assert_eq!(fs::read_to_string(&path).unwrap(), "x 2\n");
        assert!(!path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        // Nor one in the folder's path.
        symlink(&folder, dir.join("link")).unwrap();
        let refused = put_metrics(&dir.join("link"), "x 3\n").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
        // What is in the way is told, and nothing is left behind.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(put_metrics(&folder, "x 4\n").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
