//! The sequence of a snapshot, from the first block read to the cut: the same for live disks and
//! for disks in memory.

use super::cut::{Cut, CutOptions, cut};
use super::monitor::{Event, Monitor};
use super::quiesce::Quiesce;
use super::sample;
use super::subject::{Subject, SubjectOptions};
use super::trust;
use crate::capture::{Budget, Captured, Next, PassLog, Pipeline, PipelineOptions};
use crate::device::FreeDoubt;
use crate::device::read::{BufferPool, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, Bytes};
use crate::store::Draft;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to do when the disks change faster than they can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBusy {
    /// Give up.
    Fail,
    /// Freeze for as long as it takes, within the deadline.
    Freeze,
}

/// How to run.
#[derive(Clone)]
pub struct RunOptions {
    /// How long the filesystems may stand frozen.
    pub max_freeze: Duration,
    /// When the disks never get quiet enough.
    pub on_busy: OnBusy,
    /// Take a copy of no one instant when there is no other.
    pub allow_fuzzy: bool,
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
        let mut left = pre_copy(&mut subjects, &mut pipeline, &options, monitor)?;
        if check_tracking(&mut subjects, &mut warnings, monitor)? {
            enough_buffers(&mut subjects, &mut options.pool)?;
            left = pre_copy(&mut subjects, &mut pipeline, &options, monitor)?;
        }
        tell_doubts(&mut subjects, &mut doubts, &mut warnings, monitor);
        let cut = cut_all(
            &mut subjects,
            &mut pipeline,
            quiesce,
            (&options, left),
            monitor,
        )?;
        if !start_over_doubtful(&mut subjects, (&options, attempt), monitor)? {
            break cut;
        }
        attempt += 1;
    };
    tell_doubts(&mut subjects, &mut doubts, &mut warnings, monitor);
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
    (options, left): (&RunOptions, Bytes),
    monitor: &dyn Monitor,
) -> Result<Cut> {
    let most = options.window_memory;
    let blocks = (4 * left.0).max(WINDOW_LEAST).min(most.0) / BLOCK_SIZE;
    let how = CutOptions {
        allow_fuzzy: options.allow_fuzzy,
        blocks: blocks as usize,
        most_blocks: most.block().0 as usize,
        pool: options.pool.clone(),
    };
    cut(subjects, pipeline, quiesce, &how, monitor)
}

/// Every copy rests on marks, of this run at least. Where they prove nothing, it is made anew;
/// answers whether one is.
fn start_over_doubtful(
    subjects: &mut [Subject],
    (options, attempt): (&RunOptions, u32),
    monitor: &dyn Monitor,
) -> Result<bool> {
    let mut any = false;
    for subject in subjects.iter_mut() {
        let doubt = match trust::doubt(subject) {
            Some(void) => void.to_string(),
            None if !subject.swap_is_the_same()? => "what is swapped to has changed".into(),
            None => continue,
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

/// Copies while the disks are in use, until what is left fits the window; answers how much that is.
fn pre_copy(
    subjects: &mut [Subject],
    pipeline: &mut Pipeline,
    options: &RunOptions,
    monitor: &dyn Monitor,
) -> Result<Bytes> {
    let budget = Budget {
        max_freeze: options.max_freeze,
        memory: options.window_memory,
    };
    let mut log = PassLog::default();
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
            left.0 += subject.want_changed()?.0;
        }
        log.add(read, took, left);
        match (log.next(budget), options.on_busy) {
            (Next::Again, _) => {}
            (Next::Cut, _) => return Ok(left),
            (Next::Busy, OnBusy::Freeze) if left <= options.window_memory => return Ok(left),
            (Next::Busy, on_busy) => return Err(busy(left, &log, budget, on_busy)),
        }
    }
}

fn busy(left: Bytes, log: &PassLog, budget: Budget, on_busy: OnBusy) -> Error {
    let hint = match on_busy {
        OnBusy::Fail => "try at a quieter time, raise --max-freeze, or add --on-busy freeze",
        OnBusy::Freeze => "try at a quieter time: that is more than is read while frozen",
    };
    Error::new(
        ErrorKind::Inconsistent,
        format!(
            "the disks change faster than they are copied: after {} passes {left} are left, and {} \
             fit into a freeze of {:?}; nothing was stored",
            log.count(),
            log.fits(budget),
            budget.max_freeze
        ),
    )
    .with_hint(hint)
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
