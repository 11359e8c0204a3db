//! Holding applications still around the cut, by the operator's hooks. What cannot be had of it
//! lowers the level, in words; it must never leave applications held.

use super::monitor::{Event, Monitor};
use super::quiesce::Quiesce;
use super::recover::let_go;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{HookRecord, HookRecords, HookStatus};
use crate::hooks::{HookOptions, HookOutcome, Hooks, check_hooks};
use crate::model::clip;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So much is repeated of the last line that a hook said, in bytes.
const LAST_LINE: usize = 200;

/// What to do when applications cannot be held as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHookFailure {
    /// Take the snapshot without them, at the level `filesystem`.
    Filesystem,
    /// Take none.
    Fail,
}

/// Which hooks there are for the level `application`.
#[derive(Clone, Debug)]
pub struct HookWishes {
    /// Run before the cut.
    pub prescript: PathBuf,
    /// Run after it.
    pub postscript: PathBuf,
    /// What each may take.
    pub timeout: Duration,
    /// When they are missing, unfit, or fail.
    pub on_failure: OnHookFailure,
}

impl Default for HookWishes {
    fn default() -> Self {
        Self {
            prescript: "/tmp/prescript.sh".into(),
            postscript: "/tmp/postscript.sh".into(),
            timeout: Duration::from_secs(30),
            on_failure: OnHookFailure::Filesystem,
        }
    }
}

/// What became of the hooks so far.
#[derive(Clone, Debug, Default)]
pub struct HookLog {
    /// Of the newest attempt.
    pub records: Option<HookRecords>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The same, shared with the run.
pub type SharedHookLog = Arc<Mutex<HookLog>>;

/// Runs the hooks around what something else holds still.
pub struct Holding {
    inner: Box<dyn Quiesce>,
    options: HookOptions,
    on_failure: OnHookFailure,
    log: SharedHookLog,
    /// They are missing or unfit, or have failed: the run goes on without.
    given_up: bool,
    /// The hooks between the two, and since when.
    held: Option<(Hooks, Instant)>,
}

impl Holding {
    /// Looks at the hooks for a first time, so that what is wrong is known before all is copied.
    ///
    /// # Errors
    /// `Unsupported`: they are missing or unfit, and the run shall fail then.
    pub fn new(
        inner: Box<dyn Quiesce>,
        options: HookOptions,
        on_failure: OnHookFailure,
        log: SharedHookLog,
    ) -> Result<Self> {
        let mut holding = Self {
            inner,
            options,
            on_failure,
            log,
            given_up: false,
            held: None,
        };
        let look = check_hooks(&holding.options.prescript, &holding.options.postscript);
        if let Some((prescript, postscript)) = look {
            holding.give_up(prescript, postscript)?;
        }
        Ok(holding)
    }

    fn note(&self, change: impl FnOnce(&mut HookLog)) {
        change(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The run goes on without hooks, or ends.
    fn give_up(&mut self, prescript: HookRecord, postscript: HookRecord) -> Result<()> {
        self.given_up = true;
        let mut warnings = Vec::new();
        let (pre, post) = (&self.options.prescript, &self.options.postscript);
        warnings.extend(complaint(("prescript", pre), &prescript));
        warnings.extend(complaint(("postscript", post), &postscript));
        if begun(&prescript) {
            warnings.push(match postscript.status {
                HookStatus::Ran => "the postscript was run".into(),
                _ => self.not_released(),
            });
        }
        if self.on_failure == OnHookFailure::Fail {
            return Err(not_held(&warnings.join("; ")));
        }
        self.note(|log| {
            log.records = Some(HookRecords {
                prescript,
                postscript,
                held_us: None,
            });
            log.warnings.append(&mut warnings);
        });
        Ok(())
    }

    fn not_released(&self) -> String {
        let path = self.options.postscript.display();
        format!(
            "applications may not have been held to the end, or may still be: look at what {path} \
             said, and at the applications"
        )
    }
}

fn not_held(why: &str) -> Error {
    let message = format!("applications could not be held: {why}; nothing was stored");
    Error::new(ErrorKind::Inconsistent, message)
        .with_hint("mend the hook, or take --on-hook-failure filesystem to go on without it")
}

/// What is wrong with a hook that has not run well.
fn complaint((name, path): (&str, &Path), record: &HookRecord) -> Option<String> {
    let path = path.display();
    let reason = record.reason.as_deref().unwrap_or("for no known reason");
    let said = record.output.as_deref().unwrap_or_default();
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.map_or(String::new(), |line| {
        format!("; it said last: {}", clip(line.trim(), LAST_LINE))
    });
    match record.status {
        HookStatus::Ran => None,
        HookStatus::NotRun if record.reason.is_none() => None,
        HookStatus::Absent => Some(format!("{name}: {reason} at {path}: not run")),
        HookStatus::Rejected => Some(format!("{name}: {path}: {reason}: not run")),
        HookStatus::NotRun => Some(format!("{name}: {reason}: not run")),
        HookStatus::Failed => Some(format!("{name}: failed: {reason}{last}")),
        HookStatus::TimedOut => Some(format!("{name}: took too long: {reason}{last}")),
    }
}

/// Passes on what a hook said, line by line; as one event, so that none of it is dropped alone.
fn tell(monitor: &dyn Monitor, name: &str, record: &HookRecord) {
    let said = record.output.as_deref().unwrap_or_default();
    let lines = said.lines().filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(|line| format!("{name}: {line}")).collect();
    if !lines.is_empty() {
        monitor.tell(Event::Said(lines.join("\n")));
    }
}

/// Whether it was started.
fn begun(hook: &HookRecord) -> bool {
    use HookStatus::{Failed, Ran, TimedOut};
    matches!(hook.status, Ran | Failed | TimedOut)
}

impl Quiesce for Holding {
    fn settle(&mut self) -> Result<()> {
        self.inner.settle()
    }

    fn hold(&mut self, monitor: &dyn Monitor) -> Result<bool> {
        self.inner.hold(monitor)?;
        if self.given_up {
            return Ok(false);
        }
        // One may have died while this one copied.
        let_go(&self.options.run_dir, &self.options.program, monitor)?;
        monitor.tell(Event::Phase("holding applications".into()));
        let begun = Instant::now();
        let mut hooks = Hooks::new(self.options.clone());
        match hooks.pre(&|| monitor.check())? {
            HookOutcome::Ran(prescript) => {
                tell(monitor, "prescript", &prescript);
                self.note(|log| {
                    log.records = Some(HookRecords {
                        prescript,
                        postscript: HookRecord::new(HookStatus::NotRun, None),
                        held_us: None,
                    });
                });
                self.held = Some((hooks, begun));
                Ok(true)
            }
            HookOutcome::Unfit(prescript, postscript)
            | HookOutcome::Failed(prescript, postscript) => {
                tell(monitor, "prescript", &prescript);
                tell(monitor, "postscript", &postscript);
                self.give_up(prescript, postscript)?;
                Ok(false)
            }
            HookOutcome::Stopped(error, postscript) => {
                tell(monitor, "postscript", &postscript);
                let path = &self.options.postscript;
                Err(match complaint(("postscript", path), &postscript) {
                    Some(why) => error.context(format!("{why}; {}", self.not_released())),
                    None => error,
                })
            }
        }
    }

    fn release(&mut self, cut: bool, monitor: &dyn Monitor) -> Result<bool> {
        let Some((mut hooks, since)) = self.held.take() else {
            return Ok(false);
        };
        let postscript = hooks.post(cut);
        let held = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        tell(monitor, "postscript", &postscript);
        let well = postscript.status == HookStatus::Ran;
        let path = &self.options.postscript;
        let complaint = complaint(("postscript", path), &postscript).unwrap_or_default();
        self.note(|log| {
            if let Some(records) = &mut log.records {
                records.postscript = postscript;
                records.held_us = well.then_some(held);
            }
        });
        if well {
            return Ok(true);
        }
        let complaint = format!("{complaint}; {}", self.not_released());
        if self.on_failure == OnHookFailure::Fail {
            return Err(not_held(&complaint));
        }
        self.note(|log| log.warnings.push(complaint));
        Ok(false)
    }

    fn freeze(&mut self) -> Result<Instant> {
        self.inner.freeze()
    }

    fn thaw(&mut self) -> Result<Duration> {
        self.inner.thaw()
    }

    fn freezes(&self) -> bool {
        self.inner.freezes()
    }
}
