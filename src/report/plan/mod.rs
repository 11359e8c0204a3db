//! Plans: what they are, how they stand, when they run next, and what became of their runs.

mod describe;
mod run;
mod seen;
mod words;

pub use run::{FollowedStep, PlanRun, PlanRunEnd, PlanRunReport, ran};
pub use seen::{PlanRunner, SeenPlan, SeenTimer, UnreadPlan};

use super::Report;
use super::text::{cells, counted, table_text};
use crate::plan::{PlanId, PlanName};
use comfy_table::{Table, presets};
use describe::described;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use words::shown;

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
        (_, 0) if bad == 0 => write!(
            text,
            "{}, none failed or overdue",
            counted(seen.len(), "plan")
        ),
        (_, 0) => write!(
            text,
            "{bad} of {} failed or overdue",
            counted(seen.len(), "plan")
        ),
        (_, count) => write!(
            text,
            "{} cannot be read, and run nothing",
            counted(count, "plan")
        ),
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
    if seen
        .plan
        .schedule
        .next(Timestamp::MIN)
        .is_some_and(|start| start <= now)
    {
        text.push_str("  its start has passed: times before now are not made up for\n");
    }
    let next = seen
        .next()
        .first()
        .copied()
        .map_or_else(|| "none by itself".into(), shown);
    let _ = write!(text, "plan {} is {done}; next run: {next}", seen.plan.name);
    Report::done(seen.document(), text)
}

/// What `plan delete` reports.
pub fn deleted(name: &PlanName, host: &str, id: Option<&PlanId>) -> Report {
    let json = json!({"plan": name.as_str(), "deleted": true, "id": id.map(ToString::to_string)});
    let whose = id.map_or_else(String::new, |id| format!(" --tag plan-id={id}"));
    let text = format!(
        "its snapshots stay, and nothing prunes them any more: `stillpoint prune --host {host} \
         --tag plan={name}{whose} --keep-last 1 --dry-run` says what would go\n\
         plan {name} is deleted"
    );
    Report::done(json, text)
}
