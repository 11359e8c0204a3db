//! What distinguishes one disk from another, across renames and reboots.

use super::units::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A device's major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DevNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DevNumber {
    /// From the number that `stat` gives (`st_dev`, `st_rdev`).
    pub fn from_dev_t(number: u64) -> Self {
        Self {
            major: libc::major(number),
            minor: libc::minor(number),
        }
    }
}

impl FromStr for DevNumber {
    type Err = ParseIntError;

    /// From `254:1`, as the kernel writes it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            major: major.parse()?,
            minor: minor.parse()?,
        })
    }
}

impl fmt::Display for DevNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What distinguishes one disk from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskIdentity {
    /// The kernel's name now (`vda`): not stable across reboots.
    pub name: String,
    /// The device number now.
    pub dev: DevNumber,
    /// Size of the whole disk.
    pub size: Bytes,
    /// Logical sector size in bytes (512 or 4096).
    pub logical_block: u32,
    /// Serial number, when the device has one.
    pub serial: Option<String>,
    /// World-wide name, when the device has one.
    pub wwn: Option<String>,
    /// The kernel's disk sequence number (5.15 on): never used twice within one boot.
    pub diskseq: Option<u64>,
    /// The GPT disk GUID or MBR signature, when there is a partition table.
    pub table_id: Option<String>,
}

impl DiskIdentity {
    /// Its node now: sysfs writes `!` for the slash in a name.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(self.name.replace('!', "/"))
    }

    /// The name under which the disk is known in a vault: the most stable thing it has.
    pub fn key(&self) -> &str {
        self.serial
            .as_deref()
            .or(self.wwn.as_deref())
            .or(self.table_id.as_deref())
            .unwrap_or(&self.name)
    }

    /// Whether a disk of that identity is this one, as far as is known.
    pub fn likeness(&self, other: &Self) -> Likeness {
        let (one, two) = (self.wwn.as_deref(), other.wwn.as_deref());
        let apart = one.is_some() && two.is_some() && one != two;
        if self.key() != other.key() || apart {
            return Likeness::Other;
        }
        let by_device = self.serial.is_some() || self.wwn.is_some();
        if by_device || self.name == other.name {
            Likeness::Same
        } else {
            Likeness::Maybe
        }
    }
}

/// How surely two identities are of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// They are of two disks.
    Other,
    /// Their partition tables have the same name and the kernel calls them differently: renamed, or
    /// a copy.
    Maybe,
    /// They are of one disk.
    Same,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_in_it_has_its_node_in_a_folder() {
        let mut disk = DiskIdentity {
            name: "cciss!c0d0".into(),
            dev: DevNumber { major: 8, minor: 0 },
            size: Bytes(0),
            logical_block: 512,
            serial: None,
            wwn: None,
            diskseq: None,
            table_id: None,
        };
        assert_eq!(disk.path(), Path::new("/dev/cciss/c0d0"));
        disk.name = "vda".into();
        assert_eq!(disk.path(), Path::new("/dev/vda"));
    }
}
