//! What one run has put into the vault before its manifest makes a snapshot of it. Dropping a draft
//! deletes its objects again, but for segments that the next run can go on from, another run may
//! have gone on from, or runs of any host may have found by the copies of their footers. What
//! stays, or a killed process leaves, and nobody goes on from, is the collector's.

use super::ask::{ask_both, ask_of_each, ask_size_of_each};
use super::confirm::confirm_kept;
use super::elsewhere::{ChunksElsewhere, LEAST_LOOKING, LookOptions};
use super::object_name::ObjectName;
use super::object_store::Blob;
use super::room::VaultRoom;
use super::sent::{SentNotes, SentRun};
use super::session::Session;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    BlockDedup, Condemned, FooterCopiesRef, FooterCopiesWriter, IndexRef, Manifest, Sealer,
    Trailer, decode_index, encode_index,
};
use crate::model::{Bytes, Cancel, ObjectId, RunMap, SnapshotId};
use crate::sys::locked::LockExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// A failed run that has put less than this takes it back: it is soon sent again.
const WORTH_KEEPING: Bytes = Bytes(64 << 20);
/// A run that reads less than this of its disks stores it: to ask what the vault has costs more.
const WORTH_LOOKING: Bytes = Bytes(16 << 20);

/// An object that was put, or may have been.
struct PutObject {
    name: ObjectName,
    /// In bytes.
    size: u64,
    /// A segment that was put, and stands in the notes.
    noted: bool,
    /// Runs of any host may refer to it by now.
    is_shared: bool,
}

/// Objects that belong to no snapshot yet.
pub struct Draft {
    vault: Arc<Vault>,
    session: Option<Session>,
    put: Mutex<Vec<PutObject>>,
    /// What is noted of it on the host.
    notes: Option<SentNotes>,
    /// Segments of other runs that the snapshot will refer to, and their lengths in bytes.
    taken_over: Mutex<BTreeMap<ObjectId, u64>>,
    /// The run has failed, and the next one can go on from what it has put.
    leaves: Mutex<bool>,
    copies: Mutex<CopiesInMaking>,
}

/// Copies of the footers of the segments that were put.
struct CopiesInMaking {
    run: SnapshotId,
    writer: FooterCopiesWriter,
    /// The segments whose copies are in the writer.
    segments: BTreeSet<ObjectName>,
    /// The objects that were finished.
    finished: Vec<FooterCopiesRef>,
}

impl CopiesInMaking {
    fn of(run: SnapshotId) -> Self {
        Self {
            run,
            writer: FooterCopiesWriter::default(),
            segments: BTreeSet::new(),
            finished: Vec::new(),
        }
    }

    /// Ends the object that is being made; `None`: there is none.
    fn finish(&mut self) -> Option<FinishedCopies> {
        let bytes = self.writer.take()?;
        let segments = std::mem::take(&mut self.segments);
        let copies = FooterCopiesRef {
            run: self.run,
            part: self.finished.len() as u32,
            bytes: bytes.len() as u64,
        };
        self.finished.push(copies);
        Some(FinishedCopies {
            copies,
            bytes: bytes.into(),
            segments,
        })
    }
}

/// An object of copies, and the segments that they are of.
struct FinishedCopies {
    copies: FooterCopiesRef,
    bytes: Blob,
    segments: BTreeSet<ObjectName>,
}

impl Draft {
    /// An empty draft.
    pub fn begin(vault: &Arc<Vault>) -> Self {
        Self {
            vault: Arc::clone(vault),
            session: None,
            put: Mutex::default(),
            notes: None,
            taken_over: Mutex::default(),
            leaves: Mutex::default(),
            copies: Mutex::new(CopiesInMaking::of(SnapshotId::generate(0))),
        }
    }

    /// An empty draft of a run with a session, which lasts until the draft is dropped.
    /// `notes`: where it is noted on the host what is put.
    pub fn begin_in(vault: &Arc<Vault>, session: Session, notes: Option<SentNotes>) -> Self {
        let mut draft = Self::begin(vault);
        draft.copies = Mutex::new(CopiesInMaking::of(session.run()));
        draft.session = Some(session);
        draft.notes = notes;
        draft
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        // Noted first: an error does not say that the object is not there.
        let mut put = self.put.locked();
        put.push(PutObject {
            name: name.clone(),
            size: bytes.len() as u64,
            noted: false,
            is_shared: false,
        });
        drop(put);
        self.check_session()?;
        self.vault.store.put(name, bytes)
    }

    fn check_session(&self) -> Result<()> {
        self.session.as_ref().map_or(Ok(()), Session::check)
    }

    /// The room where the vault is: see [`Vault::room`].
    pub fn room(&self) -> Result<Option<VaultRoom>> {
        self.vault.room()
    }

    /// How many segments are worth putting at once.
    pub fn puts_at_once(&self) -> usize {
        self.vault.store.capabilities().puts
    }

    /// Seals what goes into the vault.
    pub fn sealer(&self) -> &Sealer {
        self.vault.sealer()
    }

    /// All that copies name stays from here on, whatever becomes of this run, and so do they: who
    /// looks for what others have put may refer to it, and no question could tell that nobody does.
    /// Whether anybody looks is another run's word, by the `vault.json` that it has read: this one
    /// may have read another.
    fn put_copies(&self, finished: Option<FinishedCopies>) -> Result<()> {
        let Some(finished) = finished else {
            return Ok(());
        };
        let name = ObjectName::footers(finished.copies);
        let share = |is_of: &dyn Fn(&ObjectName) -> bool| {
            let mut put = self.put.locked();
            let these = put.iter_mut().filter(|object| is_of(&object.name));
            these.for_each(|object| object.is_shared = true);
        };
        share(&|name| finished.segments.contains(name));
        let put = self.put(&name, finished.bytes);
        share(&|other| *other == name);
        put
    }

    /// What the vault has already, for a run that stores no block twice; `None`: this one stores
    /// all that it reads. `wanted`: how much that is. `named`: what the snapshots name that it
    /// builds on.
    pub fn look_elsewhere(
        &self,
        wanted: Bytes,
        named: &[FooterCopiesRef],
        cancel: &dyn Cancel,
    ) -> Result<Option<ChunksElsewhere>> {
        // Only with a session is what it refers to safe.
        let Some(session) = self.session.as_ref().filter(|_| self.vault.shares_blocks()) else {
            return Ok(None);
        };
        if wanted < WORTH_LOOKING {
            return Ok(None);
        }
        let look = LookOptions {
            run: session.run(),
            wanted,
            least: LEAST_LOOKING,
            named,
            cancel,
        };
        ChunksElsewhere::load(&self.vault, &look).map(Some)
    }

    /// Across what the run has been told to store equal blocks once.
    pub fn dedup(&self) -> BlockDedup {
        self.vault.info().dedup
    }

    /// Notes what the run has found false in the vault: see [`Vault::note_false`].
    pub fn note_false(&self, cancel: &dyn Cancel) -> Result<()> {
        self.vault.note_false(cancel)
    }

    /// Puts the copies of footers that were not put yet; returns the objects of all of the run's.
    /// To be called when all segments are put, and late: a run that fails before takes back more.
    pub fn finish_copies(&self) -> Result<Vec<FooterCopiesRef>> {
        let finished = self.copies.locked().finish();
        self.put_copies(finished)?;
        Ok(self.copies.locked().finished.clone())
    }

    /// Notes on the host what is put from here on.
    pub fn note_in(&mut self, notes: SentNotes) {
        self.notes = Some(notes);
    }

    /// Notes nothing from here on: filesystems may be frozen, and the notes be on one of them.
    pub fn hold_notes(&self) {
        self.notes.iter().for_each(SentNotes::hold);
    }

    /// Goes on noting: nothing is frozen.
    pub fn go_on_noting(&self) {
        self.notes.iter().for_each(SentNotes::go_on);
    }

    /// Puts a finished segment, in which these blocks are.
    pub fn put_segment(&self, id: ObjectId, bytes: Blob, runs: &[SentRun]) -> Result<()> {
        let (name, length) = (ObjectName::segment(id), bytes.len() as u64);
        let tail = match self.vault.has_copies_of_footers() {
            // What has no end of a segment is none, and has no copy.
            true => Trailer::decode(&bytes, length)
                .ok()
                .map(|trailer| bytes.slice(trailer.footer_offset as usize..)),
            false => None,
        };
        self.put(&name, bytes)?;
        if self
            .notes
            .as_ref()
            .is_some_and(|notes| notes.add(id, length, runs))
        {
            let mut put = self.put.locked();
            let one = put.iter_mut().rev().find(|object| object.name == name);
            one.into_iter().for_each(|object| object.noted = true);
        }
        tail.map_or(Ok(()), |tail| self.copy_footer(id, &tail))
    }

    fn copy_footer(&self, id: ObjectId, tail: &[u8]) -> Result<()> {
        let finished = {
            let mut copies = self.copies.locked();
            copies.writer.push(id, tail);
            copies.segments.insert(ObjectName::segment(id));
            copies.writer.is_full().then(|| copies.finish()).flatten()
        };
        self.put_copies(finished)
    }

    /// Whether a collector means to delete an index object that a snapshot could refer to.
    pub fn is_condemned(&self, index: &[IndexRef]) -> bool {
        let mut all = index.iter();
        all.any(|part| self.vault.is_condemned(Condemned::Index(part.id)))
    }

    /// Says that the snapshot refers to segments that other runs have put, each of this length in
    /// bytes. They are looked for once more before it exists.
    pub fn take_over(&self, segments: impl IntoIterator<Item = (ObjectId, u64)>) {
        self.taken_over.locked().extend(segments);
    }

    /// To be called with the error that the run fails with: decides whether what it has put stays
    /// for the next run, and adds that to the error. It does not stay where room is what is
    /// missing, nor where somebody at a keyboard has stopped the run.
    pub fn ended_by(&self, error: Error) -> Error {
        const CTRL_C: i32 = 2;
        let unwanted = match error.kind() {
            ErrorKind::NoSpace => true,
            // A distant store is asked for no more then, so what another may need is not known.
            ErrorKind::Interrupted(CTRL_C) => !self.vault.store.capabilities().confirms,
            _ => false,
        };
        let put = self.put.locked();
        let noted = put.iter().filter(|object| self.stays(object));
        let much = Bytes(noted.map(|object| object.size).sum());
        let shared = put.iter().filter(|object| object.is_shared);
        let shared = Bytes(shared.map(|object| object.size).sum());
        drop(put);
        let error = match shared {
            Bytes(0) => error,
            _ => error.and_said(format!(
                "{shared} of what it has put stay in the vault, as other hosts may refer to them \
                 by now; `stillpoint gc` frees what none does"
            )),
        };
        if unwanted || much < WORTH_KEEPING {
            return error;
        }
        *self.leaves.locked() = true;
        error.and_said(format!(
            "the {much} that are in the vault by now stay there, and the next snapshot of the same \
             disks goes on from what is left of them"
        ))
    }

    /// Whether the next run can find it.
    fn stays(&self, object: &PutObject) -> bool {
        let id = || object.name.components().last()?.parse().ok();
        let notes = self.notes.as_ref().filter(|_| object.noted);
        notes.is_some_and(|notes| id().is_some_and(|id| !notes.is_waiting(id)))
    }

    /// Whether what was noted is to stay, though this run does not want it. Notes that are held
    /// cannot be taken back, and would name what is gone.
    fn may_be_anothers(&self) -> Result<bool> {
        let Some(notes) = &self.notes else {
            return Ok(false);
        };
        Ok(notes.is_held() || self.vault.others_may_refer(notes.origin())?)
    }

    /// Stores a map as one or more index objects; those of a base are marked so.
    pub fn put_index(&self, map: &RunMap, blocks: u64, base: bool) -> Result<Vec<IndexRef>> {
        let mut refs = Vec::new();
        for part in encode_index(map, blocks) {
            let (id, bytes) = self.sealer().seal_index(&part)?;
            self.put(&ObjectName::index(id), bytes.into())?;
            let runs = decode_index(&part, blocks, &mut RunMap::new())?;
            refs.push(IndexRef { id, runs, base });
        }
        Ok(refs)
    }

    /// Asks the store for the size of each object that was put, where it is of a sort that says
    /// "done" of what it has not kept; of what was taken over it asks every store. An error when
    /// one is missing or has another size.
    fn confirm(&self) -> Result<()> {
        self.confirm_taken_over()?;
        if !self.vault.store.capabilities().confirms {
            return Ok(());
        }
        let put = self.put.locked();
        let store = self.vault.store.as_ref();
        let confirm = |object: &PutObject| confirm_kept(store, &object.name, object.size);
        ask_size_of_each(store, &put, &|| Ok(()), confirm, |_, confirmed| confirmed)
    }

    fn confirm_taken_over(&self) -> Result<()> {
        let taken: Vec<_> = std::mem::take(&mut *self.taken_over.locked())
            .into_iter()
            .collect();
        let store = self.vault.store.as_ref();
        let size = |one: &(ObjectId, u64)| store.size(&ObjectName::segment(one.0));
        ask_size_of_each(store, &taken, &|| Ok(()), size, |(id, length), size| {
            match size {
                Ok(size) if size == *length => return Ok(()),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let what = format!(
                "segment {id}, which an earlier run had put and this one refers to, is not in the \
                 vault any more, or not whole"
            );
            Err(Error::new(ErrorKind::Failed, what).with_hint("run it again: it is put anew"))
        })
    }

    /// Whether nobody takes the run for dead; the store is asked.
    pub fn ask_session(&self) -> Result<()> {
        self.session.as_ref().map_or(Ok(()), Session::ask)
    }

    /// Makes a snapshot exist. The manifest is told what was asked of the vault up to it.
    pub fn commit(self, manifest: &mut Manifest) -> Result<()> {
        self.commit_one(manifest)
    }

    /// The same of one of several that the run makes. From the first one on nothing of what was put
    /// is taken back.
    pub fn commit_one(&self, manifest: &mut Manifest) -> Result<()> {
        let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
        let ready = self.prepare(manifest);
        let bytes = ready.map_err(|error| self.ended_by(error))?;
        let size = bytes.len() as u64;
        let keep = |draft: &Self| {
            draft.put.locked().clear();
            *draft.leaves.locked() = true;
        };
        let put = self.vault.store.put(&name, bytes.into());
        let store = self.vault.store.as_ref();
        // The machine may have stood still while it was put.
        let put = put.and_then(|()| match store.capabilities().confirms {
            true => ask_both(|| confirm_kept(store, &name, size), || self.ask_session()),
            false => self.ask_session(),
        });
        if let Err(error) = put {
            if !manifest.rewrites.is_empty() {
                // Whoever has seen it may have taken the name that it was made for: it stays, and
                // so does what it refers to.
                keep(self);
                return Err(error.and_said(format!(
                    "the snapshot may be there under another name, too, as {}",
                    manifest.snapshot
                )));
            }
            // It may be there all the same, and from a distant store's point of view come later
            // than this delete. As long as it may, so must what it refers to.
            let deleted = store.delete(&name);
            let error = error.context("the snapshot was not made");
            let is_left = deleted.is_err();
            let error = match is_left {
                false => error,
                true => error.and_said(format!(
                    "it may be in the list all the same: `stillpoint delete {}` takes it out",
                    manifest.snapshot
                )),
            };
            if is_left || store.capabilities().confirms {
                let error = self.ended_by(error);
                keep(self);
                return Err(error);
            }
            return Err(self.ended_by(error));
        }
        keep(self);
        self.notes.iter().for_each(SentNotes::finish);
        Ok(())
    }

    /// The manifest's bytes, once all that it refers to is there.
    fn prepare(&self, manifest: &mut Manifest) -> Result<Vec<u8>> {
        self.confirm()?;
        if let Some(session) = &self.session {
            // Last of all: what the manifest refers to is nobody's garbage yet.
            let plans = || self.vault.check_not_passed_over(session.run());
            ask_both(plans, || session.ask())?;
        }
        if manifest.rewrites.is_empty() {
            manifest.requests = self.vault.requests();
        }
        manifest.encode(self.sealer())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let put = std::mem::take(&mut *self.put.locked());
        let mut leaves = *self.leaves.locked();
        if !leaves && put.iter().any(|object| self.stays(object)) {
            // Where nobody can say, it stays.
            leaves = self.may_be_anothers().unwrap_or(true);
        }
        if !leaves {
            // First: what is deleted is not to be looked for.
            self.notes.iter().for_each(SentNotes::take_back);
        }
        // What stays is not referred to by anything.
        let stays = |object: &PutObject| object.is_shared || (leaves && self.stays(object));
        let all = put.iter().filter(|object| !stays(object));
        let all: Vec<&PutObject> = all.collect();
        let store = self.vault.store.as_ref();
        let delete = |object: &&PutObject| store.delete(&object.name);
        if !store.capabilities().confirms {
            all.iter().for_each(|object| drop(delete(object)));
            return;
        }
        // Where one is refused, it was tried for minutes, is not permitted, or a stop is long ago.
        let _ = ask_of_each(store, &all, &|| Ok(()), delete, |_, deleted| deleted);
    }
}
