//! What must hold of all targets before the first byte goes to any: nobody uses what would be
//! overwritten, and what will be written has room.

use super::assign::Assigned;
use super::name::{ImageFormat, TargetKind, directory_of};
use super::preflight::number_of;
use crate::device::{OverwriteCheck, OverwriteTarget, Use};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::{Bytes, Content, RunMap};
use crate::restore::Qcow2File;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, FsType, MSDOS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most users of a target that are named.
const MOST_NAMED: usize = 8;

/// What of a target would be overwritten, if anything is there.
fn aim(one: &Assigned<'_>) -> Option<OverwriteTarget> {
    match one.kind {
        TargetKind::Device => number_of(&one.target).map(OverwriteTarget::Device),
        TargetKind::File(_) => fs::symlink_metadata(&one.target)
            .is_ok()
            .then(|| OverwriteTarget::File(one.target.clone())),
        TargetKind::Stdout => None,
    }
}

/// Refuses targets that are in use, by whichever way to the same bytes, and targets that lie on one
/// another.
///
/// # Errors
/// `Busy`, with who uses it and how to change that; others where it cannot be room.
pub fn refuse_in_use(assigned: &[Assigned<'_>]) -> Result<()> {
    let aims: Vec<_> = assigned.iter().map(aim).collect();
    if aims.iter().all(Option::is_none) {
        return Ok(());
    }
    let here = OverwriteCheck::scan()?;
    for (n, one) in aims.iter().enumerate() {
        let Some(OverwriteTarget::Device(lower)) = one else {
            continue;
        };
        for (other, upper) in assigned.iter().zip(&aims) {
            if let Some(OverwriteTarget::Device(upper)) = upper
                && upper != lower
                && here.lies_on(*upper, *lower)
            {
                let (upper, lower) = (other.target.display(), assigned[n].target.display());
                let what =
                    format!("{upper} is a part of {lower}, a target too; nothing was written");
                return Err(Error::new(ErrorKind::Usage, what)
                    .with_hint("each disk needs a target of its own"));
            }
        }
    }
    for (one, aim) in assigned.iter().zip(aims) {
        let Some(aim) = aim else {
            continue;
        };
        let uses = here.users_of(&aim)?;
        if !uses.is_empty() {
            return Err(in_use(&one.target, &uses));
        }
    }
    Ok(())
}

fn in_use(target: &Path, uses: &[Use]) -> Error {
    let named = uses.iter().take(MOST_NAMED).map(Use::to_string);
    let mut named: Vec<String> = named.collect();
    if uses.len() > MOST_NAMED {
        named.push(format!("and {} more", uses.len() - MOST_NAMED));
    }
    let what = format!(
        "{} is in use: {}; nothing was written",
        target.display(),
        named.join("; ")
    );
    let mut remedies: Vec<String> = Vec::new();
    for one in uses {
        let remedy = remedy(one);
        if !remedies.contains(&remedy) && remedies.len() < MOST_NAMED {
            remedies.push(remedy);
        }
    }
    remedies.push("or name another target".into());
    Error::new(ErrorKind::Busy, what).with_hint(remedies.join("; "))
}

/// How a use ends.
fn remedy(one: &Use) -> String {
    match one {
        Use::Mounted(_) => "unmount what is on it".into(),
        Use::Holder(name) | Use::Shown(name) if name.starts_with("loop") => {
            format!("losetup --detach /dev/{name}")
        }
        Use::Holder(name) | Use::Shown(name) => format!("take {name} apart, or deactivate it"),
        Use::Swap(_) => "swapoff".into(),
        Use::Open { pid, .. } => format!("stop process {pid}, or the machine that it runs"),
        Use::Held(_) => "stop what uses it".into(),
    }
}

/// What a file will take on its filesystem.
struct Need<'a> {
    directory: &'a Path,
    bytes: u64,
}

/// A file target with what will be in it.
pub struct Planned<'a, 'm> {
    /// Where to.
    pub assigned: &'a Assigned<'m>,
    /// What is written.
    pub map: &'a RunMap,
}

/// Refuses files for which their filesystems have no room: those of one filesystem together, holes
/// for nothing. One that a file replaces still takes its room meanwhile.
///
/// # Errors
/// `NoSpace`.
pub fn refuse_without_room(planned: &[Planned<'_, '_>]) -> Result<()> {
    let mut needs: BTreeMap<u64, Need<'_>> = BTreeMap::new();
    for one in planned {
        let TargetKind::File(format) = one.assigned.kind else {
            continue;
        };
        let directory = directory_of(&one.assigned.target);
        let device = fs::metadata(directory)
            .io_context("look at", directory)?
            .dev();
        let size = one.assigned.disk.identity.size;
        let bytes = match format {
            ImageFormat::Qcow2 => Qcow2File::room(one.map, size),
            ImageFormat::Raw => match ways(directory)? {
                Ways::NoHoles => size.0,
                _ => data_of(one.map).0,
            },
        };
        let need = needs.entry(device).or_insert(Need {
            directory,
            bytes: 0,
        });
        need.bytes = need.bytes.saturating_add(bytes);
    }
    needs.into_values().try_for_each(|need| {
        let Need { directory, bytes } = need;
        let Some(free) = free_in(directory)? else {
            return Ok(());
        };
        if bytes <= free.0 {
            return Ok(());
        }
        let what = format!(
            "{} has room for {free}, and what is to be written there takes {}; nothing was written",
            directory.display(),
            Bytes(bytes)
        );
        Err(Error::new(ErrorKind::NoSpace, what)
            .with_hint("make room there, or name a place with more"))
    })
}

/// Bytes of data in a map.
pub fn data_of(map: &RunMap) -> Bytes {
    let data = map
        .iter()
        .filter(|run| matches!(run.content, Content::Data { .. }));
    data.map(|run| run.bytes()).sum()
}

/// What a filesystem makes of what is written to it.
enum Ways {
    Usual,
    /// It may pack it.
    Packs,
    /// It writes zeros where others have holes.
    NoHoles,
}

/// By the magic numbers of `include/uapi/linux/magic.h`, of OpenZFS and of bcachefs. What servers
/// and processes do with it (NFS, SMB, 9p, Ceph, FUSE) is not known: they may pack it, too.
fn ways(directory: &Path) -> Result<Ways> {
    const PACKING: [FsType; 9] = [
        BTRFS_SUPER_MAGIC,
        FsType(0x2fc1_2fc1),
        FsType(0xca45_1a4e),
        FsType(0x6969),
        FsType(0xff53_4d42),
        FsType(0xfe53_4d42),
        FsType(0x0102_1997),
        FsType(0x00c3_6400),
        FsType(0x6573_5546),
    ];
    const WITHOUT_HOLES: [FsType; 2] = [MSDOS_SUPER_MAGIC, FsType(0x2011_bab0)];
    let kind = statfs(directory).io_context("ask about", directory)?;
    let kind = kind.filesystem_type();
    Ok(if PACKING.contains(&kind) {
        Ways::Packs
    } else if WITHOUT_HOLES.contains(&kind) {
        Ways::NoHoles
    } else {
        Ways::Usual
    })
}

/// What can still be written there; `None` where it cannot be room.
fn free_in(directory: &Path) -> Result<Option<Bytes>> {
    if matches!(ways(directory)?, Ways::Packs) {
        return Ok(None);
    }
    let room = statvfs(directory).io_context("ask for the room in", directory)?;
    if room.blocks() == 0 {
        return Ok(None);
    }
    // Root has what is kept back for it.
    let blocks = match nix::unistd::geteuid().is_root() {
        true => room.blocks_free(),
        false => room.blocks_available(),
    };
    Ok(Some(Bytes(blocks.saturating_mul(room.fragment_size()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_it_is_named_and_how_that_ends() {
        let mut uses: Vec<Use> = (0..20).map(|n| Use::Shown(format!("loop{n}"))).collect();
        uses.push(Use::Mounted("/data".into()));
        uses.rotate_right(1);
        let error = in_use(Path::new("/dev/vdb"), &uses);
        let said = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Busy);
        for words in ["mounted at /data", "loop3 shows bytes", "and 13 more"] {
            assert!(said.contains(words), "{said}");
        }
        let hint = error.hint().unwrap();
        assert!(hint.contains("losetup --detach /dev/loop2;"), "{hint}");
        assert!(hint.starts_with("unmount") && hint.ends_with("or name another target"));
    }
}
