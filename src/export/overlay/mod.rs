//! What clients write to a disk of a snapshot: it goes to a file of the user's, over what the vault
//! holds. What was written before a flush is there after a kill or a power cut. It must never touch
//! the vault, nor take an overlay of another disk for its own.

mod file;
mod head;
mod marks;

pub use head::OverlayOf;

use self::file::OverlayFile;
use self::head::OverlayLayout;
use self::marks::{MarkedRun, OverlayMarks};
use super::image::{AllocationRun, Image};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Cancel, Extent};
use crate::sys::locked::LockExt;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Zeros that are written at once.
const PIECE: u64 = 1 << 20;

/// A file with what was written to a disk.
pub struct Overlay {
    file: OverlayFile,
    layout: OverlayLayout,
    size: Bytes,
    marks: Mutex<OverlayMarks>,
    /// Held while something is written: of two who write to one grain neither undoes the other's.
    writing: Mutex<()>,
    /// Held while the file is made to last.
    flushing: Mutex<()>,
    /// Something that was to last has not: nobody knows what else has not.
    is_broken: AtomicBool,
    /// Nobody will read it after this process.
    is_thrown_away: bool,
}

/// What is to be changed.
struct Change<'a> {
    place: Extent,
    /// How much room it may take in the file.
    room: Bytes,
    /// False: it cannot be done so here.
    put: &'a dyn Fn() -> Result<bool>,
}

/// A grain of which only a part is written, and what the vault has there.
struct Edge {
    grain: u64,
    bytes: Vec<u8>,
}

impl Overlay {
    /// Opens the overlay at `path`, or makes it. `known_as`: names under which the snapshot was
    /// known before.
    ///
    /// # Errors
    /// `Exists`: something else is there, or an overlay of another disk; it is left alone. `Busy`:
    /// another server has it.
    pub fn open(path: &Path, of: &OverlayOf, known_as: &[OverlayOf]) -> Result<Self> {
        let layout = OverlayLayout::of(of.size);
        let file = OverlayFile::open(path, of, known_as)?;
        let mut marks = OverlayMarks::default();
        file.load_marks(&mut marks)?;
        Ok(Self {
            file,
            layout,
            size: of.size,
            marks: Mutex::new(marks),
            writing: Mutex::default(),
            flushing: Mutex::default(),
            is_broken: AtomicBool::new(false),
            is_thrown_away: false,
        })
    }

    /// Makes one of a disk of this size, that is gone with this process: a file without a name in
    /// `folder`, which takes no more room than `most`.
    ///
    /// # Errors
    /// There can be no file in that folder.
    pub fn nameless(folder: &Path, size: Bytes, most: Bytes) -> Result<Self> {
        let layout = OverlayLayout::of(size);
        let file = OverlayFile::nameless(folder, OverlayLayout::of(size), most)?;
        Ok(Self {
            file,
            layout,
            size,
            marks: Mutex::default(),
            writing: Mutex::default(),
            flushing: Mutex::default(),
            is_broken: AtomicBool::new(false),
            is_thrown_away: true,
        })
    }

    /// Fills `buffer` from `offset` on: with what was written, else with what `base` has.
    pub fn read(
        &self,
        base: &Image,
        offset: Bytes,
        buffer: &mut [u8],
        patience: Duration,
    ) -> Result<()> {
        let mut place = Extent::new(offset, Bytes(buffer.len() as u64));
        self.refuse_outside(place)?;
        let mut rest = buffer;
        while !rest.is_empty() {
            for run in self.runs(place, usize::MAX) {
                let part = self.part(&run.grains, place);
                let (here, after) = rest.split_at_mut(part.length.0 as usize);
                match run.is_marked {
                    true => self.file.read(part.offset, here)?,
                    false => base.read_within(part.offset, here, patience)?,
                }
                rest = after;
                place = Extent::new(part.end(), place.end() - part.end());
            }
        }
        Ok(())
    }

    /// Writes bytes. They last once [`flush`](Self::flush) has returned.
    ///
    /// # Errors
    /// `NoSpace`: the host has no room for them. Others as for the file, or as for reading `base`,
    /// where a part of a grain was not written. What was there before may be there in part then.
    pub fn write(
        &self,
        base: &Image,
        offset: Bytes,
        bytes: &[u8],
        patience: Duration,
    ) -> Result<()> {
        let place = Extent::new(offset, Bytes(bytes.len() as u64));
        let change = Change {
            place,
            room: place.length,
            put: &|| self.file.write(offset, bytes).map(|()| true),
        };
        self.change(base, &change, patience).map(drop)
    }

    /// Writes zeros. `keep_room`: they take room in the file, as other bytes do. `cancel` is asked
    /// before each piece that is written; a hole needs no time.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn zero(
        &self,
        base: &Image,
        place: Extent,
        keep_room: bool,
        patience: Duration,
        cancel: &dyn Cancel,
    ) -> Result<()> {
        self.refuse_outside(place)?;
        let punch = Change {
            place,
            room: Bytes(0),
            put: &|| self.file.punch(place),
        };
        if !keep_room && self.change(base, &punch, patience)? {
            return Ok(());
        }
        // Piece by piece: others write meanwhile.
        let mut at = place.offset;
        while at < place.end() {
            cancel.check()?;
            let length = (PIECE - at.0 % PIECE).min(place.end().0 - at.0);
            let piece = Extent::new(at, Bytes(length));
            let zeros = Change {
                place: piece,
                room: piece.length,
                put: &|| self.file.write_zeros(piece).map(|()| true),
            };
            self.change(base, &zeros, patience)?;
            at = piece.end();
        }
        Ok(())
    }

    /// Gives up what is in a place, whole grains of it: it reads as zeros, and takes no room.
    pub fn trim(&self, place: Extent) -> Result<()> {
        self.refuse_broken()?;
        self.refuse_outside(place)?;
        let grain = self.layout.grain;
        let first = place.offset.0.div_ceil(grain);
        let end = match place.end() == self.size {
            true => self.layout.grains,
            false => place.end().0 / grain,
        };
        if first >= end {
            return Ok(());
        }
        let whole = self.extent_of(&(first..end));
        let _writing = self.writing.locked();
        // Where there can be no hole it is left as it is: nobody relies on a trim.
        if self.file.punch(whole)? {
            self.marks.locked().mark(first..end);
        }
        Ok(())
    }

    /// Makes all last that was written before.
    ///
    /// # Errors
    /// The file could not be made to last. From then on nothing is written any more, as nobody
    /// knows what has been lost.
    pub fn flush(&self) -> Result<()> {
        // Who comes second waits for what the first has taken.
        let _flushing = self.flushing.locked();
        self.refuse_broken()?;
        if self.is_thrown_away {
            return Ok(());
        }
        let pages = self.marks.locked().take_dirty();
        // What marks say must be there before they say it.
        let flushed = self.file.sync().and_then(|()| {
            if pages.is_empty() {
                return Ok(());
            }
            self.file.put_marks(&pages)?;
            self.file.sync()
        });
        match &flushed {
            Ok(()) => {}
            // A full host has taken no mark: they are put the next time.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.marks.locked().put_back(&pages);
            }
            Err(_) => self.is_broken.store(true, Ordering::Release),
        }
        flushed
    }

    /// What a part of the disk holds, as [`Image::allocation`].
    pub fn allocation(
        &self,
        base: &Image,
        place: Extent,
        most: usize,
    ) -> Result<Vec<AllocationRun>> {
        self.refuse_outside(place)?;
        let mut all: Vec<AllocationRun> = Vec::new();
        for run in self.runs(place, most) {
            let part = self.part(&run.grains, place);
            let runs = match run.is_marked {
                true => self.file.allocation(part, most),
                false => base.allocation(part, most)?,
            };
            let covered: u64 = runs.iter().map(|run| run.length.0).sum();
            for run in runs {
                match all.last_mut() {
                    Some(last) if last.kind == run.kind => last.length += run.length,
                    _ => all.push(run),
                }
            }
            if covered < part.length.0 || all.len() > most {
                break;
            }
        }
        all.truncate(most);
        Ok(all)
    }

    /// Changes a place, after what is not changed of its first and last grain was put there.
    /// False: it could not be put there, and nothing has changed.
    fn change(&self, base: &Image, change: &Change<'_>, patience: Duration) -> Result<bool> {
        self.refuse_broken()?;
        let place = change.place;
        self.refuse_outside(place)?;
        if place.length.0 == 0 {
            return Ok(true);
        }
        let grains = self.grains(place);
        // The vault is not waited for while others wait for this one. What it has never changes.
        let edges = self.edges(base, place, patience)?;
        let _writing = self.writing.locked();
        // Also where something is written over: it may be a hole.
        let room = change.room.0 + edges.len() as u64 * self.layout.grain;
        if room > 0 {
            self.file.refuse_without_room(Bytes(room))?;
        }
        for edge in &edges {
            if !self.marks.locked().is_marked(edge.grain) {
                let start = Bytes(edge.grain * self.layout.grain);
                self.file.write(start, &edge.bytes)?;
            }
        }
        let is_put = (change.put)()?;
        if is_put {
            self.marks.locked().mark(grains);
        }
        Ok(is_put)
    }

    /// The grains of a place that are changed in part, and are not here yet.
    fn edges(&self, base: &Image, place: Extent, patience: Duration) -> Result<Vec<Edge>> {
        let grains = self.grains(place);
        let mut edges: Vec<Edge> = Vec::new();
        for grain in [grains.start, grains.end - 1] {
            let whole = self.extent_of(&(grain..grain + 1));
            let is_whole = place.offset <= whole.offset && whole.end() <= place.end();
            let is_known = edges.iter().any(|edge| edge.grain == grain);
            if is_whole || is_known || self.marks.locked().is_marked(grain) {
                continue;
            }
            let mut bytes = vec![0; whole.length.0 as usize];
            base.read_within(whole.offset, &mut bytes, patience)?;
            edges.push(Edge { grain, bytes });
        }
        Ok(edges)
    }

    fn runs(&self, place: Extent, most: usize) -> Vec<MarkedRun> {
        self.marks.locked().runs(self.grains(place), most)
    }

    fn refuse_outside(&self, place: Extent) -> Result<()> {
        let end = place.offset.0.checked_add(place.length.0);
        match end.filter(|end| *end <= self.size.0) {
            Some(_) => Ok(()),
            None => Err(Error::new(
                ErrorKind::Usage,
                "it is not all within the disk",
            )),
        }
    }

    /// The grains that a place touches.
    fn grains(&self, place: Extent) -> Range<u64> {
        place.offset.0 / self.layout.grain..place.end().0.div_ceil(self.layout.grain)
    }

    fn extent_of(&self, grains: &Range<u64>) -> Extent {
        let grain = self.layout.grain;
        let (start, end) = (grains.start * grain, (grains.end * grain).min(self.size.0));
        Extent::new(Bytes(start), Bytes(end - start))
    }

    /// What grains have of a place.
    fn part(&self, grains: &Range<u64>, place: Extent) -> Extent {
        let all = self.extent_of(grains);
        let (start, end) = (all.offset.max(place.offset), all.end().min(place.end()));
        Extent::new(start, end - start)
    }

    fn refuse_broken(&self) -> Result<()> {
        match self.is_broken.load(Ordering::Acquire) {
            false => Ok(()),
            true => {
                let what = format!(
                    "{}: what was written could not be made to last; nothing is written any more",
                    self.file.path().display()
                );
                Err(Error::new(ErrorKind::Io, what))
            }
        }
    }
}
