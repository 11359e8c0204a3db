//! Which disks a run takes, and which must be left out or refused: the vault's own, those that lead
//! to the same bytes as another, copies that a vault could not tell apart. It only looks.

use crate::device::{Backing, Device, DeviceKind, Disk, DiskObstacle, HostLayout, TOO_LARGE};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::DevNumber;
use crate::restore::unfinished;
use crate::store::Vault;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What the vault lies on.
#[derive(Clone, Debug, Default)]
pub struct VaultPlace {
    path: PathBuf,
    /// Every whole disk of this host.
    pub disks: BTreeSet<DevNumber>,
    /// Why it is not known whether there are others.
    pub doubt: Option<String>,
}

impl VaultPlace {
    /// Finds what it lies on; nothing, if it is no directory.
    pub fn find(vault: &Vault, layout: &HostLayout) -> Result<Self> {
        match vault.local_path() {
            Some(path) => Self::of_directory(path, layout),
            None => Ok(Self::default()),
        }
    }

    /// Finds what a directory lies on.
    pub fn of_directory(path: &Path, layout: &HostLayout) -> Result<Self> {
        let directory = File::open(path).io_context("open", path)?;
        let mut place = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        match layout.backing_of(directory, path)? {
            Backing::Filesystem(filesystem) => place.disks.clone_from(&filesystem.disks),
            Backing::Elsewhere => {}
            Backing::Unknown(why) => place.doubt = Some(why),
        }
        Ok(place)
    }

    /// Refuses a vault on a disk of the run: what is written to it would change the disk.
    pub fn refuse_on(&self, disks: &[Disk]) -> Result<()> {
        let Some(disk) = disks.iter().find(|disk| self.disks.contains(&disk.dev())) else {
            return Ok(());
        };
        let (path, disk) = (self.path.display(), disk.name());
        let message = format!(
            "the vault {path} lies on {disk}, which is to be snapshotted; nothing was done"
        );
        Err(Error::new(ErrorKind::Usage, message)
            .with_hint("put the vault on another disk, or leave that disk out"))
    }

    /// The warning where this is not known.
    pub fn warning(&self) -> Option<String> {
        let (path, why) = (self.path.display(), self.doubt.as_ref()?);
        Some(format!(
            "it cannot be told on which disks the vault {path} lies: {why}; on one of this \
             snapshot it would be lost with it"
        ))
    }
}

/// Refuses disks whose tracking would not see all that is written to them, and those that a vault
/// could not tell apart.
pub fn refuse_aliases(layout: &HostLayout, disks: &[Disk]) -> Result<()> {
    for disk in disks {
        if let Some(way) = layout.topology.alias_of(disk) {
            return Err(way.refusal(disk.name()));
        }
    }
    match copies(layout, disks).first() {
        None => Ok(()),
        Some((copy, original)) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("{}; nothing was done", told_apart(copy, original)),
        )
        .with_hint(format!(
            "take each by itself, or give the copy an ID of its own: sgdisk --disk-guid=R {}",
            copy.path.display()
        ))
        .on_disk(copy.name())),
    }
}

/// Refuses disks that no manifest can describe: a snapshot of one could never be read.
pub fn refuse_too_large(disks: &[Disk]) -> Result<()> {
    match disks.iter().find(|disk| disk.is_too_large()) {
        None => Ok(()),
        Some(disk) => {
            let (name, size) = (disk.name(), disk.identity.size);
            let message = format!("{name} has {size}: {TOO_LARGE}");
            Err(Error::new(ErrorKind::Unsupported, message).on_disk(name))
        }
    }
}

/// Refuses disks to which a restore was begun and not finished: a snapshot of such a one would look
/// like any other.
pub fn refuse_not_whole(disks: &[Disk]) -> Result<()> {
    for disk in disks {
        if let Some(what) = begun_restore(disk) {
            let name = disk.name();
            let message = format!("{name} is not whole: {what} Nothing was done");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_hint(not_whole_hint(disk))
                .on_disk(name));
        }
    }
    Ok(())
}

/// What a restore has written in the first sector of a disk to which it has not come to its end.
fn begun_restore(disk: &Disk) -> Option<String> {
    unfinished(&File::open(&disk.path).ok()?)
}

fn not_whole_hint(disk: &Disk) -> String {
    format!(
        "restore it again; or, to take it as it is, remove the mark first: dd if=/dev/zero of={} \
         bs=512 count=1",
        disk.path.display()
    )
}

/// Disks that go by the same name in a vault as another of these, and that other. The original is
/// what is in use, or was there first.
fn copies<'a>(layout: &HostLayout, disks: &'a [Disk]) -> Vec<(&'a Disk, &'a Disk)> {
    let rank = |disk: &&Disk| {
        let all = layout.mounts.filesystems();
        let used = all.iter().any(|one| one.disks.contains(&disk.dev()));
        (!used, disk.identity.diskseq.unwrap_or(u64::MAX), disk.dev())
    };
    let copy = |disk: &'a Disk| {
        let same = |other: &&Disk| other.identity.key() == disk.identity.key();
        let original = disks.iter().filter(same).min_by_key(rank)?;
        (original.dev() != disk.dev()).then_some((disk, original))
    };
    disks.iter().filter_map(copy).collect()
}

fn told_apart(copy: &Disk, original: &Disk) -> String {
    format!(
        "{} and {} both say that they are {:?}, and the vault could not tell them apart",
        copy.name(),
        original.name(),
        copy.identity.key()
    )
}

/// A disk that `--all` does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub disk: String,
    /// Why.
    pub why: String,
    /// Whether the user would expect it to be taken: the result is below what was asked for.
    pub unexpected: bool,
}

/// The disks that `--all` takes, and those it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those it takes.
    pub disks: Vec<Disk>,
    /// The others.
    pub left_out: Vec<LeftOut>,
}

/// The disks of `--all`, and those left out with the reason.
///
/// # Errors
/// `Unsupported` when none is left.
pub fn select_all(layout: &HostLayout, vault: &Vault, exclude: &[String]) -> Result<Selection> {
    let excluded = layout.resolve(exclude)?;
    let excluded = excluded.iter().map(Disk::dev).collect();
    let choice = select(layout, &excluded, &VaultPlace::find(vault, layout)?);
    if choice.disks.is_empty() {
        let all = choice.left_out.iter();
        let all: Vec<String> = all
            .map(|one| format!("{}: {}", one.disk, one.why))
            .collect();
        let message = format!(
            "no disk of this host can be snapshotted ({})",
            all.join("; ")
        );
        return Err(
            Error::new(ErrorKind::Unsupported, message).with_hint("name disks instead of --all")
        );
    }
    Ok(choice)
}

/// Decides over every device that is no partition.
pub fn select(
    layout: &HostLayout,
    excluded: &BTreeSet<DevNumber>,
    vault: &VaultPlace,
) -> Selection {
    let mut choice = Selection::default();
    let mut taken: Vec<Disk> = Vec::new();
    let mut leave = |disk: &str, why: &str, unexpected| {
        choice.left_out.push(LeftOut {
            disk: disk.into(),
            why: why.into(),
            unexpected,
        });
    };
    for disk in layout.topology.disks() {
        let other = layout.topology.alias_of(disk);
        if excluded.contains(&disk.dev()) {
            leave(disk.name(), "excluded", false);
        } else if let Some(why) = unfit(disk, vault) {
            leave(disk.name(), why, false);
        } else if disk.is_too_large() {
            leave(disk.name(), TOO_LARGE, true);
        } else if let Some(what) = begun_restore(disk) {
            let why = format!("it is not whole: {what} {}", not_whole_hint(disk));
            leave(disk.name(), &why, true);
        } else if let Some(way) = other {
            let why = format!("it {}; {}", way.what, way.remedy);
            leave(disk.name(), &why, true);
        } else {
            taken.push(disk.clone());
        }
    }
    for device in layout.topology.devices() {
        if let Some(why) = no_disk(layout, device) {
            leave(&device.name, &why, false);
        }
    }
    let copies: Vec<_> = copies(layout, &taken)
        .into_iter()
        .map(|(copy, original)| (copy.name().to_owned(), told_apart(copy, original)))
        .collect();
    for (copy, why) in copies {
        let why = format!("{why}: name it alone, or give it an ID of its own");
        leave(&copy, &why, true);
        taken.retain(|disk| disk.name() != copy);
    }
    choice.disks = taken;
    choice
}

fn unfit(disk: &Disk, vault: &VaultPlace) -> Option<&'static str> {
    if disk.kind == DeviceKind::Loop {
        return Some("a loop device: its file is on another disk");
    }
    if disk.read_only {
        return Some("read-only");
    }
    let untracked = disk.obstacle.and_then(DiskObstacle::left_out);
    let is_vaults = vault.disks.contains(&disk.dev());
    untracked.or_else(|| is_vaults.then_some("the vault lies on it"))
}

/// Why a device is no disk to be taken; `None` for a partition, and where there is nothing in it
/// that anyone could miss.
fn no_disk(layout: &HostLayout, device: &Device) -> Option<String> {
    let empty = device.size.0 == 0;
    match device.kind {
        DeviceKind::Partition => None,
        DeviceKind::Disk | DeviceKind::NvmeHead => empty.then(|| "it has no medium".into()),
        DeviceKind::Loop => None,
        DeviceKind::Zram if empty => None,
        kind => {
            let below = layout.topology.bottom(device.dev).into_iter();
            let below = below.filter(|dev| *dev != device.dev);
            let names: Vec<&str> = below
                .filter_map(|dev| Some(layout.topology.device(dev)?.name.as_str()))
                .collect();
            Some(match names.is_empty() {
                true => kind.description().into(),
                false => format!("{}, on {}", kind.description(), names.join(", ")),
            })
        }
    }
}
