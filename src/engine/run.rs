//! The sequence of a snapshot, from the first block read to the cut: the same for live disks and
//! for disks in memory.

use super::busy::{Asked, Crowd, OnBusy, too_busy};
use super::cut::{Cut, CutOptions, cut, cut_fuzzy};
use super::monitor::{Event, Monitor};
use super::quiesce::Quiesce;
use super::sample;
use super::subject::{Subject, SubjectOptions};
use super::trust;
use crate::capture::{Budget, Captured, LITTLE, Next, PassLog, Pipeline, PipelineOptions};
use crate::device::FreeDoubt;
use crate::device::read::{BufferPool, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, Bytes, DevNumber, Mode};
use crate::store::Draft;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// How to run.
#[derive(Clone)]
pub struct RunOptions {
    /// What the user asked for.
    pub asked: Asked,
    /// How many threads encode.
    pub workers: usize,
    /// Most memory for what is read in the window.
    pub window_memory: Bytes,
    /// What the disks are read into while nothing is frozen: buffers of 1 MiB. A larger pool takes
    /// its place when much is to be read.
    pub pool: BufferPool,
}

/// Most memory for what is read in the window: see [`window_memory`].
const WINDOW_MOST: u64 = 256 << 20;
/// Buffers when much is to be read. Not always: the kernel has all of it in memory before the first
/// read, which on a virtual machine takes longer than reading little does.
const MANY_BUFFERS: usize = 32;
/// More than this is much.
const MUCH: Bytes = Bytes(64 << 20);
/// Most times that a copy is made before giving up: marks that prove nothing are rare.
const MAX_ATTEMPTS: u32 = 3;
/// What is slowed down writes this share of what is copied meanwhile.
const SLOW_SHARE: u64 = 4;
/// The window has room for this much at least.
const WINDOW_LEAST: u64 = 8 << 20;
/// The window takes this share of the machine's memory at most.
const WINDOW_SHARE: u64 = 32;

/// How much memory the window may take, on a machine with this much: it is locked.
pub fn window_memory(machine: Bytes) -> Bytes {
    Bytes((machine.0 / WINDOW_SHARE).clamp(WINDOW_LEAST, WINDOW_MOST))
}

/// What a run has captured; nothing of it is a snapshot yet.
pub struct RunResult {
    /// The disks.
    pub subjects: Vec<Subject>,
    /// What of each was stored, in the same order.
    pub captured: Vec<Captured>,
    /// The instant.
    pub cut: Cut,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Captures all disks at one instant.
pub fn run(
    disks: Vec<SubjectOptions>,
    draft: &Arc<Draft>,
    quiesce: &mut dyn Quiesce,
    options: &RunOptions,
    monitor: &dyn Monitor,
) -> Result<RunResult> {
    let pipeline = PipelineOptions {
        disks: disks.len(),
        workers: options.workers,
    };
    let mut pipeline = Pipeline::start(draft, pipeline)?;
    let mut subjects = disks
        .into_iter()
        .map(Subject::begin)
        .collect::<Result<Vec<_>>>()?;
    let mut warnings: Vec<String> = subjects.iter().filter_map(sample::loss).collect();
    for warning in &warnings {
        monitor.tell(Event::Warning(warning.clone()));
    }
    let mut options = options.clone();
    let mut attempt = 1;
    let mut doubts = BTreeSet::new();
    let cut = loop {
        enough_buffers(&mut subjects, &mut options.pool)?;
        let mut rest = pre_copy(&mut subjects, &mut pipeline, quiesce, &options, monitor)?;
        if check_tracking(&mut subjects, &mut warnings, monitor)? {
            enough_buffers(&mut subjects, &mut options.pool)?;
            rest = pre_copy(&mut subjects, &mut pipeline, quiesce, &options, monitor)?;
        }
        tell_doubts(&mut subjects, &mut doubts, &mut warnings, monitor);
        let cut = cut_all(
            &mut subjects,
            &mut pipeline,
            quiesce,
            (&options, rest),
            monitor,
        )?;
        if !start_over_doubtful(&mut subjects, (&options, &cut, attempt), monitor)? {
            break cut;
        }
        attempt += 1;
    };
    tell_doubts(&mut subjects, &mut doubts, &mut warnings, monitor);
    if cut.fuzzy {
        let warning = "the disks were written to while they were copied: this copy is of no one \
                       instant";
        monitor.tell(Event::Warning(warning.into()));
        warnings.push(warning.into());
    }
    monitor.tell(Event::Phase("storing the rest".into()));
    let captured = pipeline.finish()?;
    Ok(RunResult {
        subjects,
        captured,
        cut,
        warnings,
    })
}

/// Says which filesystems are not believed in what they call free, each once.
fn tell_doubts(
    subjects: &mut [Subject],
    told: &mut BTreeSet<FreeDoubt>,
    warnings: &mut Vec<String>,
    monitor: &dyn Monitor,
) {
    for doubt in subjects
        .iter_mut()
        .flat_map(|one| std::mem::take(&mut one.doubts))
    {
        if !told.insert(doubt.clone()) {
            continue;
        }
        if doubt.is_alarming {
            monitor.tell(Event::Warning(doubt.what.clone()));
            warnings.push(doubt.what);
        } else {
            monitor.tell(Event::Note(doubt.what));
        }
    }
}

/// Has the disks read into more buffers, if much is wanted of them.
fn enough_buffers(subjects: &mut [Subject], pool: &mut BufferPool) -> Result<()> {
    let wanted: u64 = subjects.iter().map(|subject| subject.wanted.len()).sum();
    if wanted * BLOCK_SIZE <= MUCH.0 || pool.count() >= MANY_BUFFERS {
        return Ok(());
    }
    *pool = BufferPool::new(MANY_BUFFERS, pool.buffer_size())?;
    subjects
        .iter_mut()
        .try_for_each(|subject| subject.options.reader.set_pool(pool))
}

fn cut_all(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    quiesce: &mut dyn Quiesce,
    (options, rest): (&RunOptions, Rest),
    monitor: &dyn Monitor,
) -> Result<Cut> {
    let most = options.window_memory;
    let expected = match rest {
        Rest::Fits(left) => 4 * left.0,
        Rest::Crowded => 0,
    };
    let blocks = expected.max(WINDOW_LEAST).min(most.0) / BLOCK_SIZE;
    let how = CutOptions {
        asked: options.asked,
        blocks: blocks as usize,
        most_blocks: most.block().0 as usize,
        pool: options.pool.clone(),
    };
    match rest {
        Rest::Fits(_) => cut(subjects, pipeline, quiesce, &how, monitor),
        Rest::Crowded => cut_fuzzy(subjects, pipeline, quiesce, &how, monitor),
    }
}

/// Every copy rests on marks, of this run at least. Where they prove nothing, it is made anew;
/// answers whether one is. One that is of no one instant need not rest on them, as long as this run
/// has read every block of it.
fn start_over_doubtful(
    subjects: &mut [Subject],
    (options, cut, attempt): (&RunOptions, &Cut, u32),
    monitor: &dyn Monitor,
) -> Result<bool> {
    let mut any = false;
    for subject in subjects.iter_mut() {
        let doubt = match trust::doubt(subject) {
            Some(void) if !cut.fuzzy || subject.options.plan.mode == Mode::Incremental => {
                void.to_string()
            }
            _ if !subject.swap_is_the_same()? => "what is swapped to has changed".into(),
            _ => continue,
        };
        if attempt == MAX_ATTEMPTS {
            return Err(Error::new(
                ErrorKind::Inconsistent,
                format!(
                    "{}: changes could not be tracked during the run: {doubt}",
                    subject.name()
                ),
            )
            .with_hint("nothing was stored; run it again, at a quieter time if this repeats"));
        }
        let why = format!("tracking lost its proof at the cut: {doubt}");
        monitor.tell(Event::Note(format!(
            "{}: {why}: reading everything",
            subject.name()
        )));
        subject.start_over(&why)?;
        any = true;
    }
    for subject in subjects.iter_mut().filter(|_| any) {
        subject.options.reader.set_pool(&options.pool)?;
    }
    Ok(any)
}

/// What pre-copying has left.
#[derive(Clone, Copy)]
enum Rest {
    /// So much, which fits the window.
    Fits(Bytes),
    /// More than fits, and a copy of no one instant will do.
    Crowded,
}

/// Copies while the disks are in use, until what is left fits the window, or shrinks no more.
fn pre_copy(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    quiesce: &mut dyn Quiesce,
    options: &RunOptions,
    monitor: &dyn Monitor,
) -> Result<Rest> {
    let budget = Budget {
        max_freeze: options.asked.max_freeze,
        memory: options.window_memory,
    };
    let mut log = PassLog::default();
    let mut slowed = false;
    let stop = || monitor.check();
    let limits = Limits {
        deadline: None,
        stop: Some(&stop),
    };
    loop {
        let total = Bytes(
            subjects
                .iter()
                .map(|disk| disk.wanted.len() * BLOCK_SIZE)
                .sum(),
        );
        monitor.tell(Event::Phase(format!("copying, pass {}", log.count() + 1)));
        let begun = Instant::now();
        let mut done = Bytes(0);
        let mut told = |bytes: Bytes| {
            done.0 += bytes.0;
            monitor.tell(Event::Progress { done, total });
        };
        let mut read = Bytes(0);
        for (number, subject) in subjects.iter_mut().enumerate() {
            read.0 += subject.copy_wanted(number, pipeline, &limits, &mut told)?.0;
        }
        let took = begun.elapsed();
        let mut left = Bytes(0);
        for subject in subjects.iter_mut() {
            subject.want_changed()?;
            left.0 += subject.ask_of_discards()?.0;
        }
        log.add(read, took, left);
        match (log.next(budget), options.asked.on_busy) {
            (Next::Again, _) => {}
            (Next::Cut, _) => return Ok(Rest::Fits(left)),
            (Next::Busy, OnBusy::Freeze) if left <= options.window_memory => {
                return Ok(Rest::Fits(left));
            }
            (Next::Busy, OnBusy::Throttle)
                if !slowed && slow_down(subjects, quiesce, &log, monitor)? =>
            {
                slowed = true;
                log = PassLog::default();
            }
            (Next::Busy, _) if options.asked.allow_fuzzy => return Ok(Rest::Crowded),
            (Next::Busy, _) => return Err(crowded(left, &log, budget, &options.asked)),
        }
    }
}

/// Slows down what writes to the disks that leave much, so far that a pass leaves a fraction of
/// what it copies; answers whether that can be had.
fn slow_down(
    subjects: &[Subject],
    quiesce: &mut dyn Quiesce,
    log: &PassLog,
    monitor: &dyn Monitor,
) -> Result<bool> {
    let busy = |subject: &&Subject| subject.wanted.len() * BLOCK_SIZE > LITTLE.0;
    let busy = subjects.iter().filter(busy);
    let disks: Vec<DevNumber> = busy.map(|subject| subject.options.identity.dev).collect();
    let Some(speed) = log.speed().filter(|_| !disks.is_empty()) else {
        return Ok(false);
    };
    let rate = Bytes(speed.0 / SLOW_SHARE / disks.len() as u64);
    monitor.tell(Event::Phase("slowing down what writes".into()));
    quiesce.slow(&disks, rate, monitor)
}

fn crowded(left: Bytes, log: &PassLog, budget: Budget, asked: &Asked) -> Error {
    let crowd = Crowd {
        left,
        fits: log.fits(budget),
        memory: budget.memory,
        reading: log.reading(),
    };
    too_busy(asked, &crowd, &format!("after {} passes", log.count()))
}

/// Reads a sample of what tracking calls unchanged; answers whether a disk is to be read anew.
fn check_tracking(
    subjects: &mut [Subject],
    warnings: &mut Vec<String>,
    monitor: &dyn Monitor,
) -> Result<bool> {
    let stop = || monitor.check();
    let limits = Limits {
        deadline: None,
        stop: Some(&stop),
    };
    let mut again = false;
    for subject in subjects.iter_mut() {
        if let Some(block) = sample::check_free(subject, &limits)? {
            let why = sample::free_alarm(subject, block).to_string();
            let warning = format!("{why}: all blocks are copied; please report this");
            monitor.tell(Event::Warning(warning.clone()));
            warnings.push(warning);
            subject.start_over_with_all_blocks(&why)?;
            again = true;
            continue;
        }
        let (why, what) = match sample::check(subject, &limits) {
            Ok(None) => continue,
            Ok(Some(block)) => {
                let alarm = sample::alarm(subject, block).to_string();
                (alarm, "comparing everything; please report this")
            }
            Err(error) if error.kind() == ErrorKind::Damaged => (
                format!(
                    "{}: the parent snapshot is damaged: {error}",
                    subject.name()
                ),
                "comparing everything; run `stillpoint verify`, and if need be `snapshot --full`",
            ),
            Err(error) => return Err(error),
        };
        let warning = format!("{why}: {what}");
        monitor.tell(Event::Warning(warning.clone()));
        warnings.push(warning);
        subject.start_over(&why)?;
        again = true;
    }
    Ok(again)
}
