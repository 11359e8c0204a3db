//! Figures in Prometheus' text format. Names and labels are stable: they are only ever added to.

use super::note::NotifyNote;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;

/// All words for how a plan stands.
const STATES: [&str; 8] = [
    "good",
    "new",
    "running",
    "due",
    "overdue",
    "failed",
    "warned",
    "suspended",
];

/// What is known of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFigures {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: &'static str,
    /// How often it runs, in seconds, about.
    pub interval: i64,
    /// When the last try began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its exit code.
    pub exit_code: Option<u8>,
    /// When the last good snapshot was begun.
    pub last_good: Option<Timestamp>,
    /// When it is due next.
    pub next: Option<Timestamp>,
    /// What follows its snapshots.
    pub steps: Vec<StepFigures>,
}

/// What is known of something that follows snapshots.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFigures {
    /// Its name.
    pub name: String,
    /// When it was last tried.
    pub began: Timestamp,
    /// How that ended.
    pub exit_code: u8,
}

/// Values of one name, in the order of the text.
struct Family {
    name: &'static str,
    help: &'static str,
    lines: Vec<String>,
}

impl Family {
    fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            lines: Vec::new(),
        }
    }

    fn add(&mut self, labels: &[Label<'_>], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|label| format!("{}=\"{}\"", label.name, escaped(label.value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        self.lines.push(format!("{}{labels} {value}", self.name));
    }
}

/// A label.
struct Label<'a> {
    name: &'static str,
    value: &'a str,
}

fn label<'a>(name: &'static str, value: &'a str) -> Label<'a> {
    Label { name, value }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The text of all figures. `unreadable`: how many files are no plans.
pub fn exposition(
    plans: &[PlanFigures],
    unreadable: usize,
    note: &NotifyNote,
    now: Timestamp,
) -> String {
    let mut info = Family::new("stillpoint_info", "The version that wrote this.");
    info.add(&[label("version", env!("CARGO_PKG_VERSION"))], 1);
    let mut written = Family::new(
        "stillpoint_written_timestamp_seconds",
        "When this was written; old: nothing looks after the plans.",
    );
    written.add(&[], now.as_second());
    let mut unread = Family::new(
        "stillpoint_plans_unreadable",
        "Files among the plans that are none, and run nothing.",
    );
    unread.add(&[], unreadable);
    let mut families = vec![info, written, unread];
    families.extend(of_plans(plans));
    families.extend(of_steps(plans));
    families.extend(of_receivers(note));
    let mut text = String::new();
    for family in families.iter().filter(|one| !one.lines.is_empty()) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {} {}", family.name, family.help);
        let _ = writeln!(text, "# TYPE {} gauge", family.name);
        for line in &family.lines {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

fn of_plans(plans: &[PlanFigures]) -> Vec<Family> {
    let mut state = Family::new(
        "stillpoint_plan_state",
        "1 for the state that the plan is in, 0 for each other one.",
    );
    for plan in plans {
        for word in STATES {
            let labels = [label("plan", &plan.name), label("state", word)];
            state.add(&labels, u8::from(plan.state == word));
        }
    }
    let of = |name, help, value: &dyn Fn(&PlanFigures) -> Option<i64>| {
        let mut family = Family::new(name, help);
        for plan in plans {
            if let Some(value) = value(plan) {
                family.add(&[label("plan", &plan.name)], value);
            }
        }
        family
    };
    let second = Timestamp::as_second;
    vec![
        state,
        of(
            "stillpoint_plan_interval_seconds",
            "How often the plan runs.",
            &|plan| Some(plan.interval),
        ),
        of(
            "stillpoint_plan_last_good_timestamp_seconds",
            "When the last good snapshot was begun; absent: there is none.",
            &|plan| plan.last_good.map(second),
        ),
        of(
            "stillpoint_plan_last_try_timestamp_seconds",
            "When the last try began.",
            &|plan| plan.began.map(second),
        ),
        of(
            "stillpoint_plan_last_try_exit_code",
            "How the last try ended: 0 as asked, 3 with less, else failed; absent: not ended.",
            &|plan| plan.exit_code.map(i64::from),
        ),
        of(
            "stillpoint_plan_last_try_duration_seconds",
            "How long the last try took.",
            &|plan| {
                let took = plan.ended?.duration_since(plan.began?);
                Some(took.as_secs().max(0))
            },
        ),
        of(
            "stillpoint_plan_next_timestamp_seconds",
            "When it is due next; absent: not by itself.",
            &|plan| plan.next.map(second),
        ),
    ]
}

fn of_steps(plans: &[PlanFigures]) -> [Family; 2] {
    let mut began = Family::new(
        "stillpoint_step_last_try_timestamp_seconds",
        "When that which follows snapshots was last tried.",
    );
    let mut code = Family::new(
        "stillpoint_step_last_try_exit_code",
        "How that ended: 0 as asked, 3 with less, else failed.",
    );
    for plan in plans {
        for step in &plan.steps {
            let labels = || [label("plan", &plan.name), label("step", &step.name)];
            began.add(&labels(), step.began.as_second());
            code.add(&labels(), step.exit_code);
        }
    }
    [began, code]
}

fn of_receivers(note: &NotifyNote) -> [Family; 3] {
    let mut waiting = Family::new(
        "stillpoint_notifications_waiting",
        "Notifications that could not be sent yet, by receiver.",
    );
    let mut since = Family::new(
        "stillpoint_notifications_failing_since_timestamp_seconds",
        "Since when a receiver cannot be reached; absent: it can.",
    );
    let mut dropped = Family::new(
        "stillpoint_notifications_dropped",
        "Notifications that were given up since then.",
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &note.waiting {
        *counts.entry(&one.channel).or_default() += 1;
    }
    for channel in note.troubles.keys() {
        counts.entry(channel).or_default();
    }
    for (channel, count) in counts {
        waiting.add(&[label("receiver", channel)], count);
    }
    for (channel, trouble) in &note.troubles {
        since.add(&[label("receiver", channel)], trouble.since.as_second());
        dropped.add(&[label("receiver", channel)], trouble.dropped);
    }
    [waiting, since, dropped]
}
