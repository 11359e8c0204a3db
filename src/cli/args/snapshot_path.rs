//! A path in a snapshot: `ID:PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A snapshot, and a path in it. The path need not be text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPath {
    /// The snapshot: its ID, the start of it, or latest.
    pub id: String,
    /// The path; `None`: none was given.
    pub path: Option<PathBuf>,
}

/// Of an argument. No ID has a colon in it: what follows the first one is the path.
pub fn snapshot_path(text: OsString) -> Result<SnapshotPath, String> {
    let bytes = text.into_vec();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (id, path) = bytes.split_at(colon.unwrap_or(bytes.len()));
    let id = match std::str::from_utf8(id) {
        Ok(id) if !id.is_empty() && !id.contains('/') => id.to_owned(),
        _ => return Err("give ID:PATH, as in latest:/etc/fstab".into()),
    };
    let path = path.strip_prefix(b":").map(OsStr::from_bytes);
    match path {
        Some(path) if path.is_empty() => Err("there is no path after the colon".into()),
        path => Ok(SnapshotPath {
            id,
            path: path.map(PathBuf::from),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_first_colon_is_the_path() {
        let parsed = |text: &[u8]| snapshot_path(OsStr::from_bytes(text).to_owned());
        let of = |id: &str, path: Option<&[u8]>| SnapshotPath {
            id: id.into(),
            path: path.map(|path| PathBuf::from(OsStr::from_bytes(path))),
        };
        assert_eq!(parsed(b"latest").unwrap(), of("latest", None));
        assert_eq!(parsed(b"01KA:/a:b").unwrap(), of("01KA", Some(b"/a:b")));
        assert_eq!(parsed(b"01KA:/\xff").unwrap(), of("01KA", Some(b"/\xff")));
        assert_eq!(parsed(b"01KA:etc").unwrap(), of("01KA", Some(b"etc")));
        for bad in [&b":/etc"[..], b"", b"/etc/fstab", b"\xff:/etc", b"01KA:"] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
