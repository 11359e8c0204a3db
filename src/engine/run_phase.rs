//! What a run is doing, as a value. Its text is for people, and for the record of a job.

use crate::model::printable::one_line;
use crate::model::{Bytes, SnapshotId, counted};
use std::fmt::{self, Display};
use std::path::PathBuf;

/// What a run is doing. As text it is one line, and what comes from elsewhere is escaped in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// A snapshot: the disks are copied while they are in use.
    Copying {
        /// Counts from 1, and again from 1 after writers were slowed down, or a copy was made void.
        pass: usize,
    },
    /// A snapshot: what writes to the disks is about to be slowed down.
    SlowingWriters,
    /// A snapshot: applications are about to be quiesced by their hooks.
    HoldingApplications,
    /// A snapshot: filesystems are about to be frozen, and the rest is read.
    Cutting,
    /// A snapshot: nothing is frozen any more; applications are about to be let go.
    LettingApplicationsGo,
    /// A snapshot: the last attempt to cut failed; the next comes after a pause.
    WaitingForQuiet,
    /// A snapshot of no one instant: what is left is copied while the disks are in use.
    CopyingUnfrozen,
    /// A snapshot: the cut is had, and what was read is put into the vault.
    StoringRest,
    /// A snapshot: its manifest is put.
    Committing,
    /// A restore: the index of this disk is read.
    ReadingDiskIndex(String),
    /// A restore: a disk is written to this target.
    Restoring(PathBuf),
    /// A verification, a mirror: the indexes of this snapshot are read.
    ReadingSnapshotIndex(SnapshotId),
    /// A collection: as many index objects are read.
    ReadingIndexes(usize),
    /// A collection: what is in the vault is listed.
    ListingVault,
    /// A collection: listings may be late, so it waits.
    WaitingForListings,
    /// A collection: segments that are mostly dead are given up.
    RewritingSegments {
        /// How many.
        segments: usize,
        /// What is copied out of them.
        moved: Bytes,
        /// What is free in the end.
        freed: Bytes,
        /// Requests that read, about.
        gets: u64,
        /// Requests that put or list, about.
        puts: u64,
    },
    /// A collection: as many objects are deleted.
    DeletingObjects(usize),
    /// A verification: as many segments are read.
    ReadingSegments(usize),
    /// A verification: the ends of as many segments are read.
    ReadingFooters(usize),
    /// A verification: what is damaged is looked at chunk by chunk.
    FindingLost,
    /// A repair: as many objects are put right.
    Repairing(usize),
    /// A recovery: as many objects are looked at and brought back.
    BringingBack(usize),
    /// A mirror: what is in both places is listed.
    ListingPlaces,
    /// A mirror: what this snapshot needs is put into the second place.
    Mirroring(SnapshotId),
    /// A prune, a collection: the manifests of as many snapshots are read.
    ReadingManifests(usize),
    /// A prune: as many snapshots are deleted.
    Deleting(usize),
    /// A verification against a disk.
    Comparing {
        /// The disk's name on this host.
        disk: String,
        /// What it is compared with.
        snapshot: SnapshotId,
    },
}

impl Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copying { pass } => return write!(f, "copying, pass {pass}"),
            Self::SlowingWriters => "slowing down what writes",
            Self::HoldingApplications => "holding applications",
            Self::Cutting => "cutting",
            Self::LettingApplicationsGo => "letting applications go",
            Self::WaitingForQuiet => "waiting for a quiet moment",
            Self::CopyingUnfrozen => "copying what changes, as it is",
            Self::StoringRest => "storing the rest",
            Self::Committing => "committing",
            Self::ReadingDiskIndex(disk) => {
                return write!(f, "reading the index of {}", one_line(disk));
            }
            Self::Restoring(target) => {
                let target = target.display().to_string();
                return write!(f, "restoring to {}", one_line(&target));
            }
            Self::ReadingSnapshotIndex(snapshot) => {
                return write!(f, "reading the index of {snapshot}");
            }
            Self::ReadingIndexes(count) => {
                return write!(f, "reading {}", counted(*count, "index object"));
            }
            Self::ListingVault => "listing the vault",
            Self::WaitingForListings => "waiting, as listings may be late",
            Self::RewritingSegments {
                segments,
                moved,
                freed,
                gets,
                puts,
            } => {
                return write!(
                    f,
                    "rewriting {segments} segments to free {freed}: {moved} are copied, by about \
                     {gets} requests that read and {puts} that put or list"
                );
            }
            Self::DeletingObjects(count) => {
                return write!(f, "deleting {}", counted(*count, "object"));
            }
            Self::ReadingSegments(count) => {
                return write!(f, "reading {}", counted(*count, "segment"));
            }
            Self::ReadingFooters(count) => {
                return write!(f, "reading the ends of {}", counted(*count, "segment"));
            }
            Self::FindingLost => "looking for what is lost",
            Self::Repairing(count) => {
                return write!(f, "putting {} right", counted(*count, "object"));
            }
            Self::BringingBack(count) => {
                return write!(f, "bringing {} back", counted(*count, "object"));
            }
            Self::ListingPlaces => "listing both places",
            Self::Mirroring(snapshot) => return write!(f, "mirroring {snapshot}"),
            Self::ReadingManifests(count) => {
                return write!(f, "reading {}", counted(*count, "manifest"));
            }
            Self::Deleting(count) => {
                return write!(f, "deleting {}", counted(*count, "snapshot"));
            }
            Self::Comparing { disk, snapshot } => {
                return write!(f, "comparing {} with {snapshot}", one_line(disk));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_one_line_whatever_a_target_or_a_disk_is_called() {
        let texts = [
            RunPhase::Restoring("/tmp/a\nb\u{1b}[2J".into()),
            RunPhase::ReadingDiskIndex("a\nb\u{1b}[2J".into()),
            RunPhase::Comparing {
                disk: "a\nb\u{1b}[2J".into(),
                snapshot: SnapshotId::after(None, 1),
            },
        ];
        for text in texts.map(|phase| phase.to_string()) {
            assert!(text.contains('a') && text.contains("[2J"), "{text:?}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn phases_read_as_they_always_have() {
        let phase = RunPhase::Copying { pass: 3 };
        assert_eq!(phase.to_string(), "copying, pass 3");
        let phase = RunPhase::Restoring("/dev/vdb".into());
        assert_eq!(phase.to_string(), "restoring to /dev/vdb");
    }
}
