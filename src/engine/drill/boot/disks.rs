//! The disks of a machine that is made of a snapshot: which one it boots from, by which firmware,
//! and each of them served to QEMU alone, with what it writes going to a file without a name.

use super::options::{BootFirmware, BootOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{ChunkPool, Image, NbdDisk, Overlay, PairedServer};
use crate::format::{DiskRecord, FilesystemRecord, Manifest};
use crate::model::{Bytes, Cancel};
use crate::restore::partitions;
use crate::store::Vault;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The beginning of a disk, in which its table is.
const HEAD: u64 = 1 << 20;
/// How long reading that may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Where a boot loader's files are mounted, the surest first.
const BOOT_PLACES: [&str; 4] = ["/boot/efi", "/efi", "/boot", "/"];

/// Which firmware a disk is made for.
pub(super) struct MadeFor {
    pub firmware: BootFirmware,
    /// Whether it may be that of a machine that starts by a BIOS all the same.
    pub or_bios: bool,
}

/// A snapshot's disks, that from which its machine boots first.
pub(super) struct MachineDisks<'a> {
    vault: &'a Arc<Vault>,
    /// That from which it boots.
    pub system: &'a DiskRecord,
    /// All of them.
    pub disks: Vec<&'a DiskRecord>,
}

impl<'a> MachineDisks<'a> {
    /// Puts them in order.
    ///
    /// # Errors
    /// `Unsupported`: more than the machine may have.
    pub(super) fn of(
        vault: &'a Arc<Vault>,
        manifest: &'a Manifest,
        options: &BootOptions,
    ) -> Result<Self> {
        let mut disks: Vec<&DiskRecord> = manifest.disks.iter().collect();
        let most = options.bus.most();
        if disks.len() > most {
            let what = format!(
                "the snapshot has {} disks, and a machine may have {most} of this kind here",
                disks.len()
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let at = system_disk(&disks);
        let Some(system) = disks.get(at).copied() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the snapshot has no disk",
            ));
        };
        disks[..=at].rotate_right(1);
        Ok(Self {
            vault,
            system,
            disks,
        })
    }

    /// What its table is made for.
    ///
    /// # Errors
    /// The vault cannot be read.
    pub(super) fn firmware(&self, cancel: &dyn Cancel) -> Result<MadeFor> {
        let disk = self.system;
        let on_disk = |error: Error| error.on_disk(&disk.identity.name);
        let image = Image::open(self.vault, disk, cancel).map_err(on_disk)?;
        let mut head = vec![0; image.size().0.min(HEAD) as usize];
        image
            .read_within(Bytes(0), &mut head, WITHIN)
            .map_err(on_disk)?;
        let found = partitions(&head, disk.identity.logical_block);
        // Where a BIOS begins (the rest of the sector is tables).
        let code = head.get(..440).unwrap_or_default();
        let has_code = code.iter().any(|byte| *byte != 0);
        Ok(match found.iter().any(|one| one.is_esp) {
            true => MadeFor {
                firmware: BootFirmware::Uefi,
                or_bios: has_code,
            },
            false => MadeFor {
                firmware: BootFirmware::Bios,
                or_bios: false,
            },
        })
    }

    /// Serves all of them, in their order.
    ///
    /// # Errors
    /// The vault cannot be read. `Usage`: there can be no file in the folder for what is written.
    pub(super) fn serve(
        &self,
        options: &BootOptions,
        cancel: &dyn Cancel,
    ) -> Result<Vec<PairedServer>> {
        let pool = Arc::new(ChunkPool::new(self.vault));
        let serve = |disk: &&DiskRecord| {
            let name = &disk.identity.name;
            let image = Image::open_in(&pool, self.vault, disk, cancel);
            let image = image.map_err(|error| error.on_disk(name))?;
            let overlay = Overlay::nameless(&options.work, image.size(), options.room);
            PairedServer::start(NbdDisk {
                name: name.clone(),
                description: String::new(),
                image,
                overlay: Some(overlay.map_err(|error| {
                    error
                        .with_kind(ErrorKind::Usage)
                        .with_hint("name another folder with --work")
                })?),
            })
        };
        self.disks.iter().map(serve).collect()
    }
}

/// The disk with what a boot loader needs, by where that was mounted; else the first one.
fn system_disk(disks: &[&DiskRecord]) -> usize {
    let has = |disk: &DiskRecord, place: &str| {
        let is_there = |filesystem: &FilesystemRecord| {
            let mounts = filesystem.mounts.as_deref().unwrap_or_default();
            let mut targets = mounts.iter().map(|mount| mount.target.path());
            filesystem.target == place || targets.any(|target| target == Path::new(place))
        };
        disk.filesystems.iter().any(is_there)
    };
    let mut places = BOOT_PLACES.iter();
    let found = places.find_map(|place| disks.iter().position(|disk| has(disk, place)));
    found.unwrap_or(0)
}
