//! Progress on stderr: a bar on a terminal, a short line every few seconds elsewhere. A thread of
//! its own writes it, so that a reader who does not read never holds up the engine.

use super::args::Common;
use super::output::write_patiently;
use super::signals;
use crate::engine::{Event, Monitor};
use crate::error::Result;
use crate::model::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);
/// Events that may wait; more are dropped.
const QUEUE: usize = 64;

/// Shows the engine's events.
pub struct Progress {
    events: Mutex<Option<Sender<Event>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Progress {
    /// Starts to show.
    pub fn start(common: &Common) -> Self {
        let (events, shown) = bounded(QUEUE);
        let (quiet, verbose) = (common.quiet, common.verbose);
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || show(&shown, quiet, verbose))
            .ok();
        Self {
            events: Mutex::new(thread.is_some().then_some(events)),
            thread: Mutex::new(thread),
        }
    }

    /// Stops showing; waits a moment for what is still to be written.
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
    }
}

impl Monitor for Progress {
    fn tell(&self, event: Event) {
        if let Ok(events) = self.events.lock()
            && let Some(events) = events.as_ref()
        {
            // A full queue means that nobody reads.
            let _ = events.try_send(event);
        }
    }

    fn check(&self) -> Result<()> {
        signals::check()
    }
}

fn show(events: &Receiver<Event>, quiet: bool, verbose: bool) {
    if std::io::stderr().is_terminal() && !quiet {
        on_terminal(events);
    } else {
        as_lines(events, quiet, verbose);
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
                bar.set_message(phase);
            }
            Event::Progress { done, total } => {
                bar.set_length(total.0.max(done.0));
                bar.set_position(done.0);
            }
            Event::Warning(warning) => bar.println(format!("warning: {warning}")),
            Event::Note(_) => {}
        }
    }
    bar.finish_and_clear();
}

fn as_lines(events: &Receiver<Event>, quiet: bool, verbose: bool) {
    let mut last = Instant::now();
    let mut begun = Instant::now();
    let mut phase = String::new();
    for event in events {
        match event {
            Event::Warning(warning) => line(&format!("warning: {warning}")),
            Event::Phase(next) => {
                phase = next;
                begun = Instant::now();
                if verbose {
                    line(&phase);
                }
            }
            Event::Note(note) if verbose => line(&note),
            Event::Progress { done, total } if !quiet && last.elapsed() >= EVERY => {
                last = Instant::now();
                line(&format!("{phase}: {}", rate(done, total, begun.elapsed())));
            }
            Event::Note(_) | Event::Progress { .. } => {}
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
    write_patiently(
        std::io::stderr().as_fd(),
        line.as_bytes(),
        Duration::from_millis(500),
    );
}
