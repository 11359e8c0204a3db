//! A manifest: the record whose presence makes a snapshot exist. JSON in an envelope.

use super::block_dedup::BlockDedup;
use super::envelope::ObjectKind;
use super::footer_copies::FooterCopiesRef;
use super::json::from_json;
use super::mount_record::{MountRecord, OtherMountRecord};
use super::rewritten::RewrittenRecord;
use super::seal::Sealer;
use super::{VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    BLOCK_SIZE, BlockSet, Bytes, DiskIdentity, Extent, Level, Mode, ObjectId, RequestCounts,
    SECTOR_SIZE, SnapshotId, Witness,
};
use jiff::{SignedDuration, Timestamp};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Most index objects of one disk. A disk of 2^32 blocks, each a run of its own, has 4096 of them
/// as a base, and may get as many again as a difference.
const MAX_INDEX_PARTS: usize = 8192;
/// Most disks of one snapshot.
const MAX_DISKS: usize = 4096;
/// The longest name of a host, a disk or a boot: the kernel's are at most 64 bytes.
const MAX_NAME: usize = 255;
/// The longest serial number, world-wide name or table's name: what sysfs shows is at most a page.
const MAX_DISK_ID: usize = 4096;
/// Most values in a manifest. One of 16 MiB that names nothing but index objects holds 900,000.
pub(super) const MAX_VALUES: usize = 1 << 20;
/// The longest time that a snapshot is kept for, in seconds: 3,650 days.
pub const MAX_KEEP_SECONDS: u64 = 3650 * 24 * 60 * 60;
/// Most values in a session's record.
const MAX_SESSION_VALUES: usize = 256;

/// One snapshot: the disks of one run, cut at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub format: u16,
    /// The snapshot's name.
    pub snapshot: SnapshotId,
    /// The vault it belongs to.
    pub vault: ObjectId,
    /// The instant of the cut.
    pub time: Timestamp,
    /// When the run began.
    pub started: Timestamp,
    /// The host's name.
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
    /// The version of stillpoint that wrote it.
    pub writer: String,
    /// How consistent the whole is.
    pub level: Level,
    /// How consistent it was asked to be.
    pub requested_level: Level,
    /// How long the filesystems stood frozen, microseconds; absent when none was.
    pub freeze_us: Option<u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Labels given by the user.
    pub tags: BTreeMap<String, String>,
    /// What became of the hooks; absent when none were asked for.
    pub hooks: Option<HookRecords>,
    /// What the run had asked of the vault when it put this; absent where nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestCounts>,
    /// How long it must stay after the cut, and after the store got this, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_seconds: Option<u64>,
    /// How much of what the vault had was looked at, so that nothing be stored twice; absent where
    /// that was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<LookedRecord>,
    /// The names that it has borne before a collector gave its blocks other places, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<SnapshotId>,
    /// When the store got the first of those, as the collector saw it; absent where it got none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Timestamp>,
    /// Across what `vault.json` told the run to store equal blocks once; absent: an early writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<BlockDedup>,
    /// What was mounted over places in the disks' filesystems, and is not in the snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_mounts: Vec<OtherMountRecord>,
    /// How many mounts were too many to be named.
    #[serde(default, skip_serializing_if = "is_none_left_out")]
    pub mounts_left_out: u64,
    /// The disks.
    pub disks: Vec<DiskRecord>,
}

/// Objects of copies of footers, in which a run looks for what the vault has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedRecord {
    /// How many were read.
    pub read: u64,
    /// How many were left out, as far as they are known.
    pub left_out: u64,
}

/// What became of the two hooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookRecords {
    /// Before the cut.
    pub prescript: HookRecord,
    /// After it.
    pub postscript: HookRecord,
    /// How long applications were held, from the prescript's start to the postscript's end,
    /// microseconds; absent when the cut was without hooks.
    #[serde(default)]
    pub held_us: Option<u64>,
}

/// What became of one hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookRecord {
    /// In a word.
    pub status: HookStatus,
    /// In a sentence.
    pub reason: Option<String>,
    /// The end of its output, if there was any.
    #[serde(default)]
    pub output: Option<String>,
    /// How long it ran, microseconds.
    #[serde(default)]
    pub took_us: Option<u64>,
}

impl HookRecord {
    /// Of a hook that was not run, or of which nothing more is known.
    pub fn new(status: HookStatus, reason: Option<String>) -> Self {
        Self {
            status,
            reason,
            output: None,
            took_us: None,
        }
    }
}

/// What became of a hook, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the contract say it")]
pub enum HookStatus {
    Ran,
    Failed,
    TimedOut,
    Rejected,
    Absent,
    NotRun,
}

impl HookStatus {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Failed => "failed",
            Self::TimedOut => "took too long",
            Self::Rejected => "rejected, not run",
            Self::Absent => "absent",
            Self::NotRun => "not run",
        }
    }
}

/// The rules by which free space is believed now: a filesystem's word counts for its own bytes
/// alone, and what is free in the parent is asked for again.
pub const FREE_RULES: u16 = 1;

/// One disk of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// Which disk.
    pub identity: DiskIdentity,
    /// How consistent its copy is.
    pub level: Level,
    /// How its blocks were found.
    pub mode: Mode,
    /// Why so.
    pub reason: String,
    /// The snapshot that this one was made as a difference to.
    pub parent: Option<SnapshotId>,
    /// Whether free space was copied too.
    pub all_blocks: bool,
    /// How many passes copied blocks, the one in the window among them.
    pub passes: u32,
    /// Bytes read from the disk.
    pub read_bytes: Bytes,
    /// Bytes in blocks that differ from the parent, or were looked at when there is none.
    pub changed_bytes: Bytes,
    /// Bytes added to the vault for it.
    pub stored_bytes: Bytes,
    /// Bytes in blocks that a run that was cut off had put already.
    #[serde(default)]
    pub resumed_bytes: Bytes,
    /// Bytes in blocks that are in segments that others had put, or earlier runs.
    #[serde(default)]
    pub shared_bytes: Bytes,
    /// What became of the parent's blocks that were rewritten in place; absent where nobody counted
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<RewrittenRecord>,
    /// Bytes read while frozen.
    pub frozen_bytes: Bytes,
    /// Bytes of free space and swap that were not copied.
    pub free_skipped_bytes: Bytes,
    /// By which rules it was believed what is free: [`FREE_RULES`] of its writer. 0, where it is
    /// absent: blocks in use may be missing (see FORMAT.md).
    #[serde(default)]
    pub free_rules: u16,
    /// The filesystems that live on it.
    pub filesystems: Vec<FilesystemRecord>,
    /// Index objects, to be laid over one another in this order.
    pub index: Vec<IndexRef>,
    /// Objects of copies of the footers of segments that it needs, oldest first. They may be gone,
    /// and there may be none of some segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub footers: Vec<FooterCopiesRef>,
    /// What the tracker said at the cut, which began its epoch: what the next incremental needs to
    /// prove its marks. Absent when the disk was not tracked.
    pub cut: Option<Witness>,
}

/// A filesystem at the cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesystemRecord {
    /// The device it is mounted from.
    pub source: String,
    /// Where it is mounted.
    pub target: String,
    /// Its type.
    #[serde(rename = "type")]
    pub fstype: String,
    /// Whether it was frozen at the cut.
    pub frozen: bool,
    /// Whether it was mounted read-only and needed no freezing.
    pub read_only: bool,
    /// Everywhere it was mounted on the host, but where something else was laid over it; absent: of
    /// an early writer, which named one place and no folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<MountRecord>>,
    /// Where it lies on this disk, if on this disk alone and with nothing between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Extent>,
}

/// An index object and how much it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRef {
    /// Its name.
    pub id: ObjectId,
    /// Its number of runs.
    pub runs: u64,
    /// Whether it is a part of the base, rather than a change to what comes before.
    pub base: bool,
}

impl Manifest {
    /// Until when it must stay, as its run was told. `received`: when the store got this, by the
    /// store's clock. A host whose clock was behind must not end it early: the later one counts.
    pub fn kept_until(&self, received: Option<Timestamp>) -> Option<Timestamp> {
        let seconds = self.keep_seconds?.min(MAX_KEEP_SECONDS);
        let from = received.map_or(self.time, |received| received.max(self.time));
        let until = from.checked_add(SignedDuration::from_secs(seconds as i64));
        Some(until.unwrap_or(Timestamp::MAX))
    }

    /// When the store got it first: of one whose places a collector has changed, that is before the
    /// store's own time. Only a collector's word says so.
    pub fn first_received(&self, received: Timestamp) -> Timestamp {
        self.received.map_or(received, |first| first.min(received))
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// It says what no reader would believe.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        self.check_bounds()
            .map_err(|why| why.with_kind(ErrorKind::Failed))?;
        MANIFEST.encode(self, sealer)
    }

    /// Reads a manifest that stands under the name `snapshot` in the vault `vault`.
    pub fn decode(
        bytes: &[u8],
        sealer: &Sealer,
        snapshot: SnapshotId,
        vault: ObjectId,
    ) -> Result<Self> {
        let manifest: Self = MANIFEST.decode(bytes, sealer)?;
        if manifest.format == 0 || manifest.format > VERSION {
            return Err(Error::new(
                ErrorKind::Format,
                format!("the manifest is of format {}", manifest.format),
            )
            .with_hint("use the newest stillpoint"));
        }
        if manifest.snapshot != snapshot || manifest.vault != vault {
            return Err(damaged(
                "another snapshot's manifest stands under this name",
            ));
        }
        manifest.check_bounds()?;
        Ok(manifest)
    }

    /// The same; `None` where it says more than this version knows, which would be lost if it were
    /// written anew.
    pub fn decode_known(
        bytes: &[u8],
        sealer: &Sealer,
        snapshot: SnapshotId,
        vault: ObjectId,
    ) -> Result<Option<Self>> {
        let manifest = Self::decode(bytes, sealer, snapshot, vault)?;
        let said: Value = MANIFEST.decode(bytes, sealer)?;
        let known = serde_json::to_value(&manifest).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot write JSON").with_source(error)
        })?;
        Ok(is_all_in(&said, &known).then_some(manifest))
    }

    /// Whether it is of no more than there can be: what is done for each disk and each index object
    /// has a bound then. A writer asks the same: a manifest that is put can be read.
    fn check_bounds(&self) -> Result<()> {
        if self.disks.len() > MAX_DISKS {
            return Err(damaged("the manifest has more disks than there can be"));
        }
        let boots = self.disks.iter().filter_map(|disk| disk.cut.as_ref());
        let names = boots.map(|cut| &cut.boot_id).chain([&self.host]);
        if names.into_iter().any(|name| name.len() > MAX_NAME) {
            return Err(damaged(
                "the manifest has an impossible name of a host or a boot",
            ));
        }
        let mut known = HashSet::new();
        for disk in &self.disks {
            let blocks = disk.identity.size.0.div_ceil(BLOCK_SIZE);
            let whole = disk.identity.size.0.is_multiple_of(SECTOR_SIZE);
            if !whole || blocks == 0 || blocks >= BlockSet::MAX_BLOCKS || disk.index.is_empty() {
                return Err(damaged(
                    "the manifest has a disk of no possible size or without index",
                ));
            }
            if disk.index.len() > MAX_INDEX_PARTS {
                return Err(damaged(
                    "the manifest names more index objects than there can be",
                ));
            }
            // Each was written for one disk, and is laid over the others once.
            if !disk.index.iter().all(|part| known.insert(part.id)) {
                return Err(damaged("the manifest names an index object twice"));
            }
            let DiskIdentity {
                name,
                serial,
                wwn,
                table_id,
                ..
            } = &disk.identity;
            let ids = [serial, wwn, table_id];
            let long = |id: &str| id.len() > MAX_DISK_ID;
            if name.len() > MAX_NAME || ids.into_iter().flatten().any(|id| long(id)) {
                return Err(damaged("the manifest has a disk of an impossible name"));
            }
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_none_left_out(count: &u64) -> bool {
    *count == 0
}

/// Whether `known` has every key that `said` has.
fn is_all_in(said: &Value, known: &Value) -> bool {
    match (said, known) {
        (Value::Object(said), Value::Object(known)) => said.iter().all(|(key, value)| {
            let known = known.get(key);
            // An optional key may say that there is nothing.
            known.map_or(value.is_null(), |known| is_all_in(value, known))
        }),
        (Value::Array(said), Value::Array(known)) => {
            let mut both = said.iter().zip(known);
            said.len() == known.len() && both.all(|(said, known)| is_all_in(said, known))
        }
        // Times and names have several ways to be written.
        _ => true,
    }
}

/// Who is writing to the vault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The host's name.
    pub host: String,
    /// The process on it.
    pub pid: u32,
    /// The host's boot, so that a process id means something.
    pub boot_id: String,
    /// What it is doing.
    pub command: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was last heard of.
    pub heartbeat: Timestamp,
}

impl SessionRecord {
    /// The bytes to store.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        SESSION.encode(self, sealer)
    }

    /// Reads a session's record.
    pub fn decode(bytes: &[u8], sealer: &Sealer) -> Result<Self> {
        SESSION.decode(bytes, sealer)
    }
}

/// Objects whose body is JSON.
pub(super) struct JsonObject {
    pub(super) kind: ObjectKind,
    /// Most values that one holds.
    pub(super) most: usize,
}

const MANIFEST: JsonObject = JsonObject {
    kind: ObjectKind::Manifest,
    most: MAX_VALUES,
};

const SESSION: JsonObject = JsonObject {
    kind: ObjectKind::Session,
    most: MAX_SESSION_VALUES,
};

impl JsonObject {
    pub(super) fn encode<T: Serialize>(&self, value: &T, sealer: &Sealer) -> Result<Vec<u8>> {
        let failed = |what: &str| Error::new(ErrorKind::Failed, what);
        let json = serde_json::to_vec(value)
            .map_err(|error| failed("cannot write JSON").with_source(error))?;
        // What is written can be read again.
        from_json::<IgnoredAny>(&json, self.most).map_err(|why| {
            failed("a record is more than the vault's format allows").with_source(why)
        })?;
        sealer.seal_object(self.kind, &json)
    }

    pub(super) fn decode<T: DeserializeOwned>(&self, bytes: &[u8], sealer: &Sealer) -> Result<T> {
        let plain = sealer.open_object(self.kind, None, bytes)?;
        from_json(&plain, self.most)
            .map_err(|why| damaged("a record cannot be understood").with_source(why))
    }
}
