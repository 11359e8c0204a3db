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
        let mut left = MOST_RUNS;
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
            let mut before = SentBefore::default();
            notes
                .into_iter()
                .for_each(|one| one.read_into(&mut before, &mut left));
            before
        };
        found.into_iter().map(read).collect()
    }

    /// The files, the oldest run's first.
    fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.take(MOST_NOTES).map(|entry| entry.path()).collect();
        paths.sort_unstable();
        paths
    }

    /// A note of this host's that may be of use.
    fn look_at(&self, path: PathBuf) -> Option<Found> {
        let note = HeldNote::open(path)?;
        let mut bytes = BufReader::new(note.file.try_clone().ok()?);
        let head = read_body(&mut bytes).and_then(|body| NoteHead::decode(&body));
        let is_own = |head: &NoteHead| {
            let owner = (head.host.as_str(), head.machine.as_deref());
            head.vault == self.vault && owner == (self.owner.host, self.owner.machine)
        };
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

impl Found {
    /// `left`: how many runs of blocks may still be read.
    fn read_into(mut self, before: &mut SentBefore, left: &mut usize) {
        let blocks = self.head.blocks();
        let mut is_empty = true;
        while let Some(body) = read_body(&mut self.bytes)
            && let Some(segment) = SentSegment::decode(&body, blocks)
            && segment.map.len() <= *left
        {
            is_empty = false;
            *left -= segment.map.len();
            before.map.overlay(&segment.map);
            before.lengths.insert(segment.id, segment.length);
        }
        if is_empty && *left > 0 {
            // Of a run that had put nothing yet.
            return self.note.remove();
        }
        before.runs.insert(self.head.run);
        before.notes.push(self.note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockIndex, Bytes, Content, DevNumber, Run};
    use std::io::Write;

    /// A note of entries with two runs each, and how many runs are read of it where so many may be.
    fn read(entries: u64, mut left: usize) -> usize {
        let owner = Owner {
            host: "host",
            machine: None,
        };
        let disk = DiskIdentity {
            name: "vda".into(),
            dev: DevNumber { major: 8, minor: 0 },
            size: Bytes(100 << 16),
            logical_block: 512,
            serial: None,
            wwn: None,
            diskseq: None,
            table_id: None,
        };
        let head = NoteHead::of(disk, ObjectId([1; 16]), SnapshotId::generate(1), &owner);
        let file = tempfile::NamedTempFile::new().unwrap();
        for entry in 0..entries {
            let id = ObjectId([entry as u8; 16]);
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
            file.as_file().write_all(&segment.encode(100)).unwrap();
        }
        let note = HeldNote::open(file.path().to_owned()).unwrap();
        let bytes = BufReader::new(note.file.try_clone().unwrap());
        let mut before = SentBefore::default();
        Found { head, note, bytes }.read_into(&mut before, &mut left);
        before.map.len()
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        assert_eq!(read(5, 100), 10);
        assert_eq!(read(5, 10), 10);
        assert_eq!(read(5, 7), 6);
        assert_eq!(read(5, 1), 0);
    }
}
