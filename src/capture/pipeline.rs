//! The threads between reader and vault, and how they end.

use super::assembler::{Assembler, AssemblerOptions, Captured, Finished};
use super::spare::Spare;
use super::worker::{Batch, Encoded, InVault, encode};
use crate::device::read::Buffer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Packed, Sealer};
use crate::model::{Bytes, Cancel, Extent};
use crate::store::Draft;
use crate::sys::locked::LockExt;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often is looked whether all is encoded.
const DRAIN_LOOK: Duration = Duration::from_millis(1);

/// How a pipeline is made.
#[derive(Clone, Copy, Debug)]
pub struct PipelineOptions {
    /// How many disks the run has.
    pub disks: usize,
    /// How many threads encode; at least one.
    pub workers: usize,
}

/// Threads that encode what they are given and put it into the vault.
pub struct Pipeline {
    batches: Option<Sender<Batch>>,
    /// One ticket a batch between reader and assembler.
    tickets: Sender<()>,
    sequence: u64,
    threads: Vec<JoinHandle<()>>,
    assembled: Option<JoinHandle<Option<Vec<Captured>>>>,
    spare: Spare<Packed>,
    failure: Failure,
    /// How long the open segment is.
    held: Arc<AtomicU64>,
}

/// Whether a thread has failed, and the first error until somebody takes it.
#[derive(Clone, Default)]
struct Failure {
    failed: Arc<AtomicBool>,
    first: Arc<Mutex<Option<Error>>>,
}

impl Failure {
    fn keep(&self, error: Error) {
        self.first.locked().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    fn take(&self) -> Error {
        let first = self.first.locked().take();
        first.unwrap_or_else(ended_early)
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn check(&self) -> Result<()> {
        match self.has_failed() {
            true => Err(self.take()),
            false => Ok(()),
        }
    }
}

fn ended_early() -> Error {
    Error::new(ErrorKind::Failed, "an encoding thread ended early")
}

impl Pipeline {
    /// Most batches between reader and assembler.
    pub const MAX_BATCHES: usize = 32;
    /// Most segments that are put at once. Each takes 32 MiB, and so does the one in the making.
    pub const MAX_PUTTERS: usize = 8;

    /// Starts the threads.
    pub fn start(draft: &Arc<Draft>, options: PipelineOptions) -> Result<Self> {
        let (batches, batches_out) = bounded::<Batch>(Self::MAX_BATCHES);
        let (encoded, encoded_out) = bounded::<Result<Encoded>>(Self::MAX_BATCHES);
        let (tickets, tickets_out) = bounded::<()>(Self::MAX_BATCHES);
        // None waits: one is filled while each putter puts one.
        let (segments, segments_out) = bounded(0);
        let putters = draft.puts_at_once().clamp(1, Self::MAX_PUTTERS);
        let spare = Spare::new(Self::MAX_BATCHES);
        let failure = Failure::default();
        let held = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for _ in 0..options.workers.max(1) {
            let (batches, encoded) = (batches_out.clone(), encoded.clone());
            let (spare, sealer) = (spare.clone(), draft.sealer().clone());
            let work = move || encode_all(&batches, &encoded, &spare, &sealer);
            threads.push(spawn("encode", work)?);
        }
        for _ in 0..putters {
            let (draft, segments) = (Arc::clone(draft), segments_out.clone());
            let failure = failure.clone();
            threads.push(spawn("put", move || put_all(&segments, &draft, &failure))?);
        }
        drop(segments_out);
        let kept = failure.clone();
        let assembler = Assembler::new(AssemblerOptions {
            disks: options.disks,
            putters,
            batches: spare.clone(),
            sealer: draft.sealer().clone(),
            held: Arc::clone(&held),
        });
        let assembled = spawn("assemble", move || {
            let assembled = assemble(&encoded_out, &tickets_out, &segments, assembler);
            assembled.map_err(|error| kept.keep(error)).ok()
        })?;
        Ok(Self {
            batches: Some(batches),
            tickets,
            sequence: 0,
            threads,
            assembled: Some(assembled),
            spare,
            failure,
            held,
        })
    }

    /// What is packed and waits for its segment to be full, at least: it will be put.
    pub fn held(&self) -> Bytes {
        Bytes(self.held.load(Ordering::Relaxed))
    }

    /// Gives neighbouring blocks of one disk to the threads; waits while they have enough. Of a
    /// block that is given twice the later bytes count. What is in the vault by the word of `known`
    /// is not stored again.
    ///
    /// # Errors
    /// The first error of any thread; nothing of the run may be used then.
    pub fn submit(
        &mut self,
        disk: usize,
        extent: Extent,
        bytes: Buffer,
        known: impl Into<InVault>,
    ) -> Result<()> {
        self.failure.check()?;
        let batch = Batch {
            sequence: self.sequence,
            disk,
            extent,
            bytes,
            known: known.into(),
        };
        self.sequence += 1;
        let sender = self
            .batches
            .as_ref()
            .expect("the sender is there until `finish`");
        if self.tickets.send(()).is_err() || sender.send(batch).is_err() {
            return Err(self.failure.take());
        }
        Ok(())
    }

    /// Waits until all that was submitted has been encoded, so that no thread of ours is busy.
    /// Memory that waits for more is given back. `cancel` is asked again and again.
    ///
    /// # Errors
    /// That of `cancel`; the first error of any thread, so that nothing is frozen for a run that
    /// has failed.
    pub fn drain(&self, cancel: &dyn Cancel) -> Result<()> {
        while !self.tickets.is_empty() {
            cancel.check()?;
            if self.assembled.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err(self.failure.take());
            }
            std::thread::sleep(DRAIN_LOOK);
        }
        self.spare.clear();
        self.failure.check()
    }

    /// Waits until everything is in the vault; returns what was captured of each disk.
    pub fn finish(mut self) -> Result<Vec<Captured>> {
        self.batches = None;
        let assembled = self.assembled.take().map(JoinHandle::join);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.failure.keep(ended_early());
            }
        }
        self.failure.check()?;
        match assembled {
            Some(Ok(Some(captured))) => Ok(captured),
            _ => Err(ended_early()),
        }
    }
}

/// Ends the threads: what was submitted and not yet put is thrown away with the run.
impl Drop for Pipeline {
    fn drop(&mut self) {
        // What is not put yet is not wanted any more.
        self.failure.failed.store(true, Ordering::Release);
        self.batches = None;
        if let Some(assembled) = self.assembled.take() {
            let _ = assembled.join();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error))
}

/// What a thread does with one piece. A panic becomes an error: the other threads would go on as if
/// this piece were done, or wait for it for ever.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic leaves behind is not used again: the run fails.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let what =
            "a thread that encodes or puts has panicked: this is a bug; no snapshot was made";
        Err(Error::new(ErrorKind::Failed, what))
    })
}

/// Puts segments until there are no more, or a putter has failed. An error is kept before the
/// putter's channel goes: the other threads take that for a sign.
fn put_all(segments: &Receiver<Finished>, draft: &Draft, failure: &Failure) {
    for Finished { id, bytes, runs } in segments {
        if failure.has_failed() {
            break;
        }
        if let Err(error) = guarded(|| draft.put_segment(id, bytes, &runs)) {
            failure.keep(error);
            break;
        }
    }
}

fn encode_all(
    batches: &Receiver<Batch>,
    encoded: &Sender<Result<Encoded>>,
    spare: &Spare<Packed>,
    sealer: &Sealer,
) {
    for batch in batches {
        let done = guarded(|| encode(&batch, spare.take(), sealer));
        if encoded.send(done).is_err() {
            // The assembler has failed and has said why.
            break;
        }
    }
}

fn assemble(
    encoded: &Receiver<Result<Encoded>>,
    tickets: &Receiver<()>,
    segments: &Sender<Finished>,
    mut assembler: Assembler,
) -> Result<Vec<Captured>> {
    let mut put = |finished| {
        segments
            .send(finished)
            .map_err(|_| Error::new(ErrorKind::Failed, "the thread that puts segments has ended"))
    };
    for batch in encoded {
        for _ in 0..assembler.take(batch?, &mut put)? {
            // A batch is done; another may be submitted.
            let _ = tickets.try_recv();
        }
    }
    assembler.finish(&mut put)
}
