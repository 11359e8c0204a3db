//! Plans: what they are, how they stand, when they run next.

use super::Report;
use super::text::{cells, counted, table_text};
use crate::error::Error;
use crate::model::exit::{BELOW, code};
use crate::model::printable::one_line;
use crate::plan::{
    Decision, FollowUp, HostClock, PlanCase, PlanDisks, PlanHealth, PlanName, PlanRecord,
    PlanRetention, PlanTry, PlanWait, SnapshotPlan, StepOutcome, WaitReason,
};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// So many of its next times are told.
const TIMES: usize = 5;

/// A plan as it was seen.
#[derive(Debug)]
pub struct SeenPlan {
    /// The plan.
    pub plan: SnapshotPlan,
    /// Its file.
    pub file: PathBuf,
    /// What is noted of its runs.
    pub record: PlanRecord,
    /// Why that is not known.
    pub unread: Option<Error>,
    /// Its times on this host.
    pub clock: HostClock,
    /// When it was seen.
    pub now: Timestamp,
    /// Whether somebody runs it.
    pub running: bool,
    /// What runs it by itself.
    pub runner: PlanRunner,
}

/// What runs a plan by itself.
#[derive(Debug)]
pub enum PlanRunner {
    /// Nothing that is known of; such a line of cron would.
    Cron(String),
}

/// A file that holds no plan.
#[derive(Debug)]
pub struct UnreadPlan {
    /// The plan's name, if it is one.
    pub name: Option<String>,
    /// What is wrong.
    pub error: Error,
}

impl SeenPlan {
    fn case(&self) -> PlanCase<'_> {
        PlanCase {
            plan: &self.plan,
            record: &self.record,
            clock: &self.clock,
            now: self.now,
        }
    }

    /// How it stands.
    pub fn health(&self) -> PlanHealth {
        self.case().health(self.running)
    }

    /// When it runs next, and why not now; `None`: it is due now.
    fn waits(&self) -> Option<PlanWait> {
        match self.case().decide() {
            Decision::Now(_) => None,
            Decision::Later(wait) => Some(wait),
        }
    }

    fn next(&self) -> Vec<Timestamp> {
        match self.plan.suspended {
            true => Vec::new(),
            false => self.clock.following(self.now).take(TIMES).collect(),
        }
    }

    /// The plan as scripts know it.
    pub(super) fn document(&self) -> Value {
        let plan = &self.plan;
        let (disks, exclude) = match &plan.disks {
            PlanDisks::AllBut(excluded) => (Value::Null, json!(excluded)),
            PlanDisks::These(disks) => (json!(disks), json!([])),
        };
        let health = self.health();
        let overdue = match health {
            PlanHealth::Overdue(since) => Some(shown(since)),
            _ => None,
        };
        let next: Vec<String> = self.next().into_iter().map(shown).collect();
        let follow_ups = plan.follow_ups();
        let steps: Vec<Value> = follow_ups.iter().map(|one| self.step(one)).collect();
        let PlanRunner::Cron(cron) = &self.runner;
        json!({
            "plan": plan.name.as_str(),
            "file": self.file.display().to_string(),
            "state": health.name(),
            "overdue_since": overdue,
            "suspended": plan.suspended,
            "running": self.running,
            "disks": disks,
            "exclude": exclude,
            "partial": plan.partial,
            "vault": plan.vault,
            "level": plan.level.to_string(),
            "start": plan.schedule.start.to_string(),
            "zone": plan.zone_name,
            "every": plan.schedule.every.to_string(),
            "jitter_seconds": plan.jitter.as_secs(),
            "window": plan.window.map(|window| window.to_string()),
            "retention": retention(plan.retention.as_ref()),
            "limit_read": plan.limit_read,
            "limit_write": plan.limit_write,
            "mirror": plan.mirror.as_ref().map(|one| &one.to),
            "verify": plan.verify.as_ref().map(|one| &one.sample),
            "next": next,
            "waits": self.waits().map(|wait| waiting(&wait)),
            "last": self.record.last.as_ref().map(attempt),
            "last_good": self.record.last_good.as_ref().map(attempt),
            "steps": steps,
            "note_problem": self.unread.as_ref().map(ToString::to_string),
            "cron": cron,
        })
    }

    fn step(&self, one: &FollowUp) -> Value {
        let step = self.record.steps.get(one.name);
        json!({
            "step": one.name,
            "every": one.every.map(|every| every.to_string()),
            "began": step.map(|step| shown(step.began)),
            "outcome": step.map(|step| outcome(&step.outcome)),
        })
    }

    /// How it stands, in a line.
    pub(super) fn verdict(&self) -> String {
        let name = &self.plan.name;
        let next = self.waits().map_or_else(|| "as soon as it is looked at".into(), |wait| {
            let until = wait.until.map_or_else(|| "not by itself".into(), shown);
            match wait.reason {
                WaitReason::NotYet => until,
                reason => format!("{until} ({})", why(reason)),
            }
        });
        let state = match self.health() {
            PlanHealth::Good => "is good".to_owned(),
            PlanHealth::New => "has not run yet".to_owned(),
            PlanHealth::Running => "is being run".to_owned(),
            PlanHealth::Due => "is due".to_owned(),
            PlanHealth::Overdue(since) => format!("is OVERDUE since {}", shown(since)),
            PlanHealth::Failed => format!("FAILED: {}", self.failed()),
            PlanHealth::Suspended => return format!("plan {name} is held back"),
        };
        format!("plan {name} {state}; next run: {next}")
    }

    fn failed(&self) -> String {
        let bad = |outcome: &&StepOutcome| !outcome.is_good();
        let last = self.record.last.as_ref();
        let cut_off = last.is_some_and(|last| last.outcome.is_none());
        let follow_ups = self.plan.follow_ups();
        let steps = follow_ups.iter().filter_map(|one| {
            let outcome = &self.record.steps.get(one.name)?.outcome;
            Some((one.name, outcome)).filter(|(_, outcome)| bad(&outcome))
        });
        let first = last.and_then(|last| last.outcome.as_ref()).filter(bad);
        let first = first.map(|outcome| ("snapshot", outcome));
        match first.into_iter().chain(steps).next() {
            _ if cut_off => "the last run was cut off".into(),
            Some((name, outcome)) => one_line(&format!("{name}: {}", outcome.said)).into_owned(),
            None => "it is not known why".into(),
        }
    }
}

/// What `plan list` reports.
pub fn list(seen: &[SeenPlan], unread: &[UnreadPlan], folder: &Path) -> Report {
    let plans: Vec<Value> = seen.iter().map(SeenPlan::document).collect();
    let mut text = table(seen);
    let bad = seen.iter().filter(|one| one.health().is_bad()).count();
    for one in unread {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "!! {}", one.error);
    }
    let _ = match (seen.len(), unread.len()) {
        (0, 0) => write!(text, "no plan in {}", folder.display()),
        (_, 0) if bad == 0 => write!(text, "{}, none failed or overdue", counted(seen.len(), "plan")),
        (_, 0) => write!(text, "{bad} of {} failed or overdue", counted(seen.len(), "plan")),
        (_, count) => write!(text, "{} cannot be read, and run nothing", counted(count, "plan")),
    };
    let document = json!({
        "plans": plans,
        "unreadable": unread.iter().map(unread_document).collect::<Vec<_>>(),
    });
    Report::done(document, text).below(!unread.is_empty())
}

/// A file that holds no plan, for programs.
pub(super) fn unread_document(one: &UnreadPlan) -> Value {
    json!({"plan": one.name, "error": super::error::document(&one.error)})
}

/// The plans in a table, a line each; nothing where there is none.
pub(super) fn table(seen: &[SeenPlan]) -> String {
    if seen.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["PLAN", "EVERY", "STATE", "LAST SNAPSHOT", "NEXT RUN"]);
    for one in seen {
        let good = one.record.last_good.as_ref();
        let next = one.waits().map(|wait| wait.until);
        table.add_row(cells([
            one.plan.name.to_string(),
            one.plan.schedule.every.to_string(),
            one.health().name().to_owned(),
            good.map_or_else(|| "-".into(), |good| shown(good.began)),
            match next {
                None => "now".into(),
                Some(None) => "-".into(),
                Some(Some(next)) => shown(next),
            },
        ]));
    }
    table_text(&table) + "\n"
}

/// What `plan show` reports.
pub fn show(seen: &SeenPlan) -> Report {
    let mut text = described(seen);
    text.push_str(&seen.verdict());
    Report::done(seen.document(), text)
}

/// What reports that a plan was made or changed.
pub fn changed(seen: &SeenPlan, done: &str) -> Report {
    let mut text = described(seen);
    let now = seen.now;
    if seen.plan.schedule.next(Timestamp::MIN).is_some_and(|start| start <= now) {
        text.push_str("  its start has passed: times before now are not made up for\n");
    }
    let PlanRunner::Cron(line) = &seen.runner;
    let _ = writeln!(
        text,
        "  no timer runs it yet: write this line to /etc/cron.d/stillpoint, once for all plans:\n  \
         {line}"
    );
    let next = seen.next().first().copied().map_or_else(|| "none by itself".into(), shown);
    let _ = write!(text, "plan {} is {done}; next run: {next}", seen.plan.name);
    Report::done(seen.document(), text)
}

/// What `plan delete` reports.
pub fn deleted(name: &PlanName) -> Report {
    let json = json!({"plan": name.as_str(), "deleted": true});
    let text = format!(
        "its snapshots stay, as long as anything keeps them: `stillpoint list --tag plan={name}` \
         shows them\nplan {name} is deleted"
    );
    Report::done(json, text)
}

/// What became of a plan that was to be run.
pub struct PlanRun {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What became of it.
    pub end: PlanRunEnd,
}

/// What became of a plan that was to be run.
pub enum PlanRunEnd {
    /// It was run.
    Ran {
        /// For which time.
        time: Option<Timestamp>,
        /// Which try for it.
        number: u32,
        /// How the snapshot ended.
        snapshot: StepOutcome,
        /// What followed.
        followed: Vec<FollowedStep>,
        /// What else is to be said.
        said: Vec<String>,
        /// When it runs next.
        next: Option<Timestamp>,
    },
    /// It is not due.
    Waits(PlanWait),
    /// Somebody else runs it.
    RunsNow(String),
    /// It could not be.
    Unrun(Error),
}

/// What followed a snapshot.
pub struct FollowedStep {
    /// The command.
    pub name: &'static str,
    /// How it ended.
    pub outcome: StepOutcome,
}

/// What `plan run` has to report.
pub struct PlanRunReport {
    /// Each plan.
    pub runs: Vec<PlanRun>,
    /// Whether only those were run that are due.
    pub due: bool,
    /// Whether those are told of that are not.
    pub verbose: bool,
}

/// What `plan run` reports.
pub fn ran(done: &PlanRunReport) -> Report {
    let mut text = String::new();
    let mut worst = 0;
    for run in &done.runs {
        let name = run.name.as_deref().unwrap_or("of no name");
        let code = end_code(&run.end);
        if rank(code) > rank(worst) {
            worst = code;
        }
        run_lines(&mut text, name, &run.end, done.verbose);
    }
    // Where nothing was due nothing is said: whoever runs this each minute gets no mail.
    if done.due && done.verbose && done.runs.is_empty() {
        text.push_str("there is no plan\n");
    }
    let document = json!({"plans": done.runs.iter().map(run_document).collect::<Vec<_>>()});
    let mut report = Report::done(document, text);
    report.code = worst;
    report
}

fn run_lines(text: &mut String, name: &str, end: &PlanRunEnd, verbose: bool) {
    // Writing to a string cannot fail.
    let _ = match end {
        PlanRunEnd::Ran {
            snapshot,
            followed,
            said,
            next,
            ..
        } => {
            for line in said {
                let _ = writeln!(text, "plan {name}: {}", one_line(line));
            }
            let snapshot = ("snapshot", snapshot);
            let steps = followed.iter().map(|step| (step.name, &step.outcome));
            for (step, outcome) in [snapshot].into_iter().chain(steps) {
                let _ = writeln!(text, "plan {name}: {step}: {}", one_line(&outcome.said));
                if let Some(hint) = &outcome.hint {
                    let _ = writeln!(text, "  hint: {}", one_line(hint));
                }
            }
            let code = end_code(end);
            let next = next.map_or_else(|| "none by itself".into(), shown);
            let how = match code {
                0 => "is done".into(),
                BELOW => format!("is done with warnings, exit code {code}"),
                _ => format!("FAILED, exit code {code}"),
            };
            writeln!(text, "plan {name} {how}; next run: {next}")
        }
        PlanRunEnd::Waits(wait) if verbose => {
            let until = wait.until.map_or_else(|| "not by itself".into(), shown);
            writeln!(text, "plan {name} is not due: {}; next run: {until}", why(wait.reason))
        }
        PlanRunEnd::Waits(_) => Ok(()),
        PlanRunEnd::RunsNow(said) => writeln!(text, "{}", one_line(said)),
        PlanRunEnd::Unrun(error) => {
            let hint = super::error::advice(error);
            writeln!(text, "hint: {hint}\nplan {name} was NOT RUN: {error}")
        }
    };
}

fn end_code(end: &PlanRunEnd) -> u8 {
    match end {
        PlanRunEnd::Ran {
            snapshot, followed, ..
        } => {
            if !snapshot.is_good() {
                return snapshot.exit_code;
            }
            // The snapshot is there: what follows makes it less than was asked.
            let codes = followed.iter().map(|step| step.outcome.exit_code);
            let worst = codes.max_by_key(|code| rank(*code)).unwrap_or(0);
            match worst {
                0 => snapshot.exit_code,
                code if code == crate::model::exit::DAMAGED || code >= 128 => code,
                _ => BELOW,
            }
        }
        PlanRunEnd::Waits(_) | PlanRunEnd::RunsNow(_) => 0,
        PlanRunEnd::Unrun(error) => code(error.kind()),
    }
}

/// Which of several exit codes is told: the later in this list.
fn rank(code: u8) -> usize {
    const ORDER: [u8; 7] = [0, BELOW, 2, 6, 5, 1, 4];
    let place = ORDER.iter().position(|known| *known == code);
    place.unwrap_or(ORDER.len())
}

fn run_document(run: &PlanRun) -> Value {
    let mut document = json!({
        "plan": run.name,
        "state": "unrun",
        "exit_code": end_code(&run.end),
        "time": null,
        "try": null,
        "snapshot": null,
        "steps": [],
        "said": [],
        "next": null,
        "waits": null,
        "error": null,
    });
    match &run.end {
        PlanRunEnd::Ran {
            time,
            number,
            snapshot,
            followed,
            said,
            next,
        } => {
            document["state"] = "ran".into();
            document["time"] = json!(time.map(shown));
            document["try"] = json!(number);
            document["snapshot"] = outcome(snapshot);
            let steps = followed.iter();
            let step = |one: &FollowedStep| json!({"step": one.name, "outcome": outcome(&one.outcome)});
            document["steps"] = steps.map(step).collect();
            document["said"] = json!(said);
            document["next"] = json!(next.map(shown));
        }
        PlanRunEnd::Waits(wait) => {
            document["state"] = "waits".into();
            document["waits"] = waiting(wait);
            document["next"] = json!(wait.until.map(shown));
        }
        PlanRunEnd::RunsNow(said) => {
            document["state"] = "running".into();
            document["said"] = json!([said]);
        }
        PlanRunEnd::Unrun(error) => document["error"] = super::error::document(error),
    }
    document
}

fn described(seen: &SeenPlan) -> String {
    let plan = &seen.plan;
    let mut text = format!("plan {} ({})\n", plan.name, seen.file.display());
    let disks = match &plan.disks {
        PlanDisks::AllBut(out) if out.is_empty() => "all disks, later ones included".into(),
        PlanDisks::AllBut(out) => format!("all disks, later ones included, but {}", out.join(", ")),
        PlanDisks::These(disks) => disks.join(", "),
    };
    let vault = plan.vault.as_deref().unwrap_or("the vault of the configuration");
    let mut lines = vec![
        format!("takes {disks}, level {}, into {vault}", plan.level),
        times(seen),
        kept(plan),
    ];
    for one in plan.follow_ups() {
        let every = one.every.map_or_else(|| "each snapshot".into(), |every| format!("a snapshot, every {every}"));
        lines.push(format!("then {} after {every}", one.name));
    }
    if let Some(last) = &seen.record.last {
        lines.push(format!("last try: {}", tried(last)));
    }
    let good = seen.record.last_good.as_ref();
    if let Some(good) = good.filter(|_| seen.record.last != seen.record.last_good) {
        lines.push(format!("last snapshot: {}", tried(good)));
    }
    if let Some(error) = &seen.unread {
        lines.push(format!("!! {error}: what it has done is not known"));
    }
    for time in seen.next() {
        let zoned = time.to_zoned(plan.schedule.zone.clone());
        let there = zoned.strftime("%a %Y-%m-%d %H:%M:%S");
        lines.push(format!("next: {} ({there} {})", shown(time), plan.zone_name));
    }
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", one_line(&line));
    }
    text
}

fn times(seen: &SeenPlan) -> String {
    let plan = &seen.plan;
    let schedule = &plan.schedule;
    let mut text = format!(
        "every {} from {} {} on",
        schedule.every, schedule.start, plan.zone_name
    );
    if !plan.jitter.is_zero() {
        let (jitter, own) = (plan.jitter.as_secs(), seen.clock.later().as_secs());
        let _ = write!(text, ", by up to {jitter} s later (on this host {own} s)");
    }
    if let Some(window) = plan.window {
        let _ = write!(text, "; begins {window} only");
    }
    text
}

fn kept(plan: &SnapshotPlan) -> String {
    match plan.retention {
        None => "deletes nothing".into(),
        Some(PlanRetention::Days(days)) => format!("each snapshot stays for {}", counted(days as usize, "day")),
        Some(PlanRetention::Rules(_)) => {
            let rules = retention(plan.retention.as_ref())["rules"].take();
            let rules = rules.as_object().into_iter().flatten();
            let rules = rules.filter(|(_, value)| !value.is_null() && **value != json!(0));
            let rules: Vec<String> = rules.map(|(rule, value)| format!("{rule} {value}")).collect();
            format!("snapshots stay by rules: {}", rules.join(", "))
        }
    }
}

fn tried(one: &PlanTry) -> String {
    let began = shown(one.began);
    match &one.outcome {
        None => format!("{began}, not ended"),
        Some(outcome) => format!("{began}, exit code {}: {}", outcome.exit_code, outcome.said),
    }
}

fn why(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::NotYet => "its time has not come",
        WaitReason::Pauses => "it failed, and pauses before it tries again",
        WaitReason::GaveUp => "it failed as often as is tried for one time",
        WaitReason::OutsideWindow => "it begins in its window only",
        WaitReason::Suspended => "it is held back",
    }
}

fn waiting(wait: &PlanWait) -> Value {
    let reason = match wait.reason {
        WaitReason::NotYet => "not_yet",
        WaitReason::Pauses => "pauses",
        WaitReason::GaveUp => "gave_up",
        WaitReason::OutsideWindow => "outside_window",
        WaitReason::Suspended => "suspended",
    };
    json!({"until": wait.until.map(shown), "reason": reason})
}

fn retention(retention: Option<&PlanRetention>) -> Value {
    match retention {
        None => Value::Null,
        Some(PlanRetention::Days(days)) => json!({"days": days, "rules": null}),
        Some(PlanRetention::Rules(rules)) => json!({"days": null, "rules": {
            "last": rules.last, "hourly": rules.hourly, "daily": rules.daily,
            "weekly": rules.weekly, "monthly": rules.monthly, "yearly": rules.yearly,
            "within_seconds": rules.within.map(|within| within.as_secs()),
        }}),
    }
}

fn attempt(one: &PlanTry) -> Value {
    json!({
        "time": one.time.map(shown),
        "try": one.number,
        "began": shown(one.began),
        "ended": one.ended.map(shown),
        "outcome": one.outcome.as_ref().map(outcome),
    })
}

fn outcome(outcome: &StepOutcome) -> Value {
    json!(outcome)
}

/// A time to the second, UTC.
fn shown(time: Timestamp) -> String {
    format!("{time:.0}")
}
