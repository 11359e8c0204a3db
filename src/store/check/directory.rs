//! What a directory can do that a vault gains by: its filesystem, room, files without a name,
//! locks.

use super::bounds::CheckOptions;
use super::ends::{conclude, look};
use super::found::{RowState, StoreCheck};
use super::objects::{body, passed, try_all};
use super::trial::Trial;
use crate::error::{ErrorKind, IoContext, Result};
use crate::model::Bytes;
use crate::store::local::LocalStore;
use crate::store::object_name::ObjectName;
use crate::store::object_store::ObjectStore;
use crate::store::unfinished::{no_unnamed_files, open_unnamed};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::path::Path;
use std::sync::Arc;

/// A vault with less free space than this is as good as full: a run has nearly as much in flight.
const LITTLE: Bytes = Bytes(256 << 20);

/// Filesystems by what `statfs(2)` calls them (`include/uapi/linux/magic.h`).
const KINDS: [FilesystemKind; 16] = [
    FilesystemKind::local(0xEF53, "ext4"),
    FilesystemKind::local(0x5846_5342, "xfs"),
    FilesystemKind::local(0x9123_683E, "btrfs"),
    FilesystemKind::local(0xCA45_1A4E, "bcachefs"),
    FilesystemKind::local(0xF2F5_2010, "f2fs"),
    FilesystemKind::local(0x2FC1_2FC1, "zfs"),
    FilesystemKind::local(0x794C_7630, "overlay"),
    FilesystemKind::local(0x4D44, "vfat"),
    FilesystemKind::local(0x2011_BAB0, "exfat"),
    FilesystemKind::far(0x6969, "nfs"),
    FilesystemKind::far(0xFF53_4D42, "cifs"),
    FilesystemKind::far(0xFE53_4D42, "smb3"),
    FilesystemKind::far(0x00C3_6400, "ceph"),
    FilesystemKind::far(0x0102_1997, "9p"),
    FilesystemKind::far(0x6573_5546, "fuse"),
    FilesystemKind::local(TMPFS, "tmpfs"),
];
const TMPFS: u32 = 0x0102_1994;

struct FilesystemKind {
    magic: u32,
    name: &'static str,
    /// Whether its bytes may be on another machine.
    is_far: bool,
}

impl FilesystemKind {
    const fn local(magic: u32, name: &'static str) -> Self {
        Self {
            magic,
            name,
            is_far: false,
        }
    }

    const fn far(magic: u32, name: &'static str) -> Self {
        Self {
            is_far: true,
            ..Self::local(magic, name)
        }
    }
}

/// Tries a directory through `store`, which counts what is asked of `local`.
pub(super) fn check(
    local: &Arc<LocalStore>,
    store: &Arc<dyn ObjectStore>,
    options: CheckOptions,
) -> Result<StoreCheck> {
    let mut found = StoreCheck {
        location: store.location(),
        ..StoreCheck::default()
    };
    let mut trial = Trial::new(Arc::clone(store), options);
    let looked = Arc::clone(local);
    let is_empty = passed(trial.within(options.small, move || looked.is_empty()))?;
    let may_put = look(&trial, is_empty, &mut found)?;
    found.settings = vec![
        "[vaults.NAME]".into(),
        format!("url = {:?}", found.location),
    ];
    if !may_put {
        return Ok(found);
    }
    let tried = try_here(local, &mut trial, &mut found);
    let to_clean = trial.options_to_clean();
    let concluded = conclude(trial, tried, found);
    // It goes when nothing is in it.
    let (cleaned, folder) = (Arc::clone(local), ObjectName::checks());
    let _ = to_clean.within(&local.location(), move || {
        let how = UnlinkatFlags::RemoveDir;
        Ok(unlinkat(cleaned.root(), folder.as_str(), how).is_ok())
    });
    concluded
}

fn try_here(local: &Arc<LocalStore>, trial: &mut Trial, found: &mut StoreCheck) -> Result<()> {
    filesystem(local, trial, found)?;
    try_all(trial, found, true)?;
    if found.is_bad("put") {
        return Ok(());
    }
    // A put returns only when the file and its folder were written out.
    found.good(
        "fsync",
        "what was put is on the disk, as far as the filesystem says",
    );
    unnamed_files(local, trial, found)?;
    locks(trial, found)
}

/// What a directory's filesystem is, and its room.
struct DirectorySpace {
    /// As `statfs(2)` says it.
    magic: u32,
    /// Free for those that are not root.
    free: Bytes,
}

fn space_of(local: &LocalStore) -> Result<DirectorySpace> {
    let (root, path) = (local.root(), path_of(local));
    let kind = nix::sys::statfs::fstatfs(root).io_context("look at", path)?;
    let space = nix::sys::statvfs::fstatvfs(root).io_context("look at", path)?;
    let free = space.blocks_available();
    Ok(DirectorySpace {
        magic: kind.filesystem_type().0 as u32,
        free: Bytes(free.saturating_mul(space.fragment_size())),
    })
}

fn path_of(local: &LocalStore) -> &Path {
    let directory = local.directory();
    directory.map_or(Path::new("."), |directory| &directory.path)
}

fn has_unnamed_files(local: &LocalStore) -> Result<bool> {
    match open_unnamed(local.root(), Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(_) => Ok(true),
        Err(errno) if no_unnamed_files(errno) => Ok(false),
        Err(errno) => Err(errno).io_context("write to", path_of(local)),
    }
}

fn filesystem(local: &Arc<LocalStore>, trial: &Trial, found: &mut StoreCheck) -> Result<()> {
    let asked = Arc::clone(local);
    let space = match passed(trial.within(trial.options().small, move || space_of(&asked)))? {
        Ok(space) => space,
        Err(error) => {
            found.failed("filesystem", RowState::Unknown, &error);
            return Ok(());
        }
    };
    let kind = KINDS.iter().find(|kind| kind.magic == space.magic);
    match kind {
        Some(kind) if kind.magic == TMPFS => {
            found.row("filesystem", RowState::Warning, "tmpfs, which is in memory");
            found.remedy("what is in memory is gone when this host stops: name a disk");
        }
        Some(kind) if kind.is_far => {
            let what = format!("{}, whose disk may be another machine's", kind.name);
            found.good("filesystem", what);
        }
        Some(kind) => found.good("filesystem", kind.name),
        None => found.good("filesystem", format!("of a type {:#x}", space.magic)),
    }
    let free = space.free;
    if free < LITTLE {
        found.row("space", RowState::Warning, format!("{free} free"));
        found.remedy("make room: a snapshot that finds none fails, and is taken out again");
    } else {
        found.good("space", format!("{free} free"));
    }
    Ok(())
}

fn unnamed_files(local: &Arc<LocalStore>, trial: &Trial, found: &mut StoreCheck) -> Result<()> {
    let asked = Arc::clone(local);
    let has = trial.within(trial.options().small, move || has_unnamed_files(&asked));
    match passed(has)? {
        Ok(true) => found.good(
            "unnamed_files",
            "files can be written before they have a name",
        ),
        Ok(false) => {
            let what = "a file has a name before it is whole (no O_TMPFILE)";
            found.good("unnamed_files", what);
            found.remedy("a killed run may leave .tmp-* files, which the next one removes");
        }
        Err(error) => found.failed("unnamed_files", RowState::Unknown, &error),
    }
    Ok(())
}

/// Whether a lock keeps a second one away.
fn locks(trial: &mut Trial, found: &mut StoreCheck) -> Result<()> {
    let (name, bytes) = (trial.fresh(), body(trial, 16));
    let small = trial.options().small;
    if let Err(error) = passed(trial.put(&name, bytes, small))? {
        found.failed("locks", RowState::Unknown, &error);
        return Ok(());
    }
    let at: ObjectName = name.clone();
    let locked = trial.ask(move |store| {
        let Some(first) = store.lock(&at)? else {
            return Ok(None);
        };
        let second = store.lock(&at);
        drop(first);
        match second {
            Err(error) if error.kind() == ErrorKind::Busy => Ok(Some(true)),
            Err(error) => Err(error),
            Ok(_) => Ok(Some(false)),
        }
    });
    match passed(locked)? {
        Ok(Some(true)) => found.good("locks", "a killed run is known by its lock at once"),
        Ok(_) => {
            found.row("locks", RowState::Warning, "files cannot be locked here");
            found.remedy("a killed run is known by its age, a day later");
        }
        Err(error) => found.failed("locks", RowState::Unknown, &error),
    }
    passed(trial.delete(&name)).map(drop)
}
