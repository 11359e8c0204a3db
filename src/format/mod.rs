//! What the bytes in a vault mean: `FORMAT.md` in code. No files here and no store: bytes in,
//! values out. Every length that comes from outside is checked against a limit before it is
//! believed.

mod block_dedup;
mod borne;
mod chunk;
mod codec;
mod condemned;
mod crypt;
mod damage;
mod drill;
mod envelope;
mod footer_copies;
mod index;
mod json;
mod keep;
mod key_entry;
mod manifest;
mod mount_record;
mod rewritten;
mod sample_memory;
mod seal;
mod segment;
mod segment_end;
mod segment_seal;
mod segment_writer;
mod style;
mod vault_info;
mod vault_keys;

pub use block_dedup::BlockDedup;
pub use borne::{MOST_BORNE, ManifestLikeness};
pub use chunk::{CHUNK_HEADER, ChunkHash, DecodedChunk, EncodedChunk, Packed};
pub use codec::{Codec, Compression, ZstdLevel};
pub use condemned::{Condemned, PlanList, PlanPart};
pub use damage::{DamagedChunks, MAX_DAMAGE};
pub use drill::{
    BootMark, BootProof, DrillKind, DrillName, DrillOutcome, DrillRecord, DrillStep, KeptDigest,
    ManifestHash,
};
pub use envelope::ObjectKind;
pub use footer_copies::{FooterCopies, FooterCopiesRef, FooterCopiesWriter};
pub use index::{MAX_RUNS, decode_index, encode_index};
pub use json::from_json;
pub use keep::{KeepRecord, MAX_HOLD};
pub use key_entry::{KeyCost, KeyEntry, KeyName, NewEntry};
pub use manifest::{
    DiskRecord, FREE_RULES, FilesystemRecord, HookRecord, HookRecords, HookStatus, IndexRef,
    LookedRecord, MAX_KEEP_SECONDS, Manifest, SessionRecord,
};
pub use mount_record::{EscapedPath, MountRecord, OtherMountRecord, is_the_kernels_own};
pub use rewritten::{EncryptionAlarm, RewrittenRecord};
pub use sample_memory::SampleMemory;
pub use seal::Sealer;
pub use segment::{
    Footer, MAX_SEGMENT, SEGMENT_HEADER, SEGMENT_TARGET, SLOTS_MAX, SlotEntry, TRAILER, Trailer,
    check_sealed_segment, is_end_of, lengths_with,
};
pub use segment_writer::SegmentWriter;
pub use vault_info::{Encryption, VaultInfo};
pub use vault_keys::VaultKeys;

use crate::error::{Error, ErrorKind};

/// The version of the format that is written, and the newest that is read.
pub const VERSION: u16 = 2;

/// Data that does not mean what the format says.
fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, what)
}

/// Little-endian numbers at fixed places in a header whose length was checked.
mod wire {
    pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_le_bytes(array(bytes, at))
    }

    pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(array(bytes, at))
    }

    pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(array(bytes, at))
    }

    /// `N` bytes from `at` on; the caller has checked that they are there.
    pub fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        bytes[at..at + N].try_into().expect("the slice has N bytes")
    }
}
