//! Which disk of a snapshot goes where. Nothing is opened or written here.

use super::link::{refuse_planted_link, refuse_the_vault};
use super::name::{
    ImageFormat, TargetKind, directory_of, is_stdout, kind_of, refuse_no_place, refuse_two_meanings,
};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::{DiskRecord, Manifest};
use crate::restore::refuse_what_is_there;
use crate::store::Vault;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a user wants restored, and where to.
#[derive(Clone, Debug)]
pub enum Destination {
    /// One disk, which may be left out when the snapshot has just one, onto a block device or into
    /// a file that is made; or all disks, or that one, into an empty directory.
    To {
        /// The disk.
        disk: Option<String>,
        /// A block device, a file's name, an empty directory, or `-` for standard output.
        target: PathBuf,
    },
    /// These disks, each onto a block device or into a file.
    Map(Vec<(String, PathBuf)>),
}

/// A disk and its target.
#[derive(Clone, Debug)]
pub struct Assigned<'m> {
    /// The disk as it was.
    pub disk: &'m DiskRecord,
    /// Where it goes.
    pub target: PathBuf,
    /// What that is.
    pub kind: TargetKind,
}

impl Assigned<'_> {
    /// Whether it is a block device.
    pub fn is_device(&self) -> bool {
        self.kind == TargetKind::Device
    }
}

/// How targets are taken.
#[derive(Clone, Copy, Debug)]
pub struct TargetOptions {
    /// The format of files; `None`: as their names end.
    pub format: Option<ImageFormat>,
    /// A file that is there may be replaced.
    pub force: bool,
}

/// Which disk goes where. What can be refused by names alone is refused.
pub fn assign<'m>(
    vault: &Vault,
    manifest: &'m Manifest,
    destination: &Destination,
    options: TargetOptions,
) -> Result<Vec<Assigned<'m>>> {
    let mut assigned: Vec<Assigned<'m>> = Vec::new();
    let mut taken = BTreeSet::new();
    for (disk, target) in pairs(vault, manifest, destination, options)? {
        let kind = if is_stdout(&target) {
            refuse_piped_set(destination)?;
            kind_of(&target, options.format)?
        } else {
            refuse_two_meanings(&target, manifest)?;
            refuse_no_place(&target)?;
            refuse_the_vault(vault, &target)?;
            refuse_planted_link(&target)?;
            kind_of(&target, options.format)?
        };
        if matches!(kind, TargetKind::File(_)) {
            refuse_what_is_there(&target, options.force)?;
            refuse_no_device(&target)?;
        }
        let twice = if !taken.insert(identity_of(&target)) {
            Some(target.display().to_string())
        } else if assigned.iter().any(|other| std::ptr::eq(other.disk, disk)) {
            Some(disk.identity.name.clone())
        } else {
            None
        };
        if let Some(twice) = twice {
            let what = format!("{twice} is named twice; nothing was written");
            return Err(
                Error::new(ErrorKind::Usage, what).with_hint("each disk needs a target of its own")
            );
        }
        assigned.push(Assigned { disk, target, kind });
    }
    Ok(assigned)
}

/// The disks that are asked for, each with its target.
fn pairs<'m>(
    vault: &Vault,
    manifest: &'m Manifest,
    destination: &Destination,
    options: TargetOptions,
) -> Result<Vec<(&'m DiskRecord, PathBuf)>> {
    match destination {
        Destination::To { disk, target } if !is_stdout(target) && target.is_dir() => {
            refuse_two_meanings(target, manifest)?;
            refuse_the_vault(vault, target)?;
            refuse_planted_link(target)?;
            let format = options.format.unwrap_or_default();
            into_directory(manifest, disk.as_deref(), target, format)
        }
        Destination::To { disk, target } => {
            let hint = "say which with --disk, or name an empty directory for all of them";
            let chosen = choose_disk(manifest, disk.as_deref());
            let chosen = chosen.map_err(|error| match error.kind() {
                ErrorKind::Usage => error.with_hint(hint),
                _ => error,
            })?;
            Ok(vec![(chosen, target.clone())])
        }
        Destination::Map(pairs) => {
            let chosen = |(name, target): &(String, PathBuf)| {
                Ok((choose_disk(manifest, Some(name))?, target.clone()))
            };
            pairs.iter().map(chosen).collect()
        }
    }
}

/// Standard output takes one disk.
fn refuse_piped_set(destination: &Destination) -> Result<()> {
    if matches!(destination, Destination::To { .. }) {
        return Ok(());
    }
    let what = "- in --map: standard output takes one disk; nothing was written";
    Err(Error::new(ErrorKind::Usage, what)
        .with_hint("stillpoint restore ID - --disk DISK; or ./- for a file of that name"))
}

/// Refuses a file among the devices: it is a device that was meant, and on a host that comes from a
/// rescue nobody would notice that the disk was never written.
fn refuse_no_device(target: &Path) -> Result<()> {
    let directory = fs::canonicalize(directory_of(target)).unwrap_or_default();
    if !directory.starts_with("/dev") || directory.starts_with("/dev/shm") {
        return Ok(());
    }
    let what = format!(
        "there is no block device {}; nothing was written",
        target.display()
    );
    Err(Error::new(ErrorKind::NotFound, what)
        .with_hint("`stillpoint disks` lists the disks of this host; an image file goes elsewhere"))
}

/// What tells a target from others, whatever it is called: a device's number, or a directory's path
/// and a name in it.
fn identity_of(target: &Path) -> (u64, PathBuf) {
    match fs::metadata(target) {
        Ok(found) if found.file_type().is_block_device() => (found.rdev(), PathBuf::new()),
        _ => {
            let directory = fs::canonicalize(directory_of(target)).unwrap_or_default();
            (0, directory.join(target.file_name().unwrap_or_default()))
        }
    }
}

fn into_directory<'m>(
    manifest: &'m Manifest,
    disk: Option<&str>,
    directory: &Path,
    format: ImageFormat,
) -> Result<Vec<(&'m DiskRecord, PathBuf)>> {
    let mut entries = fs::read_dir(directory).io_context("list", directory)?;
    if entries.next().is_some() {
        let what = format!(
            "{} is a directory with something in it; nothing was written",
            directory.display()
        );
        return Err(Error::new(ErrorKind::Exists, what)
            .with_hint("name a file in it, an empty directory, or a block device"));
    }
    let disks: Vec<&DiskRecord> = match disk {
        Some(name) => vec![choose_disk(manifest, Some(name))?],
        None => manifest.disks.iter().collect(),
    };
    let named = |disk: &'m DiskRecord| {
        let name = format!("{}.{}", plain_name(&disk.identity.name), format.name());
        (disk, directory.join(name))
    };
    Ok(disks.into_iter().map(named).collect())
}

/// A disk's name without what a file's name cannot have: it comes from the vault, and from far.
pub fn plain_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let name: String = name
        .chars()
        .take(64)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    if name.is_empty() { "disk".into() } else { name }
}

/// The disk of a snapshot that `name` means: the kernel's name at the time, `/dev/…` or a serial.
pub fn choose_disk<'m>(manifest: &'m Manifest, name: Option<&str>) -> Result<&'m DiskRecord> {
    let names: Vec<&str> = manifest
        .disks
        .iter()
        .map(|disk| disk.identity.name.as_str())
        .collect();
    let there = names.join(", ");
    match (name, manifest.disks.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Error::new(
            ErrorKind::Usage,
            format!("the snapshot has several disks: {there}"),
        )
        .with_hint("say which with --disk")),
        (Some(name), disks) => {
            let wanted = name.strip_prefix("/dev/").unwrap_or(name);
            let found = disks.iter().find(|disk| {
                disk.identity.name == wanted || disk.identity.serial.as_deref() == Some(name)
            });
            found.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("the snapshot has no disk {name:?}"),
                )
                .with_hint(format!("it has: {there}"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::plain_name;

    #[test]
    fn names_from_the_vault_stay_in_their_folder() {
        assert_eq!(plain_name("vda"), "vda");
        assert_eq!(plain_name("cciss!c0d0"), "cciss_c0d0");
        assert_eq!(plain_name("../../etc/x"), "______etc_x");
        assert_eq!(plain_name(""), "disk");
    }
}
