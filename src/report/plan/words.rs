//! Parts of what is said of plans.

use crate::config::{PlanNotify, WebAddress};
use crate::plan::{PlanDrill, PlanRetention, PlanTry, PlanWait, StepOutcome, WaitReason};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Why a plan does not run now, for people.
pub(super) fn why(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::NotYet => "its time has not come",
        WaitReason::Pauses => "it failed, and pauses before it tries again",
        WaitReason::OutsideWindow => "it begins in its window only",
        WaitReason::Suspended => "it is held back",
    }
}

/// The same for programs.
pub(super) fn waiting(wait: &PlanWait) -> Value {
    let reason = match wait.reason {
        WaitReason::NotYet => "not_yet",
        WaitReason::Pauses => "pauses",
        WaitReason::OutsideWindow => "outside_window",
        WaitReason::Suspended => "suspended",
    };
    json!({"until": wait.until.map(shown), "reason": reason})
}

/// How long snapshots stay, for programs.
pub(super) fn retention(retention: Option<&PlanRetention>) -> Value {
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

/// Where an address leads, as far as it may be shown.
pub(super) fn shown_address(address: &WebAddress) -> String {
    match address {
        WebAddress::Url(url) => url.shown().to_owned(),
        WebAddress::File(path) => format!("what stands in {}", path.display()),
    }
}

/// Who is told of a plan, for programs.
pub(super) fn notify(notify: &PlanNotify) -> Value {
    let ping = notify.ping.as_ref().map(|ping| {
        json!({"place": shown_address(&ping.address), "start": ping.start, "fail": ping.fail})
    });
    json!({"silent": notify.silent, "ping": ping})
}

/// How a snapshot is tried, for programs.
pub(super) fn drill(drill: &PlanDrill) -> Value {
    json!({
        "boot": drill.boot,
        "check": drill.check,
        "timeout_seconds": drill.timeout.map(|time| time.as_secs()),
        "memory": drill.memory,
    })
}

/// A try, for programs.
pub(super) fn attempt(one: &PlanTry) -> Value {
    json!({
        "time": one.time.map(shown),
        "try": one.number,
        "began": shown(one.began),
        "ended": one.ended.map(shown),
        "outcome": one.outcome.as_ref().map(outcome),
    })
}

/// How a command ended, for programs.
pub(super) fn outcome(outcome: &StepOutcome) -> Value {
    json!(outcome)
}

/// A time to the second, UTC.
pub(super) fn shown(time: Timestamp) -> String {
    format!("{time:.0}")
}
