//! The notes that runs have left which were cut off.

use super::MOST_RUNS;
use super::entry::{NoteHead, Owner, SentSegment, read_body};
use crate::model::{DiskIdentity, Likeness, ObjectId, RunMap, SnapshotId};
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most files that are looked at.
const MOST_NOTES: usize = 1024;
/// Most notes of a disk that are used, the newest; older ones are removed.
const MOST_OF_DISK: usize = 64;
/// A note that nobody has used for so long is removed: what it names is the collector's.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whose notes are looked for.
pub struct Search<'a> {
    /// Where they are.
    pub directory: &'a Path,
    /// The vault's name.
    pub vault: ObjectId,
    /// Whose they are.
    pub owner: Owner<'a>,
    /// Whether a run has made its snapshot: its note is of no use any more.
    pub is_done: &'a dyn Fn(SnapshotId) -> bool,
}

/// What runs that were cut off have put of a disk, as they have noted it: nothing of it is proven.
#[derive(Default)]
pub struct SentBefore {
    /// In which segments blocks are; of several runs the newest counts.
    pub map: RunMap,
    /// The length of each segment, in bytes.
    pub lengths: BTreeMap<ObjectId, u64>,
    /// The runs.
    pub runs: BTreeSet<SnapshotId>,
    /// The notes. They stay locked, so that no other run takes them for its own.
    pub notes: Vec<HeldNote>,
    /// There is more in the notes than could be read.
    pub is_part: bool,
}

/// A note that is locked: its run is over.
pub struct HeldNote {
    path: PathBuf,
    file: File,
    is_old: bool,
}

impl HeldNote {
    fn open(path: PathBuf) -> Option<Self> {
        let file = plain::open(&path, OFlag::O_RDONLY).ok()?;
        file.try_lock().ok()?;
        let written = file.metadata().and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|written| written.elapsed().ok());
        Some(Self {
            path,
            file,
            is_old: age.is_some_and(|age| age > KEPT_FOR),
        })
    }

    /// Removes it: nothing of what it names is of use.
    pub fn remove(self) {
        // One that stays is looked at again.
        let _ = fs::remove_file(&self.path);
    }
}

impl Search<'_> {
    /// What was put of each of these disks.
    pub fn of(&self, disks: &[&DiskIdentity]) -> Vec<SentBefore> {
        self.within(MOST_RUNS, disks)
    }

    /// The same; `left`: how many runs of blocks may be read.
    fn within(&self, mut left: usize, disks: &[&DiskIdentity]) -> Vec<SentBefore> {
        let mut found: Vec<Vec<Found>> = disks.iter().map(|_| Vec::new()).collect();
        for path in self.paths() {
            let Some(one) = self.look_at(path) else {
                continue;
            };
            let is_it = |disk: &&&DiskIdentity| disk.likeness(&one.head.disk) == Likeness::Same;
            match disks.iter().position(|disk| is_it(&disk)) {
                Some(number) => found[number].push(one),
                None if one.note.is_old => one.note.remove(),
                None => {}
            }
        }
        let read = |mut notes: Vec<Found>| {
            let surplus = notes.len().saturating_sub(MOST_OF_DISK);
            notes.drain(..surplus).for_each(|one| one.note.remove());
            // The newest first, for as long as there is room.
            let newest_first = notes.into_iter().rev();
            let read = newest_first.filter_map(|one| one.read(&mut left));
            let read: Vec<FoundRuns> = read.collect();
            let mut before = SentBefore::default();
            read.into_iter()
                .rev()
                .for_each(|one| one.add_to(&mut before));
            before
        };
        found.into_iter().map(read).collect()
    }

    /// The files of the newest runs, the oldest of them first.
    fn paths(&self) -> BTreeSet<PathBuf> {
        let mut paths = BTreeSet::new();
        for entry in fs::read_dir(self.directory).into_iter().flatten().flatten() {
            paths.insert(entry.path());
            if paths.len() > MOST_NOTES {
                paths.pop_first();
            }
        }
        paths
    }

    /// A note of this host's that may be of use.
    fn look_at(&self, path: PathBuf) -> Option<Found> {
        let note = HeldNote::open(path)?;
        let mut bytes = BufReader::new(note.file.try_clone().ok()?);
        let head = read_body(&mut bytes).and_then(|body| NoteHead::decode(&body));
        let is_own = |head: &NoteHead| head.vault == self.vault && self.owner.has_written(head);
        match head.filter(is_own) {
            Some(head) if (self.is_done)(head.run) => {
                note.remove();
                None
            }
            Some(head) => Some(Found { head, note, bytes }),
            None => {
                if note.is_old {
                    note.remove();
                }
                None
            }
        }
    }
}

/// A note that may be of use.
struct Found {
    head: NoteHead,
    note: HeldNote,
    /// After the head.
    bytes: BufReader<File>,
}

/// A note that was read.
struct FoundRuns {
    run: SnapshotId,
    note: HeldNote,
    map: RunMap,
    lengths: BTreeMap<ObjectId, u64>,
    /// There was no room for all of it.
    is_part: bool,
}

impl Found {
    /// Reads it; `None`: nothing is in it, and it is removed. `left`: how many runs of blocks may
    /// still be read.
    fn read(mut self, left: &mut usize) -> Option<FoundRuns> {
        let blocks = self.head.blocks();
        let (mut map, mut lengths) = (RunMap::new(), BTreeMap::new());
        let mut is_part = false;
        while let Some(body) = read_body(&mut self.bytes)
            && let Some(segment) = SentSegment::decode(&body, blocks)
        {
            is_part = segment.map.len() > *left;
            if is_part {
                break;
            }
            *left -= segment.map.len();
            map.overlay(&segment.map);
            lengths.insert(segment.id, segment.length);
        }
        if lengths.is_empty() && !is_part {
            // Of a run that had put nothing yet.
            self.note.remove();
            return None;
        }
        Some(FoundRuns {
            run: self.head.run,
            note: self.note,
            map,
            lengths,
            is_part,
        })
    }
}

impl FoundRuns {
    /// Lays it over what older runs have put.
    fn add_to(self, before: &mut SentBefore) {
        before.map.overlay(&self.map);
        before.lengths.extend(self.lengths);
        before.runs.insert(self.run);
        before.notes.push(self.note);
        before.is_part |= self.is_part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockIndex, Bytes, Content, DevNumber, Run};
    use std::io::Write;

    const VAULT: ObjectId = ObjectId([1; 16]);
    const OWNER: Owner<'static> = Owner {
        host: "host",
        machine: None,
        boot: Some("boot"),
    };

    fn disk() -> DiskIdentity {
        DiskIdentity {
            name: "vda".into(),
            dev: DevNumber { major: 8, minor: 0 },
            size: Bytes(100 << 16),
            logical_block: 512,
            serial: None,
            wwn: None,
            diskseq: None,
            table_id: None,
        }
    }

    /// Writes a note of entries with two runs each, all of segments that begin with this byte.
    fn write(directory: &Path, run: u64, first: u8, entries: u64) -> PathBuf {
        let run = SnapshotId::generate(run);
        let head = NoteHead::of(disk(), VAULT, run, &OWNER);
        let path = directory.join(format!("{run}-0"));
        let mut file = File::create(&path).unwrap();
        file.write_all(&head.encode().unwrap()).unwrap();
        for entry in 0..entries {
            let mut id = ObjectId([first; 16]);
            id.0[1] = entry as u8;
            let run = |start, slot| Run {
                start: BlockIndex(start),
                count: 1,
                content: Content::Data { segment: id, slot },
            };
            let mut map = RunMap::new();
            map.insert(run(4 * entry, 0));
            map.insert(run(4 * entry + 2, 1));
            let segment = SentSegment {
                id,
                length: 1000,
                map,
            };
            file.write_all(&segment.encode(100)).unwrap();
        }
        path
    }

    fn read(directory: &Path, left: usize) -> SentBefore {
        let search = Search {
            directory,
            vault: VAULT,
            owner: OWNER,
            is_done: &|_| false,
        };
        let mut found = search.within(left, &[&disk()]);
        found.pop().unwrap()
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), 1, 7, 5);
        for (left, runs) in [(100, 10), (10, 10), (7, 6), (1, 0), (0, 0)] {
            let before = read(folder.path(), left);
            assert_eq!(before.map.len(), runs);
            assert_eq!(before.is_part, runs < 10, "{left}");
            assert!(path.exists(), "{left}: there was no room for it");
        }
        let empty = write(folder.path(), 2, 7, 0);
        read(folder.path(), 100);
        assert!(!empty.exists());
    }

    #[test]
    fn the_newest_notes_are_read_first_and_count() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1, 7, 5);
        write(folder.path(), 2, 8, 2);
        let firsts = |left| {
            let map = read(folder.path(), left).map;
            let first = |run: Run| match run.content {
                Content::Data { segment, .. } => segment.0[0],
                _ => 0,
            };
            map.iter().map(first).collect::<Vec<_>>()
        };
        assert_eq!(firsts(4), [8; 4]);
        assert_eq!(firsts(100), [8, 8, 8, 8, 7, 7, 7, 7, 7, 7]);
    }

    #[test]
    fn of_many_files_those_of_the_newest_runs_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        for number in (0..MOST_NOTES + 50).rev() {
            File::create(folder.path().join(format!("{number:05}"))).unwrap();
        }
        let search = Search {
            directory: folder.path(),
            vault: VAULT,
            owner: OWNER,
            is_done: &|_| false,
        };
        let paths = search.paths();
        assert_eq!(paths.len(), MOST_NOTES);
        assert_eq!(*paths.first().unwrap(), folder.path().join("00050"));
    }

    #[test]
    fn a_machine_without_a_name_is_known_by_its_boot() {
        let owner = |machine, boot| Owner {
            host: "host",
            machine,
            boot,
        };
        let wrote = |own: Owner<'_>, other: Owner<'_>| {
            own.has_written(&NoteHead::of(
                disk(),
                VAULT,
                SnapshotId::generate(1),
                &other,
            ))
        };
        assert!(wrote(owner(None, Some("a")), owner(None, Some("a"))));
        assert!(!wrote(owner(None, Some("a")), owner(None, Some("b"))));
        assert!(!wrote(owner(None, None), owner(None, None)));
        assert!(wrote(
            owner(Some("m"), Some("a")),
            owner(Some("m"), Some("b"))
        ));
        assert!(!wrote(owner(Some("m"), Some("a")), owner(None, Some("a"))));
    }
}
