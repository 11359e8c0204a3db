//! The notes of the run at work.

use super::MOST_RUNS;
use super::entry::{NoteHead, SentSegment};
use super::find::HeldNote;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::{ObjectId, Run, RunMap, SnapshotId};
use crate::store::private_dir::make_private;
use crate::sys::locked::LockExt;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What the last so much time has noted may be lost in a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// Neighbouring blocks of a disk of the run that are in the segment in hand.
#[derive(Clone, Copy, Debug)]
pub struct SentRun {
    /// Which disk of the run.
    pub disk: usize,
    /// The blocks, and their slots.
    pub run: Run,
}

/// The notes of a run, one of each disk.
pub struct SentNotes {
    state: Mutex<State>,
    origin: Origin,
    sync: SyncFile,
}

/// Brings a file to the disk.
type SyncFile = Box<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// Whose notes they are, and what was there when their run began.
pub(in crate::store) struct Origin {
    /// The host's name.
    pub host: String,
    /// The name that the snapshot is to have.
    pub run: SnapshotId,
    /// The host's snapshots then.
    pub known: BTreeSet<SnapshotId>,
}

struct State {
    files: Vec<NoteFile>,
    /// Notes of earlier runs, which are of no use once this run has made its snapshot.
    earlier: Vec<HeldNote>,
    /// Runs of blocks that were noted.
    runs: usize,
    /// Nothing is written now.
    held: bool,
    /// What is to be written when it may be, by segment.
    waiting: BTreeMap<ObjectId, Vec<Waiting>>,
    /// Something could not be written: nothing more is.
    broken: bool,
    synced: Instant,
}

struct Waiting {
    disk: usize,
    entry: Vec<u8>,
}

struct NoteFile {
    /// Locked.
    file: File,
    path: PathBuf,
    blocks: u64,
}

impl NoteFile {
    fn create(directory: &Path, number: usize, head: &NoteHead) -> Result<Self> {
        let path = directory.join(format!("{}-{number}", head.run));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let mut note = Self {
            file: file.io_context("make", &path)?,
            blocks: head.blocks(),
            path,
        };
        let head = head.encode()?;
        let locked = note.file.try_lock().map_err(std::io::Error::from);
        let written = locked.and_then(|()| note.file.write_all(&head));
        match written.and_then(|()| note.file.sync_data()) {
            Ok(()) => Ok(note),
            Err(error) => {
                note.remove();
                Err(Error::io("write", &note.path, error))
            }
        }
    }

    fn remove(&self) {
        // One that stays names segments that are gone, or in a snapshot: it is of no use, or none
        // is needed.
        let _ = fs::remove_file(&self.path);
    }
}

impl SentNotes {
    /// Begins a note of each disk of a run, in their order. `earlier`: notes that this run makes
    /// superfluous when it has made its snapshot. `known`: the host's snapshots.
    ///
    /// # Errors
    /// The directory cannot be had, or others can write to it; it is full.
    pub fn begin(
        directory: &Path,
        heads: &[NoteHead],
        earlier: Vec<HeldNote>,
        known: BTreeSet<SnapshotId>,
    ) -> Result<Self> {
        let Some(first) = heads.first() else {
            return Err(Error::new(ErrorKind::Failed, "a run of no disks"));
        };
        let origin = Origin {
            host: first.host.clone(),
            run: first.run,
            known,
        };
        make_private(directory)?;
        let mut files: Vec<NoteFile> = Vec::new();
        for (number, head) in heads.iter().enumerate() {
            match NoteFile::create(directory, number, head) {
                Ok(file) => files.push(file),
                Err(error) => {
                    files.iter().for_each(NoteFile::remove);
                    return Err(error);
                }
            }
        }
        Ok(Self {
            state: Mutex::new(State {
                files,
                earlier,
                runs: 0,
                held: false,
                waiting: BTreeMap::new(),
                broken: false,
                synced: Instant::now(),
            }),
            origin,
            sync: Box::new(File::sync_data),
        })
    }

    /// Notes a segment that has been put, of `length` bytes, and what is in it. Returns whether the
    /// next run can find it, unless it [is waiting](Self::is_waiting).
    pub(in crate::store) fn add(&self, id: ObjectId, length: u64, runs: &[SentRun]) -> bool {
        let mut maps: BTreeMap<usize, RunMap> = BTreeMap::new();
        for one in runs {
            maps.entry(one.disk).or_default().insert(one.run);
        }
        let mut state = self.state.locked();
        let more: usize = maps.values().map(RunMap::len).sum();
        if state.broken || more == 0 || state.runs + more > MOST_RUNS {
            return false;
        }
        state.runs += more;
        let mut entries = Vec::new();
        for (disk, map) in maps {
            let Some(blocks) = state.files.get(disk).map(|file| file.blocks) else {
                return false;
            };
            let entry = SentSegment { id, length, map }.encode(blocks);
            entries.push(Waiting { disk, entry });
        }
        if state.held {
            state.waiting.insert(id, entries);
            return true;
        }
        let written = state.write(&entries);
        drop(state);
        self.sync_if_due();
        written
    }

    /// Whoever [holds](Self::hold) the notes does not wait for it: a disk may hang.
    fn sync_if_due(&self) {
        let mut state = self.state.locked();
        if state.held || state.synced.elapsed() < SYNC_EVERY {
            return;
        }
        state.synced = Instant::now();
        let files = state.files.iter().map(|note| note.file.try_clone());
        let files: io::Result<Vec<File>> = files.collect();
        drop(state);
        let synced = files.and_then(|files| files.iter().try_for_each(&self.sync));
        if synced.is_err() {
            self.state.locked().broken = true;
        }
    }

    /// Whose they are.
    pub(in crate::store) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether a segment is not in the note yet.
    pub(in crate::store) fn is_waiting(&self, id: ObjectId) -> bool {
        self.state.locked().waiting.contains_key(&id)
    }

    /// Whether nothing is written now.
    pub(in crate::store) fn is_held(&self) -> bool {
        self.state.locked().held
    }

    /// Writes nothing from here on: when this returns, no thread is writing either. What was
    /// written before may still be on its way to the disk.
    pub(in crate::store) fn hold(&self) {
        self.state.locked().held = true;
    }

    /// Writes what has waited, and goes on. What cannot be written waits for ever.
    pub(in crate::store) fn go_on(&self) {
        let mut state = self.state.locked();
        state.held = false;
        for (id, entries) in std::mem::take(&mut state.waiting) {
            if !state.write(&entries) {
                state.waiting.insert(id, entries);
            }
        }
        drop(state);
        self.sync_if_due();
    }

    /// Takes the notes back: what the run has put is in a snapshot. So are those of earlier runs.
    pub(in crate::store) fn finish(&self) {
        let mut state = self.state.locked();
        state.files.iter().for_each(NoteFile::remove);
        state.earlier.drain(..).for_each(HeldNote::remove);
    }

    /// Takes the notes back: what the run has put is to be deleted. Not while they are held.
    pub(in crate::store) fn take_back(&self) {
        let state = self.state.locked();
        if !state.held {
            state.files.iter().for_each(NoteFile::remove);
        }
    }
}

impl State {
    fn write(&mut self, entries: &[Waiting]) -> bool {
        for Waiting { disk, entry } in entries {
            let Some(note) = self.files.get_mut(*disk).filter(|_| !self.broken) else {
                return false;
            };
            self.broken |= note.file.write_all(entry).is_err();
        }
        !self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockIndex, Bytes, Content, DevNumber, DiskIdentity, SnapshotId};
    use crate::store::sent::{Owner, Search};
    use std::sync::{Arc, Weak};

    const OWNER: Owner<'static> = Owner {
        host: "host",
        machine: None,
        boot: Some("boot"),
    };
    const VAULT: ObjectId = ObjectId([1; 16]);

    fn disk(number: u32) -> DiskIdentity {
        DiskIdentity {
            name: format!("vd{number}"),
            dev: DevNumber {
                major: 8,
                minor: number,
            },
            size: Bytes(100 << 16),
            logical_block: 512,
            serial: None,
            wwn: None,
            diskseq: None,
            table_id: None,
        }
    }

    fn begin(directory: &Path) -> SentNotes {
        let run = SnapshotId::generate(1);
        let heads = [0, 1].map(|number| NoteHead::of(disk(number), VAULT, run, &OWNER));
        SentNotes::begin(directory, &heads, Vec::new(), BTreeSet::new()).unwrap()
    }

    /// So many single blocks of a disk in a segment.
    fn runs(disk: usize, segment: ObjectId, count: u64) -> Vec<SentRun> {
        let one = |n: u64| Run {
            start: BlockIndex(2 * n),
            count: 1,
            content: Content::Data {
                segment,
                slot: n as u32,
            },
        };
        (0..count).map(|n| SentRun { disk, run: one(n) }).collect()
    }

    /// How many runs of blocks are found of each disk.
    fn found(directory: &Path) -> [usize; 2] {
        let search = Search {
            directory,
            vault: VAULT,
            owner: OWNER,
            is_done: &|_| false,
        };
        let found = search.of(&[&disk(0), &disk(1)]);
        [found[0].map.len(), found[1].map.len()]
    }

    #[test]
    fn what_is_noted_is_found_when_its_run_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("sent");
        let notes = begin(&directory);
        let (one, two) = (ObjectId([7; 16]), ObjectId([8; 16]));
        assert!(notes.add(one, 1000, &[runs(0, one, 3), runs(1, one, 1)].concat()));
        assert!(notes.add(two, 1000, &runs(1, two, 2)));
        assert_eq!(found(&directory), [0, 0], "its run is at work");
        drop(notes);
        assert_eq!(found(&directory), [3, 2]);
    }

    #[test]
    fn nothing_is_written_while_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("sent");
        let lengths = || {
            let notes = fs::read_dir(&directory).unwrap();
            let lengths = notes.map(|note| note.unwrap().metadata().unwrap().len());
            lengths.sum::<u64>()
        };
        let notes = begin(&directory);
        let before = lengths();
        let id = ObjectId([7; 16]);
        notes.hold();
        assert!(notes.add(id, 1000, &runs(0, id, 3)));
        notes.take_back();
        assert_eq!((lengths(), notes.is_waiting(id)), (before, true));
        notes.go_on();
        assert!(lengths() > before && !notes.is_waiting(id));
        notes.take_back();
        assert_eq!(lengths(), 0);
    }

    #[test]
    fn notes_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("sent");
        let notes = begin(&directory);
        let id = ObjectId([7; 16]);
        notes.state.locked().runs = MOST_RUNS - 3;
        assert!(!notes.add(id, 1000, &runs(0, id, 4)));
        assert!(notes.add(id, 1000, &runs(0, id, 3)));
        assert!(!notes.add(id, 1000, &runs(0, id, 1)));
        assert!(!notes.add(id, 1000, &[]), "of nothing");
        drop(notes);
        assert_eq!(found(&directory), [3, 0]);
    }

    #[test]
    fn what_could_not_be_written_goes_on_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let notes = begin(&folder.path().join("sent"));
        let id = ObjectId([7; 16]);
        notes.hold();
        assert!(notes.add(id, 1000, &runs(0, id, 3)));
        notes.state.locked().broken = true;
        notes.go_on();
        assert!(notes.is_waiting(id), "nobody will find it");
    }

    #[test]
    fn nobody_waits_for_a_note_to_be_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let free = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::new_cyclic(|this: &Weak<SentNotes>| {
            let mut notes = begin(&folder.path().join("sent"));
            let (this, free) = (this.clone(), Arc::clone(&free));
            notes.sync = Box::new(move |_| {
                let is_free = this.upgrade().unwrap().state.try_lock().is_ok();
                free.locked().push(is_free);
                Ok(())
            });
            notes
        });
        let (one, two) = (ObjectId([7; 16]), ObjectId([8; 16]));
        assert!(notes.add(one, 1000, &runs(0, one, 3)));
        assert!(free.locked().is_empty(), "it is not due");
        notes.state.locked().synced -= SYNC_EVERY;
        assert!(notes.add(two, 1000, &runs(0, two, 3)));
        assert_eq!(
            *free.locked(),
            [true; 2],
            "of two disks, and not under the lock"
        );
    }
}
