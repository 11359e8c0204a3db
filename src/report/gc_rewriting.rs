//! What a collection found in segments that are mostly dead, and what it made of them.

use super::text::counted;
use crate::engine::{RewriteCost, Rewriting};
use crate::model::Bytes;
use serde_json::{Value, json};

/// As a value.
pub(super) fn json(rewriting: &Rewriting) -> Value {
    let (space, cost) = (rewriting.plan.space, rewriting.plan.cost);
    let done = rewriting.done.as_ref().map(|done| {
        let renamed = done.renamed.iter();
        let renamed =
            renamed.map(|one| json!({"old": one.old.to_string(), "new": one.new.to_string()}));
        json!({
            "segments": done.segments,
            "written_bytes": done.written,
            "renamed": renamed.collect::<Vec<_>>(),
        })
    });
    json!({
        "live_bytes": space.live,
        "dead_bytes": space.dead,
        "segments_partly_dead": space.segments,
        "segments_unread": space.unread,
        "planned": planned(cost),
        "why_not": rewriting.plan.why_not,
        "done": done,
    })
}

fn planned(cost: RewriteCost) -> Value {
    json!({
        "segments": cost.segments,
        "freed_bytes": cost.freed,
        "moved_bytes": cost.moved,
        "snapshots": cost.snapshots,
        "requests_that_read": cost.gets,
        "requests_that_put": cost.puts,
    })
}

/// What the user should know.
pub(super) fn warnings(rewriting: &Rewriting) -> Vec<String> {
    let done = rewriting.done.as_ref();
    done.map_or_else(Vec::new, |done| done.warnings.clone())
}

/// As text, a line each.
pub(super) fn lines(rewriting: &Rewriting, dry_run: bool) -> Vec<String> {
    let (space, cost) = (rewriting.plan.space, rewriting.plan.cost);
    let mut lines = Vec::new();
    if space.dead > Bytes(0) {
        let part = space.dead.0 * 100 / space.live.0.max(1);
        lines.push(format!(
            "{} lie dead in {} of which the rest is needed: {part} % of what is live",
            space.dead,
            counted(space.segments, "segment"),
        ));
    }
    if space.unread > 0 {
        lines.push(format!(
            "the ends of {} could not be read: what lies dead there is not known",
            counted(space.unread, "segment"),
        ));
    }
    if let Some(why) = &rewriting.plan.why_not {
        lines.push(format!("no segment is rewritten: {why}"));
    }
    let old = rewriting.plan.old_names();
    if old > 0 && dry_run {
        lines.push(format!(
            "would delete {} of snapshots that are there under newer ones, too",
            counted(old, "name"),
        ));
    }
    if cost.segments > 0 && dry_run {
        lines.push(format!(
            "would rewrite {}, to free {}: {} would be copied, by about {} that read and {} that \
             put or list; {} would get another name",
            counted(cost.segments, "segment"),
            cost.freed,
            cost.moved,
            counted(cost.gets as usize, "request"),
            cost.puts,
            counted(cost.snapshots, "snapshot"),
        ));
    }
    for done in rewriting.done.iter().filter(|done| done.segments > 0) {
        lines.push(format!(
            "rewrote {}, {} put; what is left of them goes with a later gc",
            counted(done.segments, "segment"),
            done.written,
        ));
        let renamed = done.renamed.iter();
        lines.extend(renamed.map(|one| format!("snapshot {} is called {} now", one.old, one.new)));
    }
    let warnings = warnings(rewriting).into_iter();
    lines.extend(warnings.map(|what| format!("warning: {what}")));
    lines
}
