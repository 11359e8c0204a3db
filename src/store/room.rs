//! How much room there is where a vault is: on the filesystem of its directory. Of a store at the
//! other end of a network nobody can tell.

use super::vault::Vault;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use nix::sys::stat::fstat;
use nix::sys::statvfs::fstatvfs;
use std::fs::File;

/// The room on a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultRoom {
    /// How much it is in all.
    pub all: Bytes,
    /// How much anyone may still use.
    pub free: Bytes,
    /// How many files may still be made; `None`: it has no such limit.
    pub free_files: Option<u64>,
}

impl Vault {
    /// The room on the filesystem that the vault's directory is on; `None`: it is in none, or its
    /// filesystem does not say. It is everybody's who writes there, and may have a quota that
    /// nobody sees here.
    pub fn room(&self) -> Result<Option<VaultRoom>> {
        let Some(directory) = self.store.directory() else {
            return Ok(None);
        };
        let path = &directory.path;
        let opened = File::open(path).io_context("look at", path)?;
        let found = fstat(&opened).io_context("look at", path)?;
        if (found.st_dev, found.st_ino) != directory.root {
            let what = format!(
                "another directory has taken the place of the vault {}",
                path.display()
            );
            return Err(Error::new(ErrorKind::Busy, what)
                .with_hint("see what was mounted or moved there, and run it again"));
        }
        Ok(VaultRoom::on(&opened))
    }
}

impl VaultRoom {
    /// On the filesystem of a file. Some network filesystems fail here, or say that all is 0: of
    /// these nobody can tell.
    fn on(opened: &File) -> Option<Self> {
        let room = fstatvfs(opened).ok().filter(|room| room.blocks() > 0)?;
        let bytes = |blocks: u64| Bytes(blocks.saturating_mul(room.fragment_size()));
        Some(Self {
            all: bytes(room.blocks()),
            free: bytes(room.blocks_available()),
            // btrfs and some others have as many as there is room for, and say that it is none.
            free_files: (room.files() > 0).then(|| room.files_available()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_that_says_nothing_is_not_a_full_one() {
        // It says 0 of everything.
        assert_eq!(VaultRoom::on(&File::open("/proc").unwrap()), None);
        let room = VaultRoom::on(&File::open("/").unwrap()).unwrap();
        assert!(room.all > Bytes(0) && room.free <= room.all);
    }
}
