//! All of a plan, for people.

use super::seen::SeenPlan;
use super::words::{retention, shown, shown_address};
use crate::model::printable::one_line;
use crate::plan::{DRILL, PlanDisks, PlanDrill, PlanRetention, PlanTry, SnapshotPlan};
use crate::report::text::counted;
use serde_json::json;
use std::fmt::Write;

/// All of a plan, for people, without the verdict.
pub(super) fn described(seen: &SeenPlan) -> String {
    let plan = &seen.plan;
    let mut text = format!("plan {} ({})\n", plan.name, seen.file.display());
    let disks = match &plan.disks {
        PlanDisks::AllBut(out) if out.is_empty() => "all disks, later ones included".into(),
        PlanDisks::AllBut(out) => format!("all disks, later ones included, but {}", out.join(", ")),
        PlanDisks::These(disks) => disks.join(", "),
    };
    let vault = plan
        .vault
        .as_deref()
        .unwrap_or("the vault of the configuration");
    let mut lines = vec![
        format!("takes {disks}, level {}, into {vault}", plan.level),
        times(seen),
        kept(plan),
    ];
    for one in plan.follow_ups() {
        let every = one.every.map_or_else(
            || "each snapshot".into(),
            |every| format!("a snapshot, every {every}"),
        );
        let how = plan.drill.as_ref().filter(|_| one.name == DRILL);
        let how = how.map_or_else(String::new, how_drilled);
        lines.push(format!("then {} after {every}{how}", one.name));
    }
    lines.extend(told_to(plan));
    if let Some(last) = &seen.record.last {
        lines.push(format!("last try: {}", tried(last)));
    }
    let good = seen.record.last_good.as_ref();
    if let Some(good) = good.filter(|_| seen.record.last != seen.record.last_good) {
        lines.push(format!("last snapshot: {}", tried(good)));
    }
    if let Some(since) = seen.record.prune_held.filter(|_| plan.retention.is_some()) {
        lines.push(format!(
            "deletes nothing since {}: the clock may be wrong, or no run before was noted",
            shown(since)
        ));
    }
    if let Some(error) = &seen.unread {
        lines.push(format!("!! {error}: what it has done is not known"));
    }
    lines.push(seen.runner.described(plan.name.as_str()));
    for time in seen.next() {
        let zoned = time.to_zoned(plan.schedule.zone.clone());
        let there = zoned.strftime("%a %Y-%m-%d %H:%M:%S");
        lines.push(format!(
            "next: {} ({there} {})",
            shown(time),
            plan.zone_name
        ));
    }
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", one_line(&line));
    }
    text
}

fn how_drilled(drill: &PlanDrill) -> String {
    let mut how = String::new();
    if drill.boot {
        how.push_str(", which boots a machine");
    }
    if let Some(check) = &drill.check {
        // Writing to a string cannot fail.
        let _ = write!(how, ", checked by {}", check.display());
    }
    if let Some(time) = drill.timeout {
        let _ = write!(how, ", within {} s", time.as_secs());
    }
    how
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

/// Who is told of it beside those whom the configuration names. Of an address no more is shown than
/// its scheme and host.
fn told_to(plan: &SnapshotPlan) -> Vec<String> {
    let notify = &plan.notify;
    let mut lines = Vec::new();
    if notify.silent {
        lines.push("nobody is told of it (silent)".into());
    }
    if let Some(ping) = &notify.ping {
        let mut when = vec!["after a good run"];
        when.extend(ping.start.then_some("before one (/start)"));
        when.extend(ping.fail.then_some("after one that failed (/fail)"));
        let place = shown_address(&ping.address);
        lines.push(format!("pings {place} {}", when.join(", ")));
    }
    lines
}

fn kept(plan: &SnapshotPlan) -> String {
    match plan.retention {
        None => "deletes nothing".into(),
        Some(PlanRetention::Days(days)) => {
            format!("each snapshot stays for {}", counted(days as usize, "day"))
        }
        Some(PlanRetention::Rules(_)) => {
            let rules = retention(plan.retention.as_ref())["rules"].take();
            let rules = rules.as_object().into_iter().flatten();
            let rules = rules.filter(|(_, value)| !value.is_null() && **value != json!(0));
            let rules: Vec<String> = rules
                .map(|(rule, value)| format!("{rule} {value}"))
                .collect();
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
