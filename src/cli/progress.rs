//! Progress on stderr: a bar on a terminal, a short line every few seconds elsewhere. A thread of
//! its own writes it, so that a reader who does not read never holds up the engine. The writer of
//! the job's record gets each event too.

use super::args::Common;
use super::output::write_patiently;
use super::signals;
use crate::engine::{Event, Monitor};
use crate::error::Result;
use crate::model::printable::{lines, one_line};
use crate::model::{Bytes, Cancel};
use crossbeam_channel::{Receiver, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::sched::{CloneFlags, unshare};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);
/// Events that may wait; more are dropped.
const QUEUE: usize = 64;

/// How much is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verbosity {
    /// Warnings alone.
    Quiet,
    Usual,
    /// Phases and notes too.
    Verbose,
}

impl Verbosity {
    fn of(common: &Common) -> Self {
        match (common.quiet, common.verbose) {
            (true, _) => Self::Quiet,
            (_, true) => Self::Verbose,
            _ => Self::Usual,
        }
    }
}

/// Shows the engine's events.
pub struct ProgressDisplay {
    events: Mutex<Option<Sender<Event>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    record: OnceLock<Arc<dyn Monitor + Send>>,
    over: Arc<AtomicBool>,
}

/// Gives the calling thread a descriptor table of its own. If standard error is a file, this thread
/// may block in the filesystem that this very run has frozen. If the run is killed then, the
/// descriptors of the other threads are closed all the same, so that the guardian finds out at
/// once.
fn unshare_descriptors() {
    // Where this is forbidden, the guardian still thaws at its deadline.
    let _ = unshare(CloneFlags::CLONE_FILES);
}

impl ProgressDisplay {
    /// Starts the thread that shows events.
    pub fn start(common: &Common) -> Self {
        let (events, shown) = bounded(QUEUE);
        let verbosity = Verbosity::of(common);
        let over = Arc::<AtomicBool>::default();
        let (alone, is_alone) = bounded::<()>(0);
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn({
                let over = Arc::clone(&over);
                move || {
                    unshare_descriptors();
                    drop(alone);
                    show(&shown, verbosity, &over);
                }
            })
            .ok();
        // Wait until the thread has its own table (it drops its end then). Otherwise its table
        // could hold a copy of a pipe that is opened later, whose reader would never see the end.
        let _ = is_alone.recv();
        Self {
            events: Mutex::new(thread.is_some().then_some(events)),
            thread: Mutex::new(thread),
            record: OnceLock::new(),
            over,
        }
    }

    /// From here on the record of the job gets each event too.
    pub fn attach(&self, record: Arc<dyn Monitor + Send>) {
        // There is only one: a run is one job.
        let _ = self.record.set(record);
    }

    /// Stops the thread, and waits a moment for what is still to be written.
    pub fn finish(&self) {
        if let Ok(mut events) = self.events.lock() {
            events.take();
        }
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        let until = Instant::now() + Duration::from_secs(1);
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Anything printed from here on would come after the verdict.
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Monitor for ProgressDisplay {
    fn tell(&self, event: Event) {
        let event = plain(event);
        if let Some(record) = self.record.get() {
            record.tell(event.clone());
        }
        if let Ok(events) = self.events.lock()
            && let Some(events) = events.as_ref()
        {
            // The queue is full when standard error takes no output.
            let _ = events.try_send(event);
        }
    }
}

impl Cancel for ProgressDisplay {
    fn check(&self) -> Result<()> {
        signals::check()
    }
}

/// The event with control characters escaped. All but the output of hooks is made one line.
fn plain(event: Event) -> Event {
    match event {
        Event::Warning(text) => Event::Warning(one_line(&text).into_owned()),
        Event::Note(text) => Event::Note(one_line(&text).into_owned()),
        Event::Said(text) => Event::Said(lines(&text).into_owned()),
        // A phase escapes what it names.
        Event::Phase(_) | Event::Progress { .. } | Event::Asked(_) => event,
    }
}

fn show(events: &Receiver<Event>, verbosity: Verbosity, over: &AtomicBool) {
    if std::io::stderr().is_terminal() && verbosity != Verbosity::Quiet {
        on_terminal(events);
    } else {
        as_lines(events, verbosity, over);
    }
}

fn on_terminal(events: &Receiver<Event>) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style =
        "{msg:32} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    for event in events {
        match event {
            Event::Phase(phase) => {
                bar.reset();
                bar.set_message(phase.to_string());
            }
            Event::Progress { done, total } => {
                bar.set_length(total.0.max(done.0));
                bar.set_position(done.0);
            }
            Event::Warning(warning) => bar.println(format!("warning: {warning}")),
            Event::Said(said) => bar.println(said),
            Event::Note(_) | Event::Asked(_) => {}
        }
    }
    bar.finish_and_clear();
}

fn as_lines(events: &Receiver<Event>, verbosity: Verbosity, over: &AtomicBool) {
    let (quiet, verbose) = (
        verbosity == Verbosity::Quiet,
        verbosity == Verbosity::Verbose,
    );
    let mut last = Instant::now();
    let mut begun = Instant::now();
    let mut phase = String::new();
    for event in events {
        if over.load(Ordering::Relaxed) {
            return;
        }
        match event {
            Event::Warning(warning) => line(&format!("warning: {warning}")),
            Event::Phase(next) => {
                phase = next.to_string();
                begun = Instant::now();
                if verbose {
                    line(&phase);
                }
            }
            Event::Said(said) if !quiet => line(&said),
            Event::Note(note) if verbose => line(&note),
            Event::Progress { done, total } if !quiet && last.elapsed() >= EVERY => {
                last = Instant::now();
                line(&format!("{phase}: {}", rate(done, total, begun.elapsed())));
            }
            Event::Said(_) | Event::Note(_) | Event::Progress { .. } | Event::Asked(_) => {}
        }
    }
}

fn rate(done: Bytes, total: Bytes, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let each = done.0 as f64 / seconds;
    let left = total.0.saturating_sub(done.0) as f64 / each.max(1.0);
    format!(
        "{done} of {total}, {}/s, {left:.0} s left",
        Bytes(each as u64)
    )
}

fn line(text: &str) {
    let line = format!("{text}\n");
    let _ = write_patiently(std::io::stderr().as_fd(), &line, Duration::from_millis(500));
}

#[cfg(test)]
mod tests {
    use super::super::args::CommandLine;
    use super::*;
    use clap::Parser;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_opened_after_the_start_is_not_copied() {
        let line = CommandLine::try_parse_from(["stillpoint", "disks"]).unwrap();
        for _ in 0..100 {
            let progress = ProgressDisplay::start(&line.common);
            let (reader, _writer) = std::io::pipe().unwrap();
            let here = format!("/proc/self/fd/{}", reader.as_raw_fd());
            let here = std::fs::read_link(here).unwrap();
            let mut seen = 0;
            for task in std::fs::read_dir("/proc/self/task").unwrap() {
                let task = task.unwrap().path();
                let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
                // The one before may not be quite gone yet.
                let fds = std::fs::read_dir(task.join("fd")).map(|fds| fds.flatten());
                if let Ok(fds) = fds
                    && name.trim() == "progress"
                {
                    let mut links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
                    assert!(!links.any(|link| link == here));
                    seen += 1;
                }
            }
            assert!(seen > 0);
            progress.finish();
        }
    }
}
