//! Brings back objects, several at once: each is got as the version that stood then, checked, and
//! put in its place. Of what its name proves any version is as good, where that one is not whole.
//! What is wrong with one, whatever it is, keeps no other from coming back.

use crate::engine::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, clip};
use crate::store::{
    ManifestPut, MirrorWriter, NeededSort, PastVault, PutBefore, Stood, StoredObject,
};
use crate::sys::locked::{LockExt, LockResultExt};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// So many failures to reach the store, or to put, one after another, are no object's fault.
const MOST_IN_A_ROW: usize = 8;
/// How many are looked at at once where nothing is put.
const LOOKS_AT_ONCE: usize = 4;

/// What has become of an object.
pub(super) enum EndOfOne {
    /// It stands as it stood.
    Stands,
    /// It is back, or would be, with so many bytes.
    Back(u64),
    /// It could not be brought back.
    Failed(Error),
}

/// What came of all of them, in their order; of those that were not begun nothing.
type Ends = Vec<Option<EndOfOne>>;

/// Who brings back.
pub(super) struct CarryBack<'a> {
    past: &'a PastVault,
    /// `None`: nothing is put.
    writer: Option<&'a MirrorWriter<'a>>,
    monitor: &'a dyn Monitor,
    fails: AtomicUsize,
    done: AtomicU64,
}

impl<'a> CarryBack<'a> {
    pub(super) fn new(
        past: &'a PastVault,
        writer: Option<&'a MirrorWriter<'a>>,
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            past,
            writer,
            monitor,
            fails: AtomicUsize::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// All of them, and the error that ended it early.
    pub(super) fn all(&self, sort: NeededSort, found: &[Stood]) -> (Ends, Result<()>) {
        let total: u64 = found.iter().map(length).sum();
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let ends = Mutex::new(found.iter().map(|_| None).collect::<Ends>());
        let work = || {
            while failure.locked().is_none() {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(stood) = found.get(at) else { return };
                match self.one(sort, stood) {
                    Ok(end) => ends.locked()[at] = Some(end),
                    Err(error) => drop(failure.locked().get_or_insert(error)),
                }
                let done = length(stood);
                let done = self.done.fetch_add(done, Ordering::Relaxed) + done;
                self.monitor.tell(Event::Progress {
                    done: Bytes(done),
                    total: Bytes(total),
                });
            }
        };
        let at_once = self
            .writer
            .map_or(LOOKS_AT_ONCE, MirrorWriter::puts_at_once);
        std::thread::scope(|scope| {
            for _ in 1..at_once.min(found.len()) {
                let thread = std::thread::Builder::new().name("recover".into());
                // A host without a thread left still does it, one after another.
                let _ = thread.spawn_scoped(scope, work);
            }
            work();
        });
        let failure = failure.into_inner().unpoisoned();
        let done = failure.map_or(Ok(()), Err);
        (ends.into_inner().unpoisoned(), done)
    }

    fn one(&self, sort: NeededSort, stood: &Stood) -> Result<EndOfOne> {
        self.monitor.check()?;
        use ErrorKind::{Archived, Damaged, Exists, Failed, Format, Io, NotFound};
        let error = match self.bring(sort, stood) {
            Ok(EndOfOne::Failed(error)) if error.kind() == Io => error,
            Err(error) if matches!(error.kind(), Io | Failed) => error,
            Err(error)
                if matches!(
                    error.kind(),
                    Archived | Damaged | Exists | Format | NotFound
                ) =>
            {
                return Ok(EndOfOne::Failed(error));
            }
            ended => {
                self.fails.store(0, Ordering::Relaxed);
                return ended;
            }
        };
        match self.fails.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_IN_A_ROW {
            true => Err(error),
            false => Ok(EndOfOne::Failed(error)),
        }
    }

    fn bring(&self, sort: NeededSort, stood: &Stood) -> Result<EndOfOne> {
        // Where several things were put before then, what stood then may be any of them, and the
        // name says which is true.
        let is_doubtful = sort.is_proven() && stood.before == PutBefore::Several;
        let stands = match is_doubtful {
            true => stood.now.is_some() && self.past.is_whole_now(sort, &stood.name)?,
            false => self.past.stands(stood)?,
        };
        if stands {
            return Ok(EndOfOne::Stands);
        }
        if stood.then.is_none() {
            return self.bring_proven(sort, stood, not_then(stood));
        }
        let length = length(stood);
        let now = stood.now.as_ref();
        let may_be_equal = now.is_some_and(|now| now.size == length);
        if self.writer.is_none() && !may_be_equal && !is_doubtful {
            return Ok(EndOfOne::Back(length));
        }
        match self.past.bytes_then(sort, stood) {
            Ok(object) if may_be_equal && self.past.has_now(sort, &object)? => Ok(EndOfOne::Stands),
            Ok(object) => self.put(sort, stood, &object),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted(_)) => Err(error),
            // Whatever it is, it is of this version.
            Err(error) => self.bring_proven(sort, stood, error),
        }
    }

    /// Where what stood then is of no use: what the name proves, of whatever time. Of what no name
    /// proves nothing but what stood then is true.
    fn bring_proven(&self, sort: NeededSort, stood: &Stood, why: Error) -> Result<EndOfOne> {
        if !sort.is_proven() {
            return Ok(EndOfOne::Failed(why));
        }
        if stood.now.is_some() && self.past.is_whole_now(sort, &stood.name)? {
            return Ok(EndOfOne::Stands);
        }
        match self.past.bytes_proven(sort, &stood.name)? {
            Some(object) => self.put(sort, stood, &object),
            None => Ok(EndOfOne::Failed(why)),
        }
    }

    fn put(&self, sort: NeededSort, stood: &Stood, object: &StoredObject) -> Result<EndOfOne> {
        if let Some(writer) = self.writer {
            match (sort, stood.now.is_some()) {
                (NeededSort::Manifests, replaces) => {
                    let how = ManifestPut {
                        replaces,
                        ..ManifestPut::default()
                    };
                    writer.put_manifest(object, how)?;
                }
                (_, true) => writer.replace(object)?,
                (_, false) => writer.put(object)?,
            }
        }
        Ok(EndOfOne::Back(object.length()))
    }
}

fn not_then(stood: &Stood) -> Error {
    let what = match &stood.now {
        Some(now) => format!(
            "it did not stand then, what stands now, version {}, is not what its name says, nor is \
             any other version that was tried",
            clip(&now.id, 128)
        ),
        None => {
            "it did not stand then, nor does it now, and no version that was tried is what its \
                 name says"
                .into()
        }
    };
    Error::new(ErrorKind::Damaged, what)
}

fn length(stood: &Stood) -> u64 {
    stood.then.as_ref().map_or(0, |then| then.size)
}
