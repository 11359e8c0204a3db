//! Snapshots of model disks: taking, restoring and judging them.

use super::model::{Before, ModelDisk, ModelQuiesce, Still};
use super::rig::Ear;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stillpoint::capture::Baseline;
use stillpoint::device::FreeSpace;
use stillpoint::device::read::{BufferPool, DiskReader};
use stillpoint::engine::{
    CaptureMode, CaptureOptions, Consistency, DiskRunOptions, Gentle, OnBusy, PackedBefore, Parent,
    RecordOptions, Resume, Silent, VerifyDepth, VerifyOptions, VerifyReport, capture, record,
    verify,
};
use stillpoint::format::{BlockDedup, Compression, DiskRecord, Manifest, SessionRecord};
use stillpoint::freeze::Expedite;
use stillpoint::model::{
    BLOCK_SIZE, BlockSet, Bytes, Content, Extent, Level, SnapshotId, block_count,
};
use stillpoint::restore::{CopyOptions, CopyReport, Target, copy};
use stillpoint::store::{Draft, Owner, Session, SnapshotRef, Vault, VaultOptions};
use stillpoint::track::Recall;
use stillpoint::{Error, ErrorKind, Result};

/// How many times more a test shall do, from `STILLPOINT_TEST_ROUNDS`.
pub fn rounds() -> u32 {
    let rounds = std::env::var("STILLPOINT_TEST_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// What a vault in a test is called.
pub fn vault_options() -> VaultOptions {
    VaultOptions {
        name: "test".into(),
        description: None,
        compression: Compression::default(),
        dedup: BlockDedup::Disk,
        encrypt: None,
    }
}

/// How to take a snapshot of model disks.
pub struct Take {
    /// The host's name.
    pub host: String,
    /// Read and store everything.
    pub full: bool,
    /// Copy free space too.
    pub all_blocks: bool,
    /// What to do on a busy disk.
    pub on_busy: OnBusy,
    /// Take a copy of no one instant when there is no other.
    pub allow_fuzzy: bool,
    /// What writes to the disks can be slowed down.
    pub slows: bool,
    /// Applications are held by hooks that work.
    pub holds: bool,
    /// Most memory for what is read last.
    pub window: Bytes,
    /// What happens right before all is held.
    pub before: Before,
    /// Done with the disks while all is written out.
    pub settling: Before,
    /// Blocks in which files lie, as far as that is looked for.
    pub files: BlockSet,
    /// How gently disks are read.
    pub gentle: Gentle,
    /// Laid around what reads a disk.
    pub reader: AroundReader,
    /// Where it notes what it puts, and goes on from what others have noted.
    pub notes: Option<Notes>,
    /// It fails when all has been captured.
    pub cut_off: bool,
    /// The run's session, if it has one.
    pub session: Option<Session>,
}

/// Notes of what was put.
pub struct Notes {
    /// Where they are.
    pub directory: PathBuf,
    /// What names the machine.
    pub machine: Option<&'static str>,
}

/// Lays something around a reader.
pub type AroundReader = Box<dyn Fn(Box<dyn DiskReader>) -> Box<dyn DiskReader>>;

/// What a run's session says.
pub fn session_record() -> SessionRecord {
    SessionRecord {
        host: "host".into(),
        pid: 1,
        boot_id: "boot".into(),
        command: "snapshot".into(),
        started: Timestamp::now(),
        heartbeat: Timestamp::now(),
    }
}

impl Default for Take {
    fn default() -> Self {
        Self {
            host: "host".into(),
            full: false,
            all_blocks: false,
            on_busy: OnBusy::Freeze,
            allow_fuzzy: false,
            slows: false,
            holds: false,
            window: Bytes(64 << 20),
            before: Box::new(|_| {}),
            settling: Box::new(|_| {}),
            files: BlockSet::new(),
            notes: None,
            cut_off: false,
            gentle: Gentle::default(),
            reader: Box::new(|reader| reader),
            session: None,
        }
    }
}

/// A snapshot and what it must hold.
pub struct Taken {
    /// The snapshot.
    pub manifest: Manifest,
    /// What each of its disks held at the cut; one of these, if it was disturbed then.
    pub truth: Vec<Vec<Still>>,
}

/// Names in the order in which they are asked for, also within a millisecond.
fn next_id() -> SnapshotId {
    static NEXT: AtomicU64 = AtomicU64::new(1_800_000_000_000);
    SnapshotId::generate(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Takes a snapshot of all `disks` as the engine does of live ones.
pub fn take(vault: &Arc<Vault>, disks: &[ModelDisk], mut options: Take) -> Result<Taken> {
    let started = Timestamp::UNIX_EPOCH;
    let pool = BufferPool::new(4, Bytes(1 << 20))?;
    let mut prepared = disks
        .iter()
        .map(|disk| prepare(vault, disk, &pool, &options))
        .collect::<Result<Vec<_>>>()?;
    let oracle = Arc::new(Mutex::new(Vec::new()));
    let mut quiesce = ModelQuiesce {
        disks: disks.to_vec(),
        oracle: Arc::clone(&oracle),
        before: options.before,
        settling: options.settling,
        holds: options.holds,
        slows: options.slows,
    };
    let how = CaptureOptions {
        consistency: Consistency {
            level: Level::Crash,
            max_freeze: Duration::from_secs(60),
            on_busy: options.on_busy,
            allow_fuzzy: options.allow_fuzzy,
        },
        workers: 2,
        window_memory: options.window,
        pool,
        gentle: options.gentle,
        share: !options.full,
    };
    let (snapshot, ear) = (next_id(), Ear::default());
    let mut draft = match options.session.take() {
        Some(session) => Draft::begin_in(vault, session, None),
        None => Draft::begin(vault),
    };
    if let Some(notes) = &options.notes {
        let owner = Owner {
            host: &options.host,
            machine: notes.machine,
            boot: Some("boot"),
        };
        let resume = Resume {
            vault,
            notes: &notes.directory,
            run: snapshot,
            owner,
            monitor: &ear,
        };
        begin_notes(&resume, &mut prepared, &mut draft)?;
    }
    let draft = Arc::new(draft);
    let result = capture(prepared, &draft, &mut quiesce, &how, &ear);
    let result = result.map_err(|error| draft.ended_by(error))?;
    if options.cut_off {
        return Err(draft.ended_by(Error::new(ErrorKind::Io, "the test says so")));
    }
    let said = RecordOptions {
        snapshot,
        vault: vault.info().id,
        started,
        host: options.host,
        requested: Level::Crash,
        frozen: false,
        doubted: BTreeSet::new(),
        hooks: None,
        warnings: ear.0.into_inner().unwrap(),
        tags: BTreeMap::new(),
        keep: None,
    };
    let manifest = record(result, &draft, said);
    let mut manifest = manifest.map_err(|error| draft.ended_by(error))?;
    let draft = Arc::into_inner(draft).expect("all threads of the run have ended");
    draft.commit(&mut manifest)?;
    let truth = std::mem::take(&mut *oracle.lock().unwrap());
    Ok(Taken { manifest, truth })
}

/// Looks for what other runs have put, and begins to note what this one puts.
fn begin_notes(
    resume: &Resume<'_>,
    prepared: &mut [DiskRunOptions],
    draft: &mut Draft,
) -> Result<()> {
    let identities: Vec<_> = prepared.iter().map(|disk| disk.identity.clone()).collect();
    let known = resume.vault.snapshots_of(resume.owner.host)?;
    let resumed = resume.begin(&identities.iter().collect::<Vec<_>>(), &known)?;
    for (disk, sent) in prepared.iter_mut().zip(resumed.sent) {
        disk.sent = sent;
    }
    if let Some(notes) = resumed.notes {
        draft.note_in(notes);
    }
    Ok(())
}

fn prepare(
    vault: &Arc<Vault>,
    disk: &ModelDisk,
    pool: &BufferPool,
    options: &Take,
) -> Result<DiskRunOptions> {
    let identity = disk.identity();
    let newest = newest(vault, &options.host, identity.key())?;
    let mut changes = disk.changes();
    let known = newest.as_ref().map(|(snapshot, record)| {
        let cut = record.cut.as_ref();
        Parent {
            snapshot: *snapshot,
            identity: record.identity.clone(),
            cut: record.cut.clone(),
            recall: cut.map_or(Recall::Nameless, |cut| changes.recall(cut).unwrap()),
        }
    });
    let packed_before = newest.as_ref().map(|(_, record)| PackedBefore::of(record));
    let mut parent = None;
    let mut chosen =
        CaptureMode::decide(known.as_ref(), &identity, &changes.witness()?, options.full);
    if let Some((_, record)) = newest.filter(|_| chosen.parent.is_some()) {
        match Baseline::load(vault, &record, &|| Ok(())) {
            Ok(baseline) => parent = Some((record, Arc::new(baseline))),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                chosen = CaptureMode::decide(None, &identity, &changes.witness()?, false);
            }
            Err(error) => return Err(error),
        }
    }
    let (asked, files) = (disk.clone(), options.files.clone());
    Ok(DiskRunOptions {
        reader: (options.reader)(disk.reader(pool)),
        changes,
        ask_free: Box::new(move |_| Ok(FreeSpace::of(asked.free_now()))),
        ask_files: Box::new(move || Ok(files.clone())),
        ask_swap: Box::new(|| Ok(BlockSet::new())),
        capture: chosen,
        parent,
        packed_before,
        sent: None,
        all_blocks: options.all_blocks,
        filesystems: Vec::new(),
        expedite: Expedite::default(),
        identity,
    })
}

fn newest(vault: &Vault, host: &str, key: &str) -> Result<Option<(SnapshotId, DiskRecord)>> {
    for snapshot in vault.snapshots_of(host)?.iter().rev() {
        let manifest = match vault.manifest(snapshot) {
            Err(error) if error.kind() == ErrorKind::Damaged => continue,
            other => other?,
        };
        let mut disks = manifest.disks.into_iter();
        if let Some(record) = disks.find(|record| record.identity.key() == key) {
            return Ok(Some((snapshot.id, record)));
        }
    }
    Ok(None)
}

/// A target in memory that is full of rubbish at first and notices what a disk would not forgive.
pub struct MemoryTarget {
    state: Mutex<(Vec<u8>, Vec<bool>)>,
}

impl MemoryTarget {
    /// A target of `size` bytes.
    pub fn new(size: Bytes) -> Self {
        let size = size.0 as usize;
        Self {
            state: Mutex::new((vec![0xee; size], vec![false; size.div_ceil(512)])),
        }
    }

    /// What was put onto it; every byte of it was.
    pub fn contents(self) -> Vec<u8> {
        let (contents, touched) = self.state.into_inner().unwrap();
        assert!(
            touched.iter().all(|touched| *touched),
            "a part of the target was left as it was"
        );
        contents
    }

    fn put(&self, offset: Bytes, length: usize, fill: impl FnOnce(&mut [u8])) {
        let mut state = self.state.lock().unwrap();
        let start = offset.0 as usize;
        let (contents, touched) = &mut *state;
        let place = contents.get_mut(start..start + length);
        fill(place.expect("nothing is written past the end of the target"));
        touched[start / 512..(start + length).div_ceil(512)].fill(true);
    }
}

impl Target for MemoryTarget {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        let bytes = blocks.concat();
        self.put(offset, bytes.len(), |place| place.copy_from_slice(&bytes));
        Ok(())
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        self.put(extent.offset, extent.length.0 as usize, |place| {
            place.fill(0);
        });
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Restores one disk into memory.
pub fn restore(
    vault: &Vault,
    record: &DiskRecord,
    keep_going: bool,
) -> Result<(Vec<u8>, CopyReport)> {
    let size = record.identity.size;
    let map = vault.load_index(&record.index, block_count(size))?;
    let target = MemoryTarget::new(size);
    let options = CopyOptions {
        workers: 2,
        keep_going,
        cancel: &|| Ok(()),
        progress: &|_| {},
    };
    let report = copy(vault, &map, size, &target, options)?;
    Ok((target.contents(), report))
}

/// What a restore of a disk must give: what it held, but zeros where it says that nothing mattered.
/// `None` if it says so of what did matter.
pub fn expected(vault: &Vault, record: &DiskRecord, truth: &Still) -> Option<Vec<u8>> {
    let blocks = block_count(record.identity.size);
    let map = vault.load_index(&record.index, blocks).unwrap();
    let mut contents = truth.contents.clone();
    for run in map.iter().filter(|run| run.content == Content::Free) {
        for block in run.start.0..run.end() {
            if !truth.free.contains(&block) {
                return None;
            }
            let start = (block * BLOCK_SIZE) as usize;
            let end = contents.len().min(start + BLOCK_SIZE as usize);
            contents[start..end].fill(0);
        }
    }
    Some(contents)
}

/// Whether a snapshot, as it stands in the vault, is what its disks held.
pub fn check(vault: &Vault, taken: &Taken) {
    let id = taken.manifest.snapshot;
    let found = vault.find(&id.to_string()).unwrap();
    let manifest = vault.manifest(&found).unwrap();
    assert_eq!(manifest, taken.manifest);
    for (record, truths) in manifest.disks.iter().zip(&taken.truth) {
        let (contents, report) = restore(vault, record, false).unwrap();
        assert!(report.damaged.is_empty());
        let right = |truth: &Still| expected(vault, record, truth).as_ref() == Some(&contents);
        if truths.iter().any(right) {
            continue;
        }
        let truth = &truths[0];
        let wrong = (0..contents.len()).find(|at| contents[*at] != truth.contents[*at]);
        panic!(
            "{id}, {}: byte {wrong:?} is wrong; {} snapshot, {}; one of {} contents in the window",
            record.identity.name,
            record.mode,
            record.reason,
            truths.len()
        );
    }
}

/// Verifies all snapshots, or says why that cannot be done.
pub fn verify_all(vault: &Vault) -> Result<VerifyReport> {
    let snapshots: Vec<SnapshotRef> = vault.snapshots()?;
    let options = VerifyOptions {
        depth: VerifyDepth::Full,
        workers: 2,
    };
    verify(vault, &snapshots, &options, &Silent)
}

/// All is well with the vault, and it has just these snapshots.
pub fn check_all(vault: &Vault, taken: &[Taken]) {
    let report = verify_all(vault).unwrap();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_eq!(report.snapshots, taken.len());
    for snapshot in taken {
        check(vault, snapshot);
    }
}
