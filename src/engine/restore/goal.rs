//! Which disk of a snapshot goes where. Nothing is opened or written here.

use super::choose_disk;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::{DiskRecord, Manifest};
use crate::restore::refuse_what_is_there;
use crate::store::Vault;
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{self, Component, Path, PathBuf};
use std::{fs, io};

/// What a user wants restored, and where to.
#[derive(Clone, Debug)]
pub enum Goal {
    /// One disk, which may be left out when the snapshot has just one, onto a block device or into
    /// a file that is made; or all disks, or that one, into an empty folder.
    To {
        /// The disk.
        disk: Option<String>,
        /// A block device, a file's name, or an empty folder.
        target: PathBuf,
    },
    /// These disks, each onto a block device or into a file.
    Map(Vec<(String, PathBuf)>),
}

/// How a disk is written into a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageFormat {
    /// Its bytes, sparse.
    #[default]
    Raw,
    /// A QEMU image.
    Qcow2,
}

impl ImageFormat {
    /// As it is called on the command line, and how names of files end.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// A disk and its target.
#[derive(Clone, Debug)]
pub struct Assigned<'m> {
    /// The disk as it was.
    pub disk: &'m DiskRecord,
    /// Where it goes.
    pub target: PathBuf,
    /// Whether that is a block device.
    pub is_device: bool,
}

/// Who goes where; what can be refused by names alone is refused.
pub fn assign<'m>(
    vault: &Vault,
    manifest: &'m Manifest,
    goal: &Goal,
    (format, force): (ImageFormat, bool),
) -> Result<Vec<Assigned<'m>>> {
    let pairs = match goal {
        Goal::To { disk, target } if target.is_dir() => {
            refuse_the_vault(vault, target)?;
            refuse_planted_link(target)?;
            into_folder(manifest, disk.as_deref(), target, format)?
        }
        Goal::To { disk, target } => {
            let folder = "say which with --disk, or name an empty directory for all of them";
            let chosen = choose_disk(manifest, disk.as_deref());
            let chosen = chosen.map_err(|error| match error.kind() {
                ErrorKind::Usage => error.with_hint(folder),
                _ => error,
            })?;
            vec![(chosen, target.clone())]
        }
        Goal::Map(pairs) => {
            let chosen = |(name, target): &(String, PathBuf)| {
                Ok((choose_disk(manifest, Some(name))?, target.clone()))
            };
            pairs.iter().map(chosen).collect::<Result<Vec<_>>>()?
        }
    };
    let mut assigned: Vec<Assigned<'m>> = Vec::new();
    let mut taken = BTreeSet::new();
    for (disk, target) in pairs {
        refuse_the_vault(vault, &target)?;
        refuse_planted_link(&target)?;
        let is_device =
            fs::metadata(&target).is_ok_and(|found| found.file_type().is_block_device());
        if is_device && format != ImageFormat::Raw {
            let what = format!(
                "{} is a block device, which takes the disk's bytes, not an image",
                target.display()
            );
            return Err(
                Error::new(ErrorKind::Usage, what).with_hint("leave --format out, or name a file")
            );
        }
        if !is_device {
            refuse_what_is_there(&target, force)?;
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
        assigned.push(Assigned {
            disk,
            target,
            is_device,
        });
    }
    Ok(assigned)
}

/// Refuses a file among the devices: it is a device that was meant, and on a host that comes from a
/// rescue nobody would notice that the disk was never written.
fn refuse_no_device(target: &Path) -> Result<()> {
    let folder = fs::canonicalize(folder_of(target)).unwrap_or_default();
    if !folder.starts_with("/dev") || folder.starts_with("/dev/shm") {
        return Ok(());
    }
    let what = format!(
        "there is no block device {}; nothing was written",
        target.display()
    );
    Err(Error::new(ErrorKind::NotFound, what)
        .with_hint("`stillpoint disks` lists the disks of this host; an image file goes elsewhere"))
}

/// What tells a target from others, whatever it is called: a device's number, or a folder's path
/// and a name in it.
fn identity_of(target: &Path) -> (u64, PathBuf) {
    match fs::metadata(target) {
        Ok(found) if found.file_type().is_block_device() => (found.rdev(), PathBuf::new()),
        _ => {
            let folder = fs::canonicalize(folder_of(target)).unwrap_or_default();
            (0, folder.join(target.file_name().unwrap_or_default()))
        }
    }
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn into_folder<'m>(
    manifest: &'m Manifest,
    disk: Option<&str>,
    folder: &Path,
    format: ImageFormat,
) -> Result<Vec<(&'m DiskRecord, PathBuf)>> {
    let mut entries = fs::read_dir(folder).io_context("list", folder)?;
    if entries.next().is_some() {
        let what = format!(
            "{} is a directory with something in it; nothing was written",
            folder.display()
        );
        return Err(Error::new(ErrorKind::Exists, what)
            .with_hint("name a file in it, an empty directory, or a block device"));
    }
    let disks: Vec<&DiskRecord> = match disk {
        Some(name) => vec![choose_disk(manifest, Some(name))?],
        None => manifest.disks.iter().collect(),
    };
    let named = |disk: &'m DiskRecord| {
        let name = format!("{}.{}", plain(&disk.identity.name), format.name());
        (disk, folder.join(name))
    };
    Ok(disks.into_iter().map(named).collect())
}

/// A disk's name without what a file's name cannot have: it comes from the vault, and from far.
fn plain(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let name: String = name
        .chars()
        .take(64)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    if name.is_empty() { "disk".into() } else { name }
}

/// A link to a device counts only below `/dev`, and there only where root alone makes links: in
/// `/dev/shm` and `/dev/mqueue` everyone does.
fn refuse_planted_link(target: &Path) -> Result<()> {
    let is_link = fs::symlink_metadata(target).is_ok_and(|found| found.file_type().is_symlink());
    let below_dev = target.starts_with("/dev");
    let is_device = fs::metadata(target).is_ok_and(|found| found.file_type().is_block_device());
    let planted = if is_link && !below_dev {
        Some(target.to_owned())
    } else if below_dev || is_device {
        planted_link(target).io_context("look at", target)?
    } else {
        None
    };
    let Some(link) = planted else {
        return Ok(());
    };
    let what = if link == target {
        format!("{} is a symbolic link", target.display())
    } else {
        let (target, link) = (target.display(), link.display());
        format!("the way to {target} leads over {link}, a symbolic link")
    };
    Err(
        Error::new(ErrorKind::Exists, format!("{what}; nothing was written"))
            .with_hint("name the device itself, or a file"),
    )
}

/// Most links on the way to a target, as the kernel has it (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The first link on the way to `target` that somebody else than root can have made or can replace.
/// A way that ends before the target is no matter: what is to be made there is a file.
fn planted_link(target: &Path) -> io::Result<Option<PathBuf>> {
    let mut at = PathBuf::new();
    let mut links = 0;
    let mut way = vec![path::absolute(target)?];
    while let Some(part) = way.pop() {
        let mut parts = part.components();
        let Some(first) = parts.next() else {
            continue;
        };
        way.push(parts.as_path().to_owned());
        match first {
            Component::ParentDir => {
                // There is no link left in it.
                at.pop();
                continue;
            }
            Component::Normal(name) => at.push(name),
            Component::RootDir => at = "/".into(),
            Component::CurDir | Component::Prefix(_) => continue,
        }
        let found = match fs::symlink_metadata(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if !found.file_type().is_symlink() {
            continue;
        }
        let leads_to = fs::read_link(&at)?;
        let folder = fs::metadata(folder_of(&at))?;
        let roots_alone = found.uid() == 0 && folder.uid() == 0 && folder.mode() & 0o022 == 0;
        links += 1;
        if !roots_alone || links > MAX_LINKS {
            return Ok(Some(at));
        }
        at.pop();
        way.push(leads_to);
    }
    Ok(None)
}

/// Also where the vault is seen under another path, through a bind mount.
fn refuse_the_vault(vault: &Vault, target: &Path) -> Result<()> {
    let Some(root) = vault.local_root() else {
        return Ok(());
    };
    let folder = if target.is_dir() {
        target
    } else {
        folder_of(target)
    };
    let is_root =
        |folder: &Path| fs::metadata(folder).is_ok_and(|found| (found.dev(), found.ino()) == root);
    let inside = fs::canonicalize(folder).is_ok_and(|folder| folder.ancestors().any(is_root));
    if inside {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} is inside the vault; nothing was written",
                target.display()
            ),
        )
        .with_hint("name a target outside the vault"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{plain, planted_link};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    use std::path::Path;

    #[test]
    fn names_from_the_vault_stay_in_their_folder() {
        assert_eq!(plain("vda"), "vda");
        assert_eq!(plain("cciss!c0d0"), "cciss_c0d0");
        assert_eq!(plain("../../etc/x"), "______etc_x");
        assert_eq!(plain(""), "disk");
    }
    #[test]
    fn a_link_counts_where_root_alone_makes_links() {
        if !nix::unistd::geteuid().is_root() {
            // There is no making root's links then.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let at = |name: &str| folder.join(name);
        let planted = |path: &Path| planted_link(path).unwrap();
        symlink("/dev/null", at("link")).unwrap();
        std::fs::create_dir(at("inner")).unwrap();
        symlink("../link", at("inner/over")).unwrap();
        symlink("inner", at("way")).unwrap();
        for good in [
            "link",
            "inner/over",
            "way/over",
            "way/../link",
            "inner",
            "none/x",
        ] {
            assert_eq!(planted(&at(good)), None, "{good}");
        }
        // A folder that others can write to, sticky as /dev/shm is, and what leads over it.
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(at("inner"), mode(0o1777)).unwrap();
        for bad in ["inner/over", "way/over"] {
            assert_eq!(planted(&at(bad)), Some(at("inner/over")), "{bad}");
        }
        assert_eq!(planted(&at("link")), None);
        std::fs::set_permissions(at("inner"), mode(0o755)).unwrap();
        chown(at("inner"), Some(1), None).unwrap();
        assert_eq!(planted(&at("inner/over")), Some(at("inner/over")));
        lchown(at("way"), Some(1), None).unwrap();
        assert_eq!(planted(&at("way/over")), Some(at("way")));
        symlink("round", at("round")).unwrap();
        assert_eq!(planted(&at("round")), Some(at("round")));
    }
}
