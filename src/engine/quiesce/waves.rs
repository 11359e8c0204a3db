//! What the guardian has to freeze, and in which order: in waves, what lies in files of other
//! filesystems before those.

use crate::device::{Filesystem, Freezable, FreezeSet, freezable};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::FreezeTarget;

/// What the guardian has to freeze.
pub(super) fn targets(set: &FreezeSet) -> Result<Vec<FreezeTarget>> {
    // What lies in a file of another is frozen before that other. Read-only ones need nothing; of
    // those that cannot be frozen the tracker must see no write.
    let deepest = set
        .filesystems
        .iter()
        .map(|filesystem| filesystem.depth)
        .max()
        .unwrap_or(0);
    let wave =
        |filesystem: &Filesystem| u16::try_from(deepest - filesystem.depth).unwrap_or(u16::MAX);
    let can = |filesystem: &&Filesystem| freezable(filesystem) == Freezable::Yes;
    let each = set.filesystems.iter().filter(can);
    let mut targets = each
        .map(|filesystem| target(filesystem, wave(filesystem)))
        .collect::<Result<Vec<_>>>()?;
    targets.sort_by_key(|target| target.wave);
    Ok(targets)
}

fn target(filesystem: &Filesystem, wave: u16) -> Result<FreezeTarget> {
    let mut visible: Vec<_> = filesystem
        .mounts
        .iter()
        .filter(|mount| mount.visible)
        .collect();
    visible.sort_by_key(|mount| mount.pid);
    let mount = visible.first().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} at {} is hidden under other mounts and cannot be frozen; nothing was done",
                filesystem.source,
                filesystem.target().display()
            ),
        )
        .with_hint("unmount what hides it, or take --level crash")
    })?;
    Ok(FreezeTarget {
        mount_point: mount.target.clone(),
        namespace_pid: mount.pid,
        dev: filesystem.dev,
        wave,
        source: filesystem.source.clone(),
        fstype: filesystem.fstype.clone(),
    })
}
