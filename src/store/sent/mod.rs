//! What a run has put so far, noted on the host: which blocks of which disk are in which segment.
//! When the run is killed, or fails, the next one finds there what need not be sent again.
//!
//! One file a run and disk, in a directory of this user's alone, locked by its run. A note is
//! believed no more than any file: its entries have hashes, the segments are looked for in the
//! vault, and a block counts only where its own hash is the one in the segment's footer. So a note
//! that is lost, old or damaged costs time alone. Nothing is written while filesystems may be
//! frozen, as the notes may lie on one of them.

mod entry;
mod find;
mod notes;

pub use entry::{NoteHead, Owner};
pub use find::{HeldNote, Search, SentBefore};
pub(in crate::store) use notes::Origin;
pub use notes::{SentNotes, SentRun};

/// Most runs of blocks that are noted of a run's disks, or read back: 60 MiB as maps. They say
/// where 31 TiB are that do not shrink and were sent in order; the rest is sent again.
const MOST_RUNS: usize = 1 << 20;
