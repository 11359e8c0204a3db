//! What is installed on instances: a package or a program, known by its first bytes and sent with
//! its SHA-256. It must never be judged by its name.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use crate::sys::plain;
use nix::fcntl::OFlag;
use ring::digest::{Context, SHA256};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A longer one is none of ours.
const MOST_BYTES: u64 = 1 << 30;
/// The kinds by their first bytes: deb(5), rpm's lead, gzip (RFC 1952), ELF (elf(5)).
const KINDS: [(&[u8], PackageKind); 4] = [
    (b"!<arch>\ndebian-binary", PackageKind::Deb),
    (b"\xed\xab\xee\xdb", PackageKind::Rpm),
    (b"\x1f\x8b", PackageKind::Tarball),
    (b"\x7fELF", PackageKind::Program),
];

/// What is installed on instances.
#[derive(Clone, Debug)]
pub struct FleetPackage {
    /// Where it is here.
    pub path: PathBuf,
    pub(super) kind: PackageKind,
    /// How long it is.
    pub bytes: Bytes,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// How it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackageKind {
    Deb,
    Rpm,
    /// With a program `stillpoint` in it.
    Tarball,
    /// The program itself.
    Program,
}

impl FleetPackage {
    /// Reads it once.
    ///
    /// # Errors
    /// It cannot be read, or is no package.
    pub fn read(path: &Path) -> Result<Self> {
        // A link is followed: what is installed is named by its hash from here on.
        let real = path.canonicalize().io_context("find the package", path)?;
        let mut file = plain::open(&real, OFlag::O_RDONLY).io_context("open the package", path)?;
        let stat = file.metadata().io_context("look at", path)?;
        let me = nix::unistd::geteuid().as_raw();
        if ![0, me].contains(&stat.uid()) || stat.mode() & 0o022 != 0 {
            let what = format!(
                "{}: others can write to it: nothing was done",
                path.display()
            );
            return Err(Error::new(ErrorKind::Usage, what)
                .with_hint("root runs it on each instance: keep it where you alone can write"));
        }
        let mut sum = Context::new(&SHA256);
        let (mut buffer, mut start) = (vec![0; 64 << 10], Vec::new());
        let mut length = 0;
        loop {
            let count = file.read(&mut buffer).io_context("read", path)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if start.len() < 64 {
                start.extend(bytes.iter().take(64));
            }
            sum.update(bytes);
            length += count as u64;
            if length > MOST_BYTES {
                return Err(refused(path));
            }
        }
        let kind = KINDS.iter().find(|(magic, _)| start.starts_with(magic));
        let (_, kind) = kind.ok_or_else(|| refused(path))?;
        Ok(Self {
            path: real,
            kind: *kind,
            bytes: Bytes(length),
            sha256: hex::encode(sum.finish()),
        })
    }
}

fn refused(path: &Path) -> Error {
    let what = format!(
        "{} is neither a .deb nor a .rpm, nor a .tar.gz or a program: nothing was done",
        path.display()
    );
    Error::new(ErrorKind::Usage, what).with_hint("`scripts/package` makes all of them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_package_is_known_by_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stillpoint.deb");
        for (bytes, kind) in [
            (&b"!<arch>\ndebian-binary   1"[..], Some(PackageKind::Deb)),
            (b"\xed\xab\xee\xdb\x03", Some(PackageKind::Rpm)),
            (b"\x1f\x8b\x08", Some(PackageKind::Tarball)),
            (b"\x7fELF\x02", Some(PackageKind::Program)),
            (b"#!/bin/sh\n", None),
            (b"!<arch>\n", None),
            (b"", None),
        ] {
            fs::write(&path, bytes).unwrap();
            let read = FleetPackage::read(&path);
            assert_eq!(
                read.as_ref().ok().map(|package| package.kind),
                kind,
                "{bytes:?}"
            );
        }
        fs::write(&path, b"\x7fELF").unwrap();
        let package = FleetPackage::read(&path).unwrap();
        // printf '\\177ELF' | sha256sum
        let sum = "3bdbb4fe8397cd2b842430b39ccff01a8663c751945ef5e9a09e267fb8b1d359";
        assert_eq!(package.sha256, sum);
        assert_eq!(package.bytes, Bytes(4));
        assert!(FleetPackage::read(Path::new("/dev/null")).is_err());
    }
}
