//! What a tracker says for itself, so that a later snapshot can judge whether its marks are proof.

use serde::{Deserialize, Serialize};

/// A span of time between two cuts or passes. A block's mark is the epoch of its last write.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// A cut's name, which no other has: 128 random bits, written as 32 hex digits. The number of an
/// epoch comes again where a machine is taken back to an earlier state; its name does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CutName(#[serde(with = "hex::serde")] pub [u8; 16]);

/// What a tracker can say for itself at one moment. Two of these, one from the parent's cut and one
/// from now, decide whether the marks between them prove anything: see `track::proof`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Kernel ids of the two copies of the program.
    pub programs: [u32; 2],
    /// Kernel id of the map that holds this disk's marks.
    pub map: u32,
    /// How often the kernel skipped each copy of the program (`recursion_misses`): for people.
    pub misses: [u64; 2],
    /// How many sectors the kernel's statistics of this disk count as written or discarded beyond
    /// what the programs saw, up to a constant: compare it, do not read it. Whatever makes an event
    /// escape both programs shows here. `None` when the disk was too busy to tell, or keeps no
    /// statistics.
    pub unaccounted: Option<i64>,
    /// How often something happened to this disk that marks cannot express (passthrough commands,
    /// requests with too many ranges, sectors past the end).
    pub voids: u64,
    /// Kernel ids of the programs that notice when the disk's capacity is set. `None` where the
    /// kernel cannot run such.
    #[serde(default)]
    pub capacity: Option<[u32; 2]>,
    /// How often the disk's capacity was set to another; of a loop device, how often at all.
    #[serde(default)]
    pub resizes: u64,
    /// Milliseconds that the machine was suspended or hibernated since it was started.
    #[serde(default)]
    pub asleep_ms: u64,
    /// The epoch that marks are made with now; in a cut's record, the one that began there.
    pub epoch: Epoch,
    /// In a cut's record, the name that the tracker holds beside that epoch. Records of earlier
    /// versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<CutName>,
}
