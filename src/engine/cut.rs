//! The cut: the instant that the snapshot is of. Everything is held still, the last changed blocks
//! are read into locked memory, and it is let go again.

use super::busy::{Asked, Crowd, never_quiet, too_busy};
use super::monitor::{Event, Monitor};
use super::quiesce::Quiesce;
use super::subject::Subject;
use super::trust;
use super::window::{Filled, Window};
use crate::capture::{LITTLE, Pipeline};
use crate::device::read::{BufferPool, Limits};
use crate::error::{Error, Result};
use crate::model::{BLOCK_SIZE, BlockSet, Bytes};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Most times that all is held still before giving up.
const MAX_ATTEMPTS: u32 = 8;
/// So many times in a row more had changed than there is room for, and that will not be different
/// the next time.
const MAX_CROWDED: u32 = 2;
/// The same where there is memory for more room.
const MAX_GROWING: u32 = 4;
/// Most times that all is written out and copied before each: what is written to the filesystems
/// while one pass copies is what the next has to copy.
const MAX_SETTLES: u32 = 5;
/// A pass that copies less than this share of the one before pays for another.
const SHRINK: f64 = 0.7;
/// Most passes into the window before all is held still.
const MAX_FILLS: u32 = 10;
/// The same share for them: each shortens the freeze, and costs little.
const FILL_SHRINK: f64 = 0.85;

/// How to cut.
#[derive(Clone)]
pub struct CutOptions {
    /// What the user asked for.
    pub asked: Asked,
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
    /// How long all was held; of the successful attempt. Nothing was where this is zero.
    pub held: Duration,
    /// The longest that any attempt held all.
    pub longest: Duration,
    /// How often all was held still.
    pub attempts: u32,
    /// Whether something was written in the window: the copy is of no one instant.
    pub fuzzy: bool,
    /// Whether applications were held by their hooks.
    pub applications: bool,
}

/// What was seen of the disks while they were to stand still.
enum Sight {
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
    let mut blocks = options.blocks;
    let mut crowded = 0;
    for attempt in 1..=MAX_ATTEMPTS {
        let (applications, tried) =
            attempt_once(subjects, pipeline, quiesce, (options, &mut blocks), monitor)?;
        let Tried { time, held, sight } = tried;
        longest = longest.max(held);
        let done = |fuzzy| Cut {
            time,
            held,
            longest,
            attempts: attempt,
            fuzzy,
            applications,
        };
        let last = attempt == MAX_ATTEMPTS;
        match sight {
            Sight::Quiet => return Ok(done(false)),
            Sight::TooMuch(much) => {
                crowded += 1;
                let grows = (much.block().0 as usize) < options.most_blocks;
                if last || crowded >= if grows { MAX_GROWING } else { MAX_CROWDED } {
                    return match options.asked.allow_fuzzy {
                        true => cut_fuzzy(subjects, pipeline, quiesce, options, monitor),
                        false => Err(outgrown(much, attempt, options)),
                    };
                }
                blocks = (2 * much.block().0 as usize).min(options.most_blocks);
            }
            Sight::Written(..) if last && options.asked.allow_fuzzy => return Ok(done(true)),
            Sight::Written(number, blocks) if last => {
                let seen = written(&subjects[number], &blocks);
                return Err(never_quiet(
                    &options.asked,
                    &subjects[number],
                    attempt,
                    &seen,
                ));
            }
            Sight::Written(..) => crowded = 0,
        }
        monitor.tell(Event::Phase("waiting for a quiet moment".into()));
        wait(attempt, monitor)?;
    }
    unreachable!("the last attempt returns")
}

fn outgrown(much: Bytes, attempts: u32, options: &CutOptions) -> Error {
    let memory = Bytes(options.most_blocks as u64 * BLOCK_SIZE);
    let crowd = Crowd {
        left: much,
        fits: memory,
        memory,
        reading: None,
    };
    let when = format!("after {attempts} attempts to cut");
    too_busy(&options.asked, &crowd, &when)
}

/// Copies what is wanted while nothing is held: of no one instant.
pub fn cut_fuzzy(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    quiesce: &mut dyn Quiesce,
    options: &CutOptions,
    monitor: &dyn Monitor,
) -> Result<Cut> {
    monitor.tell(Event::Phase("copying what changes, as it is".into()));
    take_over(subjects, &options.pool)?;
    quiesce.settle()?;
    let stop = || monitor.check();
    let limits = Limits {
        deadline: None,
        stop: Some(&stop),
    };
    for (number, subject) in subjects.iter_mut().enumerate() {
        subject.want_rest()?;
        subject.ask_again()?;
        subject.copy_wanted(number, pipeline, &limits, &mut |_| {})?;
        subject.end = Some(trust::steady(subject.options.changes.as_mut())?);
    }
    // What was slowed down for the copy need not be any more.
    quiesce.release(true, monitor)?;
    Ok(Cut {
        time: Timestamp::now(),
        held: Duration::ZERO,
        longest: Duration::ZERO,
        attempts: 0,
        fuzzy: true,
        applications: false,
    })
}

/// Everything from the last copying to the last block, once; answers whether applications were
/// held, and what came of it. `blocks`: how many are expected in the window.
fn attempt_once(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    quiesce: &mut dyn Quiesce,
    (options, blocks): (&CutOptions, &mut usize),
    monitor: &dyn Monitor,
) -> Result<(bool, Tried)> {
    take_over(subjects, &options.pool)?;
    let last = copy_the_latest(subjects, pipeline, quiesce, options, monitor)?;
    let expected = 2 * last.block().0 as usize;
    *blocks = expected.max(*blocks).min(options.most_blocks);
    let mut window = Window::new(*blocks)?;
    window.take_over(subjects)?;
    // Encoding would take the processors from what is held.
    pipeline.drain(&|| monitor.check())?;
    let mut held = false;
    let tried = quiesce.hold(monitor).and_then(|applications| {
        held = applications;
        quiesce.settle()?;
        let mut much = fill_early(subjects, &mut window, monitor)?;
        if applications && much.is_some() {
            // What the prescript had written out. Now that applications stand still, it will not
            // be more.
            window.hand_over(subjects, pipeline)?;
            take_over(subjects, &options.pool)?;
            copy_the_latest(subjects, pipeline, quiesce, options, monitor)?;
            pipeline.drain(&|| monitor.check())?;
            window.take_over(subjects)?;
            much = fill_early(subjects, &mut window, monitor)?;
        }
        // The last look: with applications held, the one before must do.
        for subject in subjects
            .iter_mut()
            .filter(|_| !applications && much.is_none())
        {
            subject.ask_again()?;
        }
        let tried = match much {
            Some(much) => Tried::too_much(much),
            None => hold_and_read(subjects, &mut window, quiesce, monitor)?,
        };
        Ok((applications, tried))
    });
    if held {
        monitor.tell(Event::Phase("letting applications go".into()));
    }
    let quiet = |(_, tried): &(bool, Tried)| matches!(tried.sight, Sight::Quiet);
    let released = quiesce.release(tried.as_ref().is_ok_and(quiet), monitor);
    let (applications, tried) = match (tried, &released) {
        (Err(error), Err(held)) => return Err(error.context(held)),
        (tried, _) => tried?,
    };
    let applications = released? && applications;
    window.hand_over(subjects, pipeline)?;
    Ok((applications, tried))
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

/// Writes out and copies while nothing is frozen, until what is left fits the window twice or
/// shrinks no more; answers how much the last pass had to copy.
fn copy_the_latest(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    quiesce: &mut dyn Quiesce,
    options: &CutOptions,
    monitor: &dyn Monitor,
) -> Result<Bytes> {
    let enough = Bytes(options.most_blocks as u64 * BLOCK_SIZE / 2);
    let stop = || monitor.check();
    let limits = Limits {
        deadline: None,
        stop: Some(&stop),
    };
    let mut before = Bytes(u64::MAX);
    for _ in 0..MAX_SETTLES {
        let begun = Instant::now();
        quiesce.settle()?;
        let mut copied = Bytes(0);
        for (number, subject) in subjects.iter_mut().enumerate() {
            // The epoch first: what is put to use after the answer has a mark.
            subject.want_changed()?;
            copied.0 += subject.ask_again()?.0;
            subject.copy_wanted(number, pipeline, &limits, &mut |_| {})?;
        }
        monitor.tell(Event::Note(format!(
            "wrote out what was dirty and copied {copied} in {:.0?}",
            begun.elapsed()
        )));
        let shrinks = (copied.0 as f64) < SHRINK * before.0 as f64;
        before = copied;
        if copied <= enough || !shrinks {
            break;
        }
    }
    Ok(before)
}

/// Has all disks read into these buffers from now on.
fn take_over(subjects: &mut [Subject], pool: &BufferPool) -> Result<()> {
    subjects
        .iter_mut()
        .try_for_each(|subject| subject.options.reader.set_pool(pool))
}

/// What an attempt came to.
struct Tried {
    time: Timestamp,
    held: Duration,
    sight: Sight,
}

impl Tried {
    /// Nothing was held still: there is no room for what has changed.
    fn too_much(much: Bytes) -> Self {
        Self {
            time: Timestamp::now(),
            held: Duration::ZERO,
            sight: Sight::TooMuch(much),
        }
    }
}

/// Holds everything still and reads the rest.
fn hold_and_read(
    subjects: &mut [Subject],
    window: &mut Window,
    quiesce: &mut dyn Quiesce,
    monitor: &dyn Monitor,
) -> Result<Tried> {
    monitor.tell(Event::Phase("cutting".into()));
    monitor.check()?;
    let deadline = quiesce.freeze()?;
    let time = Timestamp::now();
    let sight = read_rest(subjects, window, quiesce.freezes(), deadline);
    let held = quiesce.thaw()?;
    Ok(Tried {
        time,
        held,
        sight: sight?,
    })
}

/// Passes into the window while nothing is frozen yet: no encoding holds them up, so that less is
/// left than pre-copying leaves. Answers how much there is if it is too much.
fn fill_early(
    subjects: &mut [Subject],
    window: &mut Window,
    monitor: &dyn Monitor,
) -> Result<Option<Bytes>> {
    let stop = || monitor.check();
    let limits = Limits {
        deadline: None,
        stop: Some(&stop),
    };
    let mut before = Bytes(u64::MAX);
    for _ in 0..MAX_FILLS {
        let begun = Instant::now();
        for subject in subjects.iter_mut() {
            if subject.want_changed()? > LITTLE {
                subject.ask_of_discards()?;
            }
        }
        let read = match window.fill(subjects, &limits, false)? {
            Filled::Read(read) => read,
            Filled::TooMuch(much) => return Ok(Some(much)),
        };
        monitor.tell(Event::Note(format!(
            "read {read} ahead in {:.0?}",
            begun.elapsed()
        )));
        let shrinks = (read.0 as f64) < FILL_SHRINK * before.0 as f64;
        before = read;
        if read <= LITTLE || !shrinks {
            break;
        }
    }
    Ok(None)
}

/// What happens while all is held. It must not log, print, or wait without the deadline.
///
/// Where there is no room for what has changed, and a trim is under way, the filesystems are asked
/// once more, if they are `frozen`: what is trimmed all the time is never less.
fn read_rest(
    subjects: &mut [Subject],
    window: &mut Window,
    frozen: bool,
    deadline: Instant,
) -> Result<Sight> {
    for subject in subjects.iter_mut() {
        subject.want_rest()?;
    }
    if frozen && !window.has_room(subjects) {
        for subject in subjects.iter_mut() {
            subject.ask_of_discards_frozen(deadline)?;
        }
    }
    let limits = Limits {
        deadline: Some(deadline),
        stop: None,
    };
    if let Filled::TooMuch(much) = window.fill(subjects, &limits, true)? {
        // It stays wanted: the next pass reads it.
        return Ok(Sight::TooMuch(much));
    }
    let mut quiet = Sight::Quiet;
    for (number, subject) in subjects.iter_mut().enumerate() {
        let since = subject.written_since_cut()?;
        subject.end = Some(subject.options.changes.witness()?);
        if !since.is_empty() {
            quiet = Sight::Written(number, since);
        }
    }
    Ok(quiet)
}
