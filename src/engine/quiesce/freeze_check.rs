//! Whether this host's filesystems can be frozen, as far as that is known without freezing
//! anything. It opens no disk.

use crate::device::{Disk, Filesystem, Freezable, HostLayout, freezable};
use crate::engine::places::Places;
use crate::error::Result;
use crate::freeze::left_frozen;

/// Most filesystems that are listed one by one.
const MOST: usize = 40;

/// What was found of one filesystem, or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeFinding {
    /// Which.
    pub what: String,
    /// How it would freeze.
    pub found: String,
    /// What to do, where it keeps a snapshot from being as consistent as it could be.
    pub remedy: Option<String>,
}

/// Looks at what is mounted from the disks of this host, and at what dead runs have left.
pub fn check_freezing(places: &Places) -> Result<Vec<FreezeFinding>> {
    let layout = HostLayout::scan_mounts()?;
    let disks: Vec<Disk> = layout.topology.disks().cloned().collect();
    let set = layout.freeze_set(&disks);
    let mut all = Vec::new();
    for name in left_frozen(&places.run_dir)? {
        all.push(trouble(
            name,
            "a run that died may have left it frozen",
            "stillpoint thaw",
        ));
    }
    let (read_only, others): (Vec<_>, Vec<_>) = set
        .filesystems
        .iter()
        .partition(|one| freezable(one) == Freezable::ReadOnly);
    all.extend(others.iter().take(MOST).map(|one| look(one)));
    let more = others.len().saturating_sub(MOST);
    for (count, found) in [
        (more, "not looked at: too many to tell"),
        (read_only.len(), "read-only: need no freezing"),
    ] {
        if count > 0 {
            let what = format!("{count} filesystems");
            all.push(fine(what, found));
        }
    }
    let unknown = set.undetermined.iter().filter(|one| !one.read_only);
    all.extend(unknown.take(MOST).map(|one| {
        let found = "it cannot be told which disks it lives on: it is not frozen";
        trouble(
            name(one),
            found,
            "take its disks with the tools of its kind",
        )
    }));
    all.extend(set.opaque_uses.iter().take(MOST).map(|claim| {
        trouble(
            claim.name.clone(),
            "in use, and no mount table tells by what: it is not frozen",
            "find what holds it (a filesystem unmounted lazily, a container), and end that",
        )
    }));
    Ok(all)
}

fn look(filesystem: &Filesystem) -> FreezeFinding {
    let ours = filesystem.mounts.iter().any(|mount| mount.pid.is_none());
    match freezable(filesystem) {
        Freezable::No(why) => {
            let found = format!("{why}: it counts as still when no write to it is seen");
            fine(name(filesystem), &found)
        }
        _ if !filesystem.mounts.iter().any(|mount| mount.visible) => trouble(
            name(filesystem),
            "hidden under other mounts: it cannot be frozen, and snapshots are refused",
            "unmount what hides it, or take --level crash",
        ),
        _ if filesystem.depth > 0 => fine(
            name(filesystem),
            "can be frozen, before that in whose file it lies",
        ),
        _ if !ours => fine(
            name(filesystem),
            "can be frozen, in the mount namespace where it is",
        ),
        _ => fine(name(filesystem), "can be frozen"),
    }
}

fn name(filesystem: &Filesystem) -> String {
    let target = filesystem.target().display();
    format!("{target} ({})", filesystem.fstype)
}

fn fine(what: String, found: &str) -> FreezeFinding {
    FreezeFinding {
        what,
        found: found.into(),
        remedy: None,
    }
}

fn trouble(what: String, found: &str, remedy: &str) -> FreezeFinding {
    FreezeFinding {
        remedy: Some(remedy.into()),
        ..fine(what, found)
    }
}
