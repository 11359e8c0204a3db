//! What machine a drill boots, and what of this host it may take.

use crate::error::{Error, ErrorKind};
use crate::model::Bytes;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What starts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFirmware {
    /// `SeaBIOS`
    Bios,
    /// OVMF
    Uefi,
}

impl BootFirmware {
    /// Its name in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

impl fmt::Display for BootFirmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        })
    }
}

impl FromStr for BootFirmware {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        let all = [Self::Bios, Self::Uefi];
        let known = all.into_iter().find(|one| one.word() == word);
        known.ok_or_else(|| Error::new(ErrorKind::Usage, "it is bios or uefi"))
    }
}

/// How the machine sees its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootDiskBus {
    /// virtio-blk
    Virtio,
    /// virtio-scsi
    Scsi,
    /// AHCI
    Sata,
    /// `NVMe`
    Nvme,
}

impl BootDiskBus {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Scsi => "scsi",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
        }
    }

    /// Most disks that it takes.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Sata => 6,
            _ => 16,
        }
    }
}

impl FromStr for BootDiskBus {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        let all = [Self::Virtio, Self::Scsi, Self::Sata, Self::Nvme];
        let known = all.into_iter().find(|one| one.word() == word);
        known.ok_or_else(|| Error::new(ErrorKind::Usage, "it is virtio, scsi, sata or nvme"))
    }
}

/// A machine that is to be booted.
#[derive(Clone, Debug)]
pub struct BootOptions {
    /// What starts it; `None`: what its disks are made for.
    pub firmware: Option<BootFirmware>,
    /// How it sees its disks.
    pub bus: BootDiskBus,
    /// Its memory.
    pub memory: Bytes,
    /// Whether the processor may run its code itself, where this host can.
    pub accelerate: bool,
    /// The folder in which what was seen is kept.
    pub keep: PathBuf,
    /// The folder in which is, without a name, what it writes.
    pub work: PathBuf,
    /// The most that it may write to each of its disks.
    pub room: Bytes,
    /// One without a console has come to rest when it has asked for nothing for so long: then its
    /// power button is pressed.
    pub rest: Duration,
}

/// How long a machine has to be quiet.
pub const REST: Duration = Duration::from_secs(120);
