//! The cut: the instant that the snapshot is of. Everything is held still, the last changed blocks
//! are read into locked memory, and it is let go again.

use super::monitor::{Event, Monitor};
use super::quiesce::Quiesce;
use super::subject::Subject;
use crate::capture::Pipeline;
use crate::device::read::{Buffer, BufferPool, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, BlockSet, Bytes, Extent};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Most times that all is held still before giving up.
const MAX_ATTEMPTS: u32 = 8;

/// How to cut.
#[derive(Clone)]
pub struct CutOptions {
    /// Take a copy that is of no one instant when there is no other.
    pub allow_fuzzy: bool,
    /// How many blocks are expected in the window; there will be room for as many.
    pub blocks: usize,
    /// How many blocks there may be room for at most.
    pub most_blocks: usize,
    /// What is read into while nothing is frozen.
    pub pool: BufferPool,
}

/// The instant, and how it was reached.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The instant.
    pub time: Timestamp,
    /// How long all was held; of the successful attempt.
    pub held: Duration,
    /// The longest that any attempt held all.
    pub longest: Duration,
    /// How often all was held still.
    pub attempts: u32,
    /// Whether something was written in the window: the copy is of no one instant.
    pub fuzzy: bool,
}

/// A block read in the window.
type Held = (usize, Extent, Buffer);

enum Window {
    /// Nothing was written meanwhile.
    Quiet,
    /// More had changed than there is memory for; nothing was read.
    TooMuch(Bytes),
    /// The disk with this number was written to meanwhile.
    Written(usize, BlockSet),
}

/// Cuts all subjects at one instant.
pub fn cut(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    quiesce: &mut dyn Quiesce,
    options: &CutOptions,
    monitor: &dyn Monitor,
) -> Result<Cut> {
    let mut longest = Duration::ZERO;
    let mut seen = String::new();
    let mut blocks = options.blocks;
    for attempt in 1..=MAX_ATTEMPTS {
        for subject in subjects.iter_mut() {
            subject.options.reader.set_pool(&options.pool)?;
        }
        copy_the_latest(subjects, pipeline, quiesce, monitor)?;
        let pool = BufferPool::new(blocks, Bytes(BLOCK_SIZE))?;
        // Without the privilege to lock, it is memory that could be swapped out: the deadline
        // still holds.
        let _ = pool.lock();
        for subject in subjects.iter_mut() {
            subject.options.reader.set_pool(&pool)?;
        }
        let mut held: Vec<Held> = Vec::with_capacity(blocks);
        monitor.tell(Event::Phase("cutting".into()));
        monitor.check()?;
        let deadline = quiesce.freeze()?;
        let time = Timestamp::now();
        let window = read_rest(subjects, blocks, deadline, &mut held);
        let thawed = quiesce.thaw();
        let frozen = thawed?;
        longest = longest.max(frozen);
        let window = window?;
        for (number, extent, buffer) in held {
            let baseline = subjects[number].baseline();
            pipeline.submit(number, extent, buffer, baseline)?;
        }
        let done = |fuzzy| Cut {
            time,
            held: frozen,
            longest,
            attempts: attempt,
            fuzzy,
        };
        match window {
            Window::Quiet => return Ok(done(false)),
            Window::TooMuch(much) => {
                blocks = (2 * much.block().0 as usize).min(options.most_blocks);
                seen = format!("{much} had changed at once, more than the window takes");
            }
            Window::Written(number, blocks) => {
                seen = written(&subjects[number], &blocks);
                if attempt == MAX_ATTEMPTS && options.allow_fuzzy {
                    return Ok(done(true));
                }
            }
        }
        if attempt < MAX_ATTEMPTS {
            wait(attempt, monitor)?;
        }
    }
    Err(Error::new(
        ErrorKind::Inconsistent,
        format!("no quiet instant in {MAX_ATTEMPTS} attempts: {seen}; nothing was stored"),
    )
    .with_hint(
        "take --level filesystem, which freezes what is mounted; stop what writes to the disk \
         directly; or take it with --allow-fuzzy for what it is worth",
    ))
}

fn written(subject: &Subject, blocks: &BlockSet) -> String {
    let first = blocks.nth(0).unwrap_or_default().offset().0;
    format!(
        "{} was written to in the window ({} blocks, at byte {first})",
        subject.name(),
        blocks.len()
    )
}

/// Longer after each attempt that failed, so that what writes in bursts can end one.
fn wait(attempt: u32, monitor: &dyn Monitor) -> Result<()> {
    let until = Instant::now() + Duration::from_millis(50) * attempt * attempt;
    while Instant::now() < until {
        monitor.check()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One more pass while nothing is frozen, so that the window has little to read.
fn copy_the_latest(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    quiesce: &mut dyn Quiesce,
    monitor: &dyn Monitor,
) -> Result<()> {
    quiesce.settle()?;
    let stop = || monitor.check();
    let limits = Limits {
        deadline: None,
        stop: Some(&stop),
    };
    for (number, subject) in subjects.iter_mut().enumerate() {
        if subject.want_changed()?.0 > 0 {
            subject.copy_wanted(number, pipeline, &limits, &mut |_| {})?;
        }
    }
    Ok(())
}

/// What happens while all is held. It must not log, print, or wait without the deadline.
fn read_rest(
    subjects: &mut [Subject],
    blocks: usize,
    deadline: Instant,
    held: &mut Vec<Held>,
) -> Result<Window> {
    let mut total = 0;
    for subject in subjects.iter_mut() {
        subject.want_rest()?;
        total += subject.wanted.len();
    }
    if total > blocks as u64 {
        // It stays wanted: the next pass reads it.
        return Ok(Window::TooMuch(Bytes(total * BLOCK_SIZE)));
    }
    let limits = Limits {
        deadline: Some(deadline),
        stop: None,
    };
    for (number, subject) in subjects.iter_mut().enumerate() {
        let wanted = std::mem::take(&mut subject.wanted);
        if wanted.is_empty() {
            continue;
        }
        let size = subject.size();
        let mut extents = wanted.ranges(1).map(|range| Extent::of_blocks(range, size));
        let read = subject
            .options
            .reader
            .read(&mut extents, &limits, &mut |extent, buffer| {
                held.push((number, extent, buffer));
                Ok(())
            })?;
        subject.passes += 1;
        subject.read.reads += read.reads;
        subject.read.bytes.0 += read.bytes.0;
        subject.frozen.0 += read.bytes.0;
    }
    let mut quiet = Window::Quiet;
    for (number, subject) in subjects.iter_mut().enumerate() {
        let since = subject.changed()?;
        subject.end = Some(subject.options.changes.witness()?);
        if !since.is_empty() {
            quiet = Window::Written(number, since);
        }
    }
    Ok(quiet)
}
