//! Where filesystems were mounted at the cut: what finds a path of the host in a snapshot again. A
//! path need not be text, so it is written with escapes. It must never be taken for whole: what is
//! too much is left out, and that is said.

use crate::sys::mountinfo::unescape;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a mount table calls the kernel's own filesystems, which hold no files.
const KERNELS_OWN: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// One place where a filesystem was mounted, in sight of the host's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// Where.
    pub target: EscapedPath,
    /// Which folder of the filesystem: `/`, or that of a bind mount or a subvolume.
    pub root: EscapedPath,
}

/// A place in the snapshot's filesystems over which something was mounted that it does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherMountRecord {
    /// Where.
    pub target: EscapedPath,
    /// Its type.
    #[serde(rename = "type")]
    pub fstype: String,
}

/// Whether a type is one of the kernel's own filesystems, which hold no files.
pub fn is_the_kernels_own(fstype: &str) -> bool {
    KERNELS_OWN.contains(&fstype)
}

/// A path as text: a backslash, and each byte that is no UTF-8, as a backslash and three octal
/// digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EscapedPath(String);

impl EscapedPath {
    /// The text for a path.
    pub fn new(path: &Path) -> Self {
        let mut text = String::new();
        let escape = |text: &mut String, bytes: &[u8]| {
            for byte in bytes {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\{byte:03o}");
            }
        };
        for chunk in path.as_os_str().as_bytes().utf8_chunks() {
            for (at, part) in chunk.valid().split('\\').enumerate() {
                if at > 0 {
                    escape(&mut text, b"\\");
                }
                text.push_str(part);
            }
            escape(&mut text, chunk.invalid());
        }
        Self(text)
    }

    /// The path.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(unescape(self.0.as_bytes())))
    }

    /// How long the text is.
    pub fn length(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    #[test]
    fn a_path_is_readable_text() {
        let path = Path::new(OsStr::from_bytes(b"/srv/\xff a\\b/\xc3\xa4"));
        let text = serde_json::to_value(EscapedPath::new(path)).unwrap();
        assert_eq!(text, "/srv/\\377 a\\134b/ä");
    }

    proptest! {
        #[test]
        fn no_path_loses_a_byte(bytes in any::<Vec<u8>>()) {
            let path = PathBuf::from(OsString::from_vec(bytes));
            let text = serde_json::to_string(&EscapedPath::new(&path)).unwrap();
            let back: EscapedPath = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.path(), path);
        }
    }
}
