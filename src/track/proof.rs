//! When marks prove that everything else is unchanged. Pure: it must never ask the kernel anything,
//! and where it knows too little it finds no proof.

use super::source::{Epoch, Recall, Witness};
use crate::model::{Bytes, DiskIdentity};
use std::fmt;

/// One moment of one disk, as a manifest records it.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Which disk.
    pub disk: &'a DiskIdentity,
    /// What its tracker said: at a cut, what [`super::ChangeSource::cut`] returned.
    pub witness: &'a Witness,
}

/// Why marks prove nothing; its text is for manifests and users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofFailure {
    /// The machine was rebooted.
    Rebooted,
    /// The machine was suspended or hibernated: its disks may have been elsewhere.
    Slept,
    /// It is not the disk that it was: another disk sequence number or serial number.
    OtherDisk,
    /// The kernel has no disk sequence numbers and the disk has no serial number.
    Unidentified,
    /// The disk was resized.
    Resized(Bytes, Bytes),
    /// The disk's capacity was set, and is what it was.
    CapacitySet,
    /// Tracking was stopped and started: the programs are others.
    Restarted,
    /// The disk's marks were started again from nothing.
    MarksRenewed,
    /// The parent's cut has no name.
    Nameless,
    /// The tracker held the name of the parent's cut, if ever, too long ago.
    Forgotten,
    /// The tracker has never made the parent's cut: what it knows is of another history.
    OtherHistory,
    /// The kernel counts changes that the tracking programs did not see.
    Missed,
    /// The kernel's count is unknown: the disk was too busy when its counters were read, or keeps
    /// no statistics.
    Uncounted,
    /// Something happened to the disk that marks cannot express.
    Inexpressible,
    /// The epochs run backwards: the two moments are not of one history, or in the wrong order.
    Order,
}

impl fmt::Display for ProofFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebooted => f.write_str("the machine was restarted since the parent"),
            Self::Slept => f.write_str(
                "the machine was suspended or hibernated since the parent, and what became of the \
                 disk meanwhile was not seen",
            ),
            Self::OtherDisk => f.write_str("it is not the disk that the parent was taken of"),
            Self::Unidentified => f.write_str(
                "this kernel numbers no disks and this one has no serial number, \
                 so it cannot be told from another",
            ),
            Self::Resized(old, new) => {
                write!(f, "its size went from {} to {} bytes", old.0, new.0)
            }
            Self::CapacitySet => f.write_str(
                "its capacity was set since the parent, or the kernel's log had no room for all \
                 that would tell it: its end may have been cut off and have come back, or another \
                 file have taken its place",
            ),
            Self::Nameless => {
                f.write_str("the parent is of an earlier version, which gave its cut no name")
            }
            Self::Forgotten => f.write_str(
                "thousands of cuts were made since the parent, and its own is not remembered",
            ),
            Self::OtherHistory => f.write_str(
                "this machine does not know of the parent's cut: it was taken back to an earlier \
                 state, or is a copy of the one that made it",
            ),
            Self::Restarted => f.write_str("tracking was restarted since the parent"),
            Self::MarksRenewed => f.write_str("the disk's marks were begun anew since the parent"),
            Self::Missed => f.write_str(
                "the kernel counts changes since the parent that the tracking programs did not see",
            ),
            Self::Uncounted => f.write_str(
                "the kernel's own count of changes could not be compared with the tracker's \
                 (the disk was too busy at that moment, or its queue/iostats is off)",
            ),
            Self::Inexpressible => f.write_str(
                "commands reached the disk since the parent whose effect cannot be tracked \
                 (sent past the block layer, or reaching past the disk's end)",
            ),
            Self::Order => f.write_str("the parent's epoch is not before the present one"),
        }
    }
}

/// The epoch whose marks, and later ones, are all that changed on the disk since the parent's cut.
/// `recall` is what the tracker knows of that cut. `now.witness` must have been taken after the
/// last [`super::ChangeSource::advance`] that the marks are read for, or it vouches for less than
/// is read.
///
/// # Errors
/// The first reason why the marks prove nothing: the disk must be compared block by block.
pub fn changes_since(
    parent: Moment<'_>,
    recall: Recall,
    now: Moment<'_>,
) -> Result<Epoch, ProofFailure> {
    same_life(parent, now)?;
    match recall {
        Recall::Known => {}
        Recall::Nameless => return Err(ProofFailure::Nameless),
        Recall::Forgotten => return Err(ProofFailure::Forgotten),
        Recall::Unknown => return Err(ProofFailure::OtherHistory),
    }
    undisturbed(parent.witness, now.witness)
}

/// The same between two moments of one run, or of a parent whose cut was found to be known when the
/// run was planned.
///
/// # Errors
/// The first reason why the marks prove nothing.
pub fn unbroken(then: Moment<'_>, now: Moment<'_>) -> Result<Epoch, ProofFailure> {
    same_life(then, now)?;
    undisturbed(then.witness, now.witness)
}

/// Sleep that is none: two clocks cannot be read at the same time.
const WINK_MS: u64 = 500;

/// The same machine, disk, programs and marks.
fn same_life(then: Moment<'_>, now: Moment<'_>) -> Result<(), ProofFailure> {
    let (old, new) = (then.witness, now.witness);
    if old.boot_id != new.boot_id {
        return Err(ProofFailure::Rebooted);
    }
    same_disk(then.disk, now.disk)?;
    if (old.programs, old.capacity) != (new.programs, new.capacity) {
        return Err(ProofFailure::Restarted);
    }
    if old.map != new.map {
        return Err(ProofFailure::MarksRenewed);
    }
    Ok(())
}

/// Nothing happened between the two that marks do not show.
fn undisturbed(old: &Witness, new: &Witness) -> Result<Epoch, ProofFailure> {
    if old.asleep_ms.abs_diff(new.asleep_ms) > WINK_MS {
        return Err(ProofFailure::Slept);
    }
    if old.resizes != new.resizes {
        return Err(ProofFailure::CapacitySet);
    }
    match (old.unaccounted, new.unaccounted) {
        (Some(old), Some(new)) if old == new => {}
        (Some(_), Some(_)) => return Err(ProofFailure::Missed),
        _ => return Err(ProofFailure::Uncounted),
    }
    if old.voids != new.voids {
        return Err(ProofFailure::Inexpressible);
    }
    if old.epoch > new.epoch || old.epoch.0 == 0 {
        return Err(ProofFailure::Order);
    }
    Ok(old.epoch)
}

fn same_disk(old: &DiskIdentity, new: &DiskIdentity) -> Result<(), ProofFailure> {
    let same = match (old.diskseq, new.diskseq) {
        (Some(old), Some(new)) => old == new,
        (None, None) => match (&old.serial, &new.serial) {
            (Some(old), Some(new)) => old == new,
            (None, None) => return Err(ProofFailure::Unidentified),
            _ => false,
        },
        _ => false,
    };
    if !same || old.dev != new.dev {
        return Err(ProofFailure::OtherDisk);
    }
    if old.size != new.size {
        return Err(ProofFailure::Resized(old.size, new.size));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DevNumber;

    fn disk() -> DiskIdentity {
        DiskIdentity {
            name: "vda".into(),
            dev: DevNumber {
                major: 254,
                minor: 0,
            },
            size: Bytes(1 << 30),
            logical_block: 512,
            serial: Some("s1".into()),
            wwn: None,
            diskseq: Some(9),
            table_id: None,
        }
    }

    fn witness() -> Witness {
        Witness {
            boot_id: "b".into(),
            programs: [10, 11],
            map: 12,
            misses: [3, 4],
            unaccounted: Some(-7),
            voids: 5,
            capacity: Some([13, 14]),
            resizes: 2,
            asleep_ms: 7000,
            epoch: Epoch(6),
            name: None,
        }
    }

    fn judge(change: impl FnOnce(&mut DiskIdentity, &mut Witness)) -> Result<Epoch, ProofFailure> {
        judge_from(|_, _| {}, change)
    }

    fn judge_from(
        before: impl FnOnce(&mut DiskIdentity, &mut Witness),
        change: impl FnOnce(&mut DiskIdentity, &mut Witness),
    ) -> Result<Epoch, ProofFailure> {
        let (mut old_disk, mut old) = (disk(), witness());
        before(&mut old_disk, &mut old);
        let (mut new_disk, mut new) = (old_disk.clone(), old.clone());
        new.epoch = Epoch(8);
        change(&mut new_disk, &mut new);
        changes_since(
            Moment {
                disk: &old_disk,
                witness: &old,
            },
            Recall::Known,
            Moment {
                disk: &new_disk,
                witness: &new,
            },
        )
    }

    #[test]
    fn an_undisturbed_history_is_a_proof() {
        assert_eq!(judge(|_, _| {}), Ok(Epoch(6)));
        assert_eq!(judge(|_, now| now.epoch = Epoch(6)), Ok(Epoch(6)));
        // A disk may get another name in the meantime, and its partition table may be edited.
        let renamed = judge(|disk, _| {
            disk.name = "vdb".into();
            disk.table_id = Some("t".into());
        });
        assert_eq!(renamed, Ok(Epoch(6)));
    }

    #[test]
    fn each_break_in_the_history_voids_it() {
        let cases: [(Result<Epoch, ProofFailure>, ProofFailure); 13] = [
            (
                judge(|_, now| now.boot_id = "c".into()),
                ProofFailure::Rebooted,
            ),
            (
                judge(|disk, _| disk.diskseq = Some(10)),
                ProofFailure::OtherDisk,
            ),
            (
                judge(|disk, _| disk.dev.minor = 16),
                ProofFailure::OtherDisk,
            ),
            (
                judge(|disk, _| disk.size = Bytes(2 << 30)),
                ProofFailure::Resized(Bytes(1 << 30), Bytes(2 << 30)),
            ),
            (
                judge(|_, now| now.programs[1] = 99),
                ProofFailure::Restarted,
            ),
            (judge(|_, now| now.map = 99), ProofFailure::MarksRenewed),
            (judge(|_, now| now.capacity = None), ProofFailure::Restarted),
            (judge(|_, now| now.resizes += 1), ProofFailure::CapacitySet),
            (judge(|_, now| now.asleep_ms += 60_000), ProofFailure::Slept),
            (judge(|_, now| now.asleep_ms = 0), ProofFailure::Slept),
            (judge(|_, now| now.voids += 1), ProofFailure::Inexpressible),
            (judge(|_, now| now.epoch = Epoch(5)), ProofFailure::Order),
            (
                judge(|disk, _| disk.diskseq = None),
                ProofFailure::OtherDisk,
            ),
        ];
        for (verdict, reason) in cases {
            assert!(!reason.to_string().is_empty());
            assert_eq!(verdict, Err(reason));
        }
        let never_cut = judge_from(|_, old| old.epoch = Epoch(0), |_, _| {});
        assert_eq!(never_cut, Err(ProofFailure::Order));
    }

    #[test]
    fn a_parent_must_be_of_this_very_history() {
        let disk = disk();
        let (parent, mut witness) = (witness(), witness());
        witness.epoch = Epoch(8);
        let moment = |witness| Moment {
            disk: &disk,
            witness,
        };
        let judge = |recall| changes_since(moment(&parent), recall, moment(&witness));
        assert_eq!(judge(Recall::Known), Ok(Epoch(6)));
        for (recall, reason) in [
            (Recall::Nameless, ProofFailure::Nameless),
            (Recall::Forgotten, ProofFailure::Forgotten),
            (Recall::Unknown, ProofFailure::OtherHistory),
        ] {
            assert!(!reason.to_string().is_empty());
            assert_eq!(judge(recall), Err(reason));
        }
        // Within one run there is no parent to be known.
        assert_eq!(unbroken(moment(&parent), moment(&witness)), Ok(Epoch(6)));
    }

    #[test]
    fn clocks_that_were_not_read_at_the_same_time_are_no_sleep() {
        assert_eq!(judge(|_, now| now.asleep_ms += 1), Ok(Epoch(6)));
    }

    #[test]
    fn without_disk_numbers_the_serial_decides() {
        let old_kernel = |disk: &mut DiskIdentity, _: &mut Witness| disk.diskseq = None;
        assert_eq!(judge_from(old_kernel, |_, _| {}), Ok(Epoch(6)));
        let other = judge_from(old_kernel, |disk, _| disk.serial = Some("s2".into()));
        assert_eq!(other, Err(ProofFailure::OtherDisk));
        let nameless = |disk: &mut DiskIdentity, _: &mut Witness| {
            disk.diskseq = None;
            disk.serial = None;
        };
        assert_eq!(
            judge_from(nameless, |_, _| {}),
            Err(ProofFailure::Unidentified)
        );
    }

    #[test]
    fn the_kernels_own_count_decides_whether_anything_was_missed() {
        // What one copy was skipped for, the other may have seen.
        assert_eq!(judge(|_, now| now.misses = [9, 9]), Ok(Epoch(6)));
        for other in [-8, -6, 0] {
            let lost = judge(|_, now| now.unaccounted = Some(other));
            assert_eq!(lost, Err(ProofFailure::Missed));
        }
        let uncounted = judge(|_, now| now.unaccounted = None);
        assert_eq!(uncounted, Err(ProofFailure::Uncounted));
        let never_told = judge_from(|_, old| old.unaccounted = None, |_, _| {});
        assert_eq!(never_told, Err(ProofFailure::Uncounted));
    }
}
