//! The files that activation writes beside the configuration: key, credentials, certificates. One
//! that is not as activation has written it is somebody's: it is neither replaced nor removed.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{put_file, put_new_file, remove_file};
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A file of settings or keys is no longer than this.
const MOST: u64 = 256 << 10;

/// A file that activation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFile {
    /// The key of an encrypted vault.
    Key,
    /// The credentials for its store.
    Credentials,
    /// Certificates that are trusted.
    Certificates,
}

impl ClientFile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Key, Self::Credentials, Self::Certificates];

    /// Its name in a note and a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Credentials => "credentials",
            Self::Certificates => "certificates",
        }
    }

    /// Where it is for the vault of that name.
    pub fn path(self, folder: &Path, vault: &str) -> PathBuf {
        folder.join(match self {
            Self::Key => format!("{vault}.key"),
            Self::Credentials => format!("{vault}.s3.env"),
            Self::Certificates => format!("{vault}.ca.pem"),
        })
    }

    /// Who may read it.
    pub fn mode(self) -> u32 {
        match self {
            Self::Key | Self::Credentials => 0o600,
            Self::Certificates => 0o644,
        }
    }
}

/// What became of a file that was to be put.
#[derive(Debug, PartialEq, Eq)]
pub enum PlacedFile {
    /// It stood already.
    Kept,
    /// It is new.
    Made,
    /// It stands in the place of what activation had written before.
    Replaced(Zeroizing<Vec<u8>>),
}

/// What became of a file that was to be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenFile {
    /// There was none.
    Absent,
    /// It is gone.
    Taken,
    /// It was changed since, and stays.
    Left,
}

/// What tells two contents apart.
pub fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// What stands at a path; `None`: nothing. No link is followed.
///
/// # Errors
/// It is no plain file, too long, or cannot be read.
pub fn standing(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match plain::open(path, OFlag::O_RDONLY) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            let what = format!("{} is a link, or no plain file", path.display());
            return Err(Error::new(ErrorKind::Exists, what).with_hint(
                "no link is followed, nor replaced: put a plain file there; a configuration that \
                 lies elsewhere is named with --config",
            ));
        }
        other => other.io_context("open", path)?,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .io_context("read", path)?;
    match bytes.len() as u64 > MOST {
        true => Err(foreign(path)),
        false => Ok(Some(bytes)),
    }
}

fn foreign(path: &Path) -> Error {
    let what = format!(
        "{} is there, and not as activation has written it",
        path.display()
    );
    Error::new(ErrorKind::Exists, what).with_hint(
        "move it away if nothing needs it; or make a token with another --name for the vault",
    )
}

/// Puts a file that activation writes, if nothing stands there, or what has one of the hashes
/// `ours`.
///
/// # Errors
/// `Exists`: somebody else's file is there. It cannot be written; nothing was changed.
pub fn place(path: &Path, new: FileToPut<'_>, ours: &[String]) -> Result<PlacedFile> {
    clear_draft(path);
    let Some(there) = standing(path)? else {
        put_new_file(path, new.bytes, new.mode)?;
        return Ok(PlacedFile::Made);
    };
    if *there == new.bytes {
        return Ok(PlacedFile::Kept);
    }
    if !ours.contains(&hash_of(&there)) {
        return Err(foreign(path));
    }
    put_file(path, new.bytes, new.mode)?;
    Ok(PlacedFile::Replaced(there))
}

/// A file to be put.
#[derive(Clone, Copy)]
pub struct FileToPut<'a> {
    /// What is to stand in it.
    pub bytes: &'a [u8],
    /// Who may read it.
    pub mode: u32,
}

/// Removes what one that was killed has left beside a file.
fn clear_draft(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let _ = remove_file(&path.with_file_name(format!(".{name}.new")));
}

/// Takes away a file, if it has one of the hashes `ours`, and what a run that was killed has left
/// beside it.
///
/// # Errors
/// It cannot be looked at or removed.
pub fn take_away(path: &Path, ours: &[String]) -> Result<TakenFile> {
    clear_draft(path);
    let there = match standing(path) {
        Ok(None) => return Ok(TakenFile::Absent),
        Ok(Some(there)) => there,
        // A link, or something else that activation never makes.
        Err(_) if path.symlink_metadata().is_ok() => return Ok(TakenFile::Left),
        Err(error) => return Err(error),
    };
    if !ours.contains(&hash_of(&there)) {
        return Ok(TakenFile::Left);
    }
    remove_file(path).io_context("remove", path)?;
    Ok(TakenFile::Taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn new(bytes: &[u8]) -> FileToPut<'_> {
        FileToPut { bytes, mode: 0o600 }
    }

    #[test]
    fn what_is_somebody_elses_is_neither_replaced_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = ClientFile::Key.path(folder.path(), "main");
        assert!(path.ends_with("main.key"));
        let ours = [hash_of(b"one")];
        assert_eq!(place(&path, new(b"one"), &[]).unwrap(), PlacedFile::Made);
        assert_eq!(place(&path, new(b"one"), &[]).unwrap(), PlacedFile::Kept);
        let replaced = place(&path, new(b"two"), &ours).unwrap();
        assert_eq!(replaced, PlacedFile::Replaced(b"one".to_vec().into()));
        // Now it is as nobody has noted.
        let error = place(&path, new(b"three"), &ours).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(take_away(&path, &ours).unwrap(), TakenFile::Left);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::write(folder.path().join(".main.key.new"), "left").unwrap();
        assert!(place(&path, new(b"two"), &[]).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let now = [hash_of(b"two")];
        assert_eq!(take_away(&path, &now).unwrap(), TakenFile::Taken);
        assert_eq!(take_away(&path, &now).unwrap(), TakenFile::Absent);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "one").unwrap();
        symlink(&target, &link).unwrap();
        let ours = [hash_of(b"one")];
        assert!(place(&link, new(b"two"), &ours).is_err());
        assert_eq!(take_away(&link, &ours).unwrap(), TakenFile::Left);
        assert_eq!(fs::read(&target).unwrap(), b"one");
    }
}
