//! The steps of a drill, by the thread that sees the snapshot's filesystems. A step that fails ends
//! none of the others: what is wrong elsewhere is to be known, too.

use super::checker::checker;
use super::setting::{DrillMonitor, DrillOptions, TIME_IS_OVER, millis};
use super::step_end::StepEnd;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::mount::{PlannedFilesystem, SnapshotLook};
use crate::error::{Error, ErrorKind, Result};
use crate::export::AttachedFilesystem;
use crate::format::{DrillOutcome, DrillStep};
use crate::hooks::{ProgramLimits, run_program};
use crate::model::printable::one_line;
use nix::errno::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// What was tried so far.
pub(super) struct Steps<'a> {
    pub(super) monitor: &'a DrillMonitor<'a>,
    pub(super) done: Vec<DrillStep>,
}

/// A step that has begun.
pub(super) struct BegunStep {
    pub(super) what: String,
    begun: Instant,
    /// How many reads had failed before.
    failures: usize,
}

impl<'a> Steps<'a> {
    pub(super) fn new(monitor: &'a DrillMonitor<'a>) -> Self {
        Self {
            monitor,
            done: Vec::new(),
        }
    }

    /// Does all of them, as long as there is time.
    ///
    /// # Errors
    /// A signal; nothing can be watched here at all.
    pub(super) fn run(
        &mut self,
        look: &SnapshotLook<'_>,
        options: &DrillOptions<'_>,
    ) -> Result<()> {
        let _deadline = look.view.end_at(self.monitor.until)?;
        for place in &look.plan.unproven {
            let step = self.begin(look, format!("{}: what stands there", place.name));
            let end = match place.is_damaged {
                true => StepEnd::failed(place.why.as_str()),
                false => StepEnd::not_done(place.why.as_str()),
            };
            self.add(&step, &end);
        }
        if look.plan.filesystems.is_empty() {
            let step = self.begin(look, "a filesystem is found".into());
            let said = "no filesystem was found on its disks that can be opened here";
            self.add(&step, &StepEnd::not_done(said));
        }
        for (at, planned) in look.plan.filesystems.iter().enumerate() {
            self.filesystem(look, at, planned)?;
        }
        self.tree(look, options)?;
        self.all_was_read(look);
        Ok(())
    }

    pub(super) fn begin(&self, look: &SnapshotLook<'_>, what: String) -> BegunStep {
        BegunStep {
            what,
            begun: Instant::now(),
            failures: look.failures().len(),
        }
    }

    /// The same of a step that sees no filesystem.
    pub(super) fn begin_anew(&self, what: String) -> BegunStep {
        BegunStep {
            what,
            begun: Instant::now(),
            failures: 0,
        }
    }

    /// Ends a step in which a failure may be none of what was tried: when the time was over, or the
    /// vault did not answer, and what it has is not known to be damaged. After one late answer a
    /// disk is not asked for a while, and nobody says so each time: so one that came before counts.
    pub(super) fn end(&mut self, look: &SnapshotLook<'_>, step: &BegunStep, end: StepEnd) {
        let failures = look.failures();
        let late = failures.iter().find(|failure| !failure.is_damage);
        let end = match (end.outcome, late) {
            (DrillOutcome::Failed, _) if met_damage(look, step) => end,
            _ if self.monitor.is_over() => end.in_doubt(TIME_IS_OVER),
            (DrillOutcome::Failed, Some(late)) => end.in_doubt(&late.what),
            (DrillOutcome::Failed, None) if look.view.hangs() => end.in_doubt(HANGS),
            _ => end,
        };
        self.add(step, &end);
    }

    pub(super) fn add(&mut self, step: &BegunStep, end: &StepEnd) {
        let what = one_line(&step.what).into_owned();
        let lines = end.said.lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let said = one_line(&lines.join("; ")).into_owned();
        self.monitor.tell(Event::Note(format!("{what}: {said}")));
        self.done.push(DrillStep {
            what,
            outcome: end.outcome,
            said,
            took_ms: millis(step.begun.elapsed()),
        });
    }

    /// Notes what has ended it before its end.
    pub(super) fn ended_by(&mut self, error: &Error) {
        let what = match self.done.is_empty() {
            true => "what its disks hold is looked for",
            false => "it goes on",
        };
        let step = self.begin_anew(what.into());
        let end = match error.kind() {
            ErrorKind::Damaged => StepEnd::failed(error.to_string()),
            _ => StepEnd::not_done(error.to_string()),
        };
        self.add(&step, &end);
    }

    /// Takes down that there was no time for a step; returns whether there is any.
    pub(super) fn goes_on(&mut self, look: &SnapshotLook<'_>, what: &str) -> Result<bool> {
        self.monitor.outer.check()?;
        let goes_on = !self.monitor.is_over();
        if !goes_on {
            let step = self.begin(look, what.to_owned());
            self.add(&step, &StepEnd::not_done(TIME_IS_OVER));
        }
        Ok(goes_on)
    }

    /// One is opened, which replays its log into memory, closed, and checked.
    fn filesystem(
        &mut self,
        look: &SnapshotLook<'_>,
        at: usize,
        planned: &PlannedFilesystem,
    ) -> Result<()> {
        let (name, kind) = (&planned.attach.name, &planned.attach.kind);
        let opened = format!("{name} ({kind}): the kernel opens it");
        if !self.goes_on(look, &opened)? {
            return Ok(());
        }
        let step = self.begin(look, opened);
        let attached = match look.attach(at) {
            Ok(attached) => attached,
            Err(error) => {
                let end = match is_harm(&error) || met_damage(look, &step) {
                    true => StepEnd::failed(in_full(&error)),
                    // As a driver that this kernel lacks, or that is too old; no loop devices.
                    false => StepEnd::not_done(in_full(&error)),
                };
                self.end(look, &step, end);
                return Ok(());
            }
        };
        let end = match &attached.without_log {
            None => StepEnd::passed("read-only, its log, if it has one, replayed in memory"),
            Some(why) if attached.log_untried => StepEnd::not_done(why.as_str()),
            Some(why) => StepEnd::failed(why.as_str()),
        };
        self.end(look, &step, end);
        let checked = format!("{name} ({kind}): it is checked");
        if self.goes_on(look, &checked)? {
            let step = self.begin(look, checked);
            let end = self.check_filesystem(look, planned, attached);
            self.monitor.outer.check()?;
            self.end(look, &step, end);
        }
        Ok(())
    }

    fn check_filesystem(
        &self,
        look: &SnapshotLook<'_>,
        planned: &PlannedFilesystem,
        attached: AttachedFilesystem,
    ) -> StepEnd {
        let kind = planned.attach.kind.as_str();
        let [part] = planned.attach.parts.as_slice() else {
            return StepEnd::not_done("it is on several devices, of which it is not checked");
        };
        if attached.without_log.is_some() {
            return StepEnd::not_done("its log was not replayed, without which it is not whole");
        }
        let Some(checker) = checker(kind) else {
            return StepEnd::not_done("nothing is known that checks it without changing it");
        };
        let device = match look.view.closed(attached, part) {
            Ok(device) => device,
            Err(error) => return StepEnd::not_done(in_full(&error)),
        };
        let path = device.path().display().to_string();
        let args: Vec<&str> = checker.args.iter().copied().chain([&*path]).collect();
        let cancelled = || self.monitor.outer.check().is_err();
        let limits = ProgramLimits {
            timeout: self.monitor.left(),
            cancelled: &cancelled,
        };
        let Some(end) = run_program(checker.program, &args, &limits) else {
            return StepEnd::not_done(format!("{} is not installed here", checker.program));
        };
        let end = checker.judge(&end);
        let is_ext = kind.starts_with("ext") && end.outcome == DrillOutcome::Failed;
        match is_ext && was_in_use_without_log(device.path()) {
            true => end.in_doubt("it has no log and was in use, so it is never whole"),
            false => end,
        }
    }

    /// Whether all could be read, whoever has asked for it.
    fn all_was_read(&mut self, look: &SnapshotLook<'_>) {
        let failures = look.failures();
        let damage = failures.iter().find(|failure| failure.is_damage);
        let Some(first) = damage.or(failures.first()) else {
            return;
        };
        let said = format!("{} reads failed: {}", failures.len(), first.what);
        let end = match first.is_damage {
            true => StepEnd::failed(said),
            false => StepEnd::not_done(said),
        };
        let step = self.begin(look, "all that was asked of its disks could be read".into());
        self.add(&step, &end);
    }
}

/// What is said where a disk is not asked.
const HANGS: &str = "the vault did not answer in time";

/// Whether something that the vault has was found damaged since a step has begun.
fn met_damage(look: &SnapshotLook<'_>, step: &BegunStep) -> bool {
    let failures = look.failures();
    let since = failures.get(step.failures..).unwrap_or_default();
    since.iter().any(|failure| failure.is_damage)
}

/// Whether an error says that a filesystem is not as it should be. A kernel that is too old for
/// one, or lacks memory, has other words; a superblock that is none has no number.
fn is_harm(error: &Error) -> bool {
    match std::error::Error::source(error) {
        Some(source) => matches!(
            source.downcast_ref(),
            Some(Errno::EUCLEAN | Errno::EBADMSG | Errno::EIO)
        ),
        None => error.kind() == ErrorKind::Failed,
    }
}

/// An error and what to do about it.
pub(super) fn in_full(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// Whether an ext2 to ext4 was mounted at the cut and keeps no log: then a deleted file that was
/// open looks like harm, which a check after each crash mends (`struct ext4_super_block`,
/// `fs/ext4/ext4.h`: `s_state`, `EXT4_VALID_FS`; `s_feature_compat`, `HAS_JOURNAL`).
fn was_in_use_without_log(device: &Path) -> bool {
    let mut superblock = [0; 1024];
    let read = File::open(device).and_then(|file| file.read_exact_at(&mut superblock, 1024));
    let is_valid = superblock[0x3a] & 1 != 0;
    let has_log = superblock[0x5c] & 4 != 0;
    read.is_ok() && !is_valid && !has_log
}
