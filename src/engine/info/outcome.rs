//! What a vault holds, as values.

use super::growth::Growth;
use crate::engine::collect::Tally;
use crate::error::Error;
use crate::model::{Bytes, SnapshotId};
use crate::store::{SideObjects, VaultRoom};
use jiff::Timestamp;

/// How much something holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// What blocks with data hold when they are unpacked, by the maps.
    pub logical: Bytes,
    /// What runs have put for it, as their manifests say.
    pub stored: Bytes,
    /// What nobody else needs, packed; about, where a segment is shared.
    pub unique: Bytes,
    /// What a collection frees, without packing anything anew, when it is gone: whole objects.
    pub freed: Bytes,
}

/// What a snapshot holds.
#[derive(Clone, Debug)]
pub struct SnapshotHolding {
    /// Its name.
    pub id: SnapshotId,
    /// Its host's name.
    pub host: String,
    /// The instant of its cut, as it says.
    pub time: Timestamp,
    /// The names of its disks.
    pub disks: Vec<String>,
    /// How much; freed when it alone is deleted.
    pub holding: Holding,
    /// Not all of its maps could be read: it may hold more.
    pub is_unread: bool,
}

/// What all copies of a disk hold.
#[derive(Clone, Debug, Default)]
pub struct DiskHolding {
    /// The host's name.
    pub host: String,
    /// Its name in the newest of them.
    pub name: String,
    /// Its serial number.
    pub serial: Option<String>,
    /// How long it is in the newest of them.
    pub size: Bytes,
    /// How many copies.
    pub snapshots: usize,
    /// How much; freed when no snapshot has this disk any more, manifests not counted.
    pub holding: Holding,
}

/// What all snapshots of a host hold.
#[derive(Clone, Debug, Default)]
pub struct HostHolding {
    /// Its name.
    pub name: String,
    /// How many snapshots.
    pub snapshots: usize,
    /// How much; freed when all of them are deleted.
    pub holding: Holding,
}

/// A snapshot, or part of one, that could not be read.
#[derive(Debug)]
pub struct UnreadPart {
    /// The snapshot, or one of those that need it.
    pub snapshot: SnapshotId,
    /// Why.
    pub why: Error,
}

/// What snapshots need and the vault has not.
#[derive(Clone, Debug, Default)]
pub struct MissingObjects {
    /// How many.
    pub objects: usize,
    /// The first names.
    pub first: Vec<String>,
}

/// A run that has left a session.
#[derive(Clone, Debug)]
pub struct RunSeen {
    /// What it says of itself.
    pub what: String,
    /// It was not heard of for a day: it was killed, as it seems.
    pub is_silent: bool,
}

/// What a vault holds.
#[derive(Debug, Default)]
pub struct VaultHoldings {
    /// Newest first.
    pub snapshots: Vec<SnapshotHolding>,
    /// Those that hold most alone come first.
    pub disks: Vec<DiskHolding>,
    /// The same.
    pub hosts: Vec<HostHolding>,
    /// All manifests.
    pub manifests: Bytes,
    /// What snapshots need.
    pub needed: Tally,
    /// In segments that are needed: about what no snapshot needs any more.
    pub dead: Bytes,
    /// What several hosts need; in no host's unique bytes.
    pub shared: Bytes,
    /// What no snapshot needs that could be read.
    pub unneeded: Tally,
    /// The same, but it may be of a run that is at work.
    pub at_work: Tally,
    /// Objects that are none of these.
    pub side: SideObjects,
    /// What could not be read, a thousand at most: it may need anything.
    pub unread: Vec<UnreadPart>,
    /// How many manifests could not be read; their snapshots are in no other list here.
    pub unread_manifests: usize,
    /// Something of the vault is damaged or missing.
    pub has_damage: bool,
    /// What snapshots need and is not there.
    pub missing: MissingObjects,
    /// Sessions that are there.
    pub runs: Vec<RunSeen>,
    /// The room where it is; `None`: it has none that could be asked for.
    pub room: Option<VaultRoom>,
    /// What is stored in a week; `None`: the vault is younger than one.
    pub growth: Option<Growth>,
}

impl VaultHoldings {
    /// All that was counted.
    pub fn bytes(&self) -> Bytes {
        let tallies = [self.needed, self.unneeded, self.at_work];
        let tallies = tallies.iter().map(|tally| tally.all().bytes);
        tallies.chain([self.manifests, self.side.bytes]).sum()
    }

    /// How many snapshots could not be read, or not all of them.
    pub fn unread_snapshots(&self) -> usize {
        let partly = self.snapshots.iter().filter(|one| one.is_unread).count();
        self.unread_manifests + partly
    }
}
