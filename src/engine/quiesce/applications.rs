//! Quiescing applications around the cut, by the operator's hooks. When that fails, the level is
//! lowered with a warning. It must never leave applications quiesced.

use super::Quiesce;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::recover::let_go;
use crate::engine::run_phase::RunPhase;
use crate::engine::snapshot_options::OnHookFailure;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{HookRecord, HookRecords, HookStatus};
use crate::hooks::{HookOptions, HookOutcome, Hooks, check_hooks};
use crate::model::clip;
use crate::sys::locked::LockExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Most bytes of a hook's last line that are repeated.
const LAST_LINE: usize = 200;

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

/// Runs the hooks around another layer.
pub struct ApplicationQuiesce {
    inner: Box<dyn Quiesce>,
    options: HookOptions,
    on_failure: OnHookFailure,
    log: SharedHookLog,
    /// The hooks are missing or unfit, or have failed: the run goes on without them.
    given_up: bool,
    /// The hooks between prescript and postscript, and since when.
    quiesced: Option<(Hooks, Instant)>,
}

impl ApplicationQuiesce {
    /// Looks at the hooks for a first time, so that what is wrong is known before all is copied.
    ///
    /// # Errors
    /// `Inconsistent`: they are missing or unfit, and the run must fail then.
    pub fn new(
        inner: Box<dyn Quiesce>,
        options: HookOptions,
        on_failure: OnHookFailure,
        log: SharedHookLog,
    ) -> Result<Self> {
        let mut quiesce = Self {
            inner,
            options,
            on_failure,
            log,
            given_up: false,
            quiesced: None,
        };
        let look = check_hooks(&quiesce.options.prescript, &quiesce.options.postscript);
        if let Some((prescript, postscript)) = look {
            quiesce.give_up(prescript, postscript)?;
        }
        Ok(quiesce)
    }

    fn note(&self, change: impl FnOnce(&mut HookLog)) {
        change(&mut self.log.locked());
    }

    /// The run goes on without hooks, or ends.
    fn give_up(&mut self, prescript: HookRecord, postscript: HookRecord) -> Result<()> {
        self.given_up = true;
        let mut warnings = Vec::new();
        warnings.extend(self.prescript(&prescript).complaint());
        warnings.extend(self.postscript(&postscript).complaint());
        if was_started(&prescript) {
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

    fn prescript<'a>(&'a self, record: &'a HookRecord) -> HookReport<'a> {
        let path = &self.options.prescript;
        HookReport {
            name: "prescript",
            path,
            record,
        }
    }

    fn postscript<'a>(&'a self, record: &'a HookRecord) -> HookReport<'a> {
        let path = &self.options.postscript;
        HookReport {
            name: "postscript",
            path,
            record,
        }
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
    let message = format!("applications could not be held: {why}; no snapshot was made");
    Error::new(ErrorKind::Inconsistent, message)
        .with_hint("repair the hook, or take --on-hook-failure filesystem to go on without it")
}

/// How one hook went.
struct HookReport<'a> {
    name: &'static str,
    path: &'a Path,
    record: &'a HookRecord,
}

impl HookReport<'_> {
    /// What is wrong with a hook that has not run well.
    fn complaint(&self) -> Option<String> {
        let Self { name, record, .. } = self;
        let path = self.path.display();
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

    /// Passes on what the hook printed, in one event, so that no line of it is dropped alone.
    fn pass_on(&self, monitor: &dyn Monitor) {
        let said = self.record.output.as_deref().unwrap_or_default();
        let lines = said.lines().filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.map(|line| format!("{}: {line}", self.name)).collect();
        if !lines.is_empty() {
            monitor.tell(Event::Said(lines.join("\n")));
        }
    }
}

/// Whether a hook was started.
fn was_started(hook: &HookRecord) -> bool {
    use HookStatus::{Failed, Ran, TimedOut};
    matches!(hook.status, Ran | Failed | TimedOut)
}

impl Quiesce for ApplicationQuiesce {
    fn flush(&mut self, monitor: &dyn Monitor) -> Result<()> {
        self.inner.flush(monitor)
    }

    fn quiesce_apps(&mut self, monitor: &dyn Monitor) -> Result<bool> {
        self.inner.quiesce_apps(monitor)?;
        if self.given_up {
            return Ok(false);
        }
        // Another run may have died while this one copied.
        let_go(&self.options.run_dir, &self.options.program, monitor)?;
        monitor.tell(Event::Phase(RunPhase::HoldingApplications));
        let begun = Instant::now();
        let mut hooks = Hooks::new(self.options.clone());
        match hooks.pre(monitor)? {
            HookOutcome::Ran(prescript) => {
                self.prescript(&prescript).pass_on(monitor);
                self.note(|log| {
                    log.records = Some(HookRecords {
                        prescript,
                        postscript: HookRecord::new(HookStatus::NotRun, None),
                        held_us: None,
                    });
                });
                self.quiesced = Some((hooks, begun));
                Ok(true)
            }
            HookOutcome::Unfit(prescript, postscript)
            | HookOutcome::Failed(prescript, postscript) => {
                self.prescript(&prescript).pass_on(monitor);
                self.postscript(&postscript).pass_on(monitor);
                self.give_up(prescript, postscript)?;
                Ok(false)
            }
            HookOutcome::Stopped(error, postscript) => {
                let postscript = self.postscript(&postscript);
                postscript.pass_on(monitor);
                Err(match postscript.complaint() {
                    Some(why) => error.context(format!("{why}; {}", self.not_released())),
                    None => error,
                })
            }
        }
    }

    fn resume_apps(&mut self, cut: bool, monitor: &dyn Monitor) -> Result<bool> {
        let Some((mut hooks, since)) = self.quiesced.take() else {
            return Ok(false);
        };
        let postscript = hooks.post(cut);
        let held = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let report = self.postscript(&postscript);
        report.pass_on(monitor);
        let complaint = report.complaint().unwrap_or_default();
        let well = postscript.status == HookStatus::Ran;
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
