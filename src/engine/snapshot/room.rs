//! Whether a vault has room for what a run is to store: asked before anything is read, and before
//! anything is held or frozen. An estimate only ever warns; a run ends for what is certain alone.
//! Nothing is asked here while anything is held or frozen.

use super::disk_run::DiskRun;
use super::packed_before::PackedBefore;
use crate::error::{Error, ErrorKind};
use crate::model::{Bytes, Mode};
use crate::store::VaultRoom;

/// What every snapshot takes: its session, index objects, its manifest.
const LEAST: Bytes = Bytes(1 << 20);
const LEAST_FILES: u64 = 8;
/// Where a segment ends, about.
const SEGMENT: u64 = 31 << 20;
/// A snapshot that had less to pack tells nothing of how well it packs.
const TELLING: Bytes = Bytes(1 << 20);
/// Most disks whose estimates are told one by one.
const MOST_TOLD: usize = 8;

/// What a disk is about to have stored.
#[derive(Clone, Debug)]
pub(super) struct StoreEstimate {
    name: String,
    bytes: Bytes,
    /// What it rests on, as text.
    source: String,
}

impl StoreEstimate {
    /// Of a disk, before its blocks are copied; `None`: nobody can tell.
    pub(super) fn of(disk: &DiskRun) -> Option<Self> {
        let wanted = disk.wanted_bytes();
        let estimate = estimate(disk.mode(), wanted, disk.packed_before());
        estimate.map(|(bytes, source)| Self {
            name: disk.name().to_owned(),
            bytes,
            source,
        })
    }
}

fn estimate(mode: Mode, wanted: Bytes, before: Option<PackedBefore>) -> Option<(Bytes, String)> {
    match (mode, before) {
        // What differs is not known before it is read.
        (Mode::Compare, None) => None,
        (Mode::Compare, Some(before)) => {
            let source = "as much as for its last snapshot, as nobody knows what differs";
            Some((before.stored.min(wanted), source.into()))
        }
        (_, Some(before)) if before.changed >= TELLING => {
            let packed = u128::from(wanted.0) * u128::from(before.stored.0);
            let packed = packed / u128::from(before.changed.0);
            let bytes = Bytes(u64::try_from(packed).unwrap_or(u64::MAX).min(wanted.0));
            let source = format!("{wanted} to read, which packs as for its last snapshot");
            Some((bytes, source))
        }
        _ => {
            let source = format!("half of the {wanted} to read, as nobody knows how it packs");
            Some((Bytes(wanted.0 / 2), source))
        }
    }
}

/// Whether there is no room for any snapshot; `held`: what is packed already, and put nowhere yet.
pub(super) fn refuse_full(room: VaultRoom, held: Bytes) -> Option<Error> {
    let free = room.free;
    let needed = Bytes(LEAST.0.saturating_add(held.0));
    let what = match room.free_files {
        Some(files) if files < LEAST_FILES => {
            format!("room for {files} more files, and a snapshot needs {LEAST_FILES} at least")
        }
        _ if free < needed => format!("{free} free, and at least {needed} more is to be stored"),
        _ => return None,
    };
    let what = format!(
        "the filesystem that the vault is on has {what}: nothing was held or frozen, and no \
         snapshot was made"
    );
    Some(Error::new(ErrorKind::NoSpace, what).with_hint(
        "make room: `stillpoint info` says what holds most, `prune` and two runs of `gc` free \
         it; or move the vault to a larger disk",
    ))
}

/// A warning, where there may be too little room for what is about to be stored.
pub(super) fn warn_of_little(room: VaultRoom, disks: &[StoreEstimate]) -> Option<String> {
    let bytes: Bytes = disks.iter().map(|one| one.bytes).sum();
    let bytes = Bytes(bytes.0.saturating_add(LEAST.0));
    let files = bytes.0 / SEGMENT + LEAST_FILES;
    let short = match room.free_files {
        _ if room.free < bytes => format!("{} free", room.free),
        Some(free) if free < files => format!("room for {free} more files"),
        _ => return None,
    };
    let told = disks.iter().take(MOST_TOLD);
    let told = told.map(|one| format!("{}: {} ({})", one.name, one.bytes, one.source));
    let told: Vec<String> = told.collect();
    let more = match disks.len().checked_sub(MOST_TOLD) {
        Some(more) if more > 0 => format!("; and {more} more disks"),
        _ => String::new(),
    };
    Some(format!(
        "the filesystem that the vault is on has {short}, and about {bytes} in {files} files are \
         to be stored, by an estimate: {}{more}; `stillpoint info` says what deleting would free",
        told.join("; "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(free: u64, free_files: Option<u64>) -> VaultRoom {
        VaultRoom {
            all: Bytes(1 << 40),
            free: Bytes(free),
            free_files,
        }
    }

    fn before(changed: u64, stored: u64) -> Option<PackedBefore> {
        Some(PackedBefore {
            changed: Bytes(changed),
            stored: Bytes(stored),
        })
    }

    #[test]
    fn an_estimate_rests_on_the_last_snapshot_or_says_that_it_rests_on_nothing() {
        let bytes = |mode, wanted, before| {
            let found = estimate(mode, Bytes(wanted), before);
            found.map(|(bytes, _)| bytes.0)
        };
        for mode in [Mode::Full, Mode::Incremental] {
            assert_eq!(bytes(mode, 90, None), Some(45));
            assert_eq!(bytes(mode, 90, before(8 * MIB, 2 * MIB)), Some(22));
            // Never more than what is read, whatever a manifest says.
            assert_eq!(bytes(mode, 90, before(MIB, u64::MAX)), Some(90));
            assert_eq!(bytes(mode, u64::MAX, before(MIB, u64::MAX)), Some(u64::MAX));
            // Of little nothing follows.
            assert_eq!(bytes(mode, 90, before(MIB - 1, 0)), Some(45));
        }
        assert_eq!(bytes(Mode::Compare, 90, None), None);
        assert_eq!(bytes(Mode::Compare, 90, before(MIB, 7)), Some(7));
        assert_eq!(bytes(Mode::Compare, 90, before(MIB, 700)), Some(90));
    }

    #[test]
    fn only_what_is_certain_ends_a_run() {
        let refused = |room, held| refuse_full(room, Bytes(held)).map(|error| error.to_string());
        assert_eq!(refused(room(MIB, None), 0), None);
        assert_eq!(refused(room(MIB, Some(8)), 0), None);
        let said = refused(room(MIB - 1, None), 0).unwrap();
        assert!(said.contains("1024.00 KiB free") && said.contains("nothing was held or frozen"));
        let said = refused(room(20 * MIB, None), 20 * MIB).unwrap();
        assert!(
            said.contains("20.00 MiB free, and at least 21.00 MiB"),
            "{said}"
        );
        let said = refused(room(1 << 40, Some(7)), 0).unwrap();
        assert!(said.contains("room for 7 more files"), "{said}");
        assert!(refused(room(u64::MAX, None), u64::MAX).is_none());
    }

    #[test]
    fn what_may_be_too_much_is_told_with_what_that_rests_on() {
        let disk = |name: &str, mib: u64| StoreEstimate {
            name: name.into(),
            bytes: Bytes(mib * MIB),
            source: format!("as {name} says"),
        };
        let disks = [disk("vda", 100), disk("vdb", 210)];
        assert_eq!(warn_of_little(room(311 * MIB, None), &disks), None);
        let said = warn_of_little(room(310 * MIB, None), &disks).unwrap();
        for words in [
            "310.00 MiB free",
            "311.00 MiB in 18 files",
            "vdb: 210.00 MiB (as vdb says)",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(warn_of_little(room(1 << 40, Some(18)), &disks), None);
        let said = warn_of_little(room(1 << 40, Some(17)), &disks).unwrap();
        assert!(said.contains("room for 17 more files"), "{said}");
        let many: Vec<_> = (0..50).map(|_| disk("vda", 1)).collect();
        let said = warn_of_little(room(0, None), &many).unwrap();
        assert!(
            said.contains("; and 42 more disks") && said.len() < 1000,
            "{said}"
        );
    }
}
