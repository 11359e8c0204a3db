//! What a vault holds, as a document.

use crate::engine::{
    Amount, DiskHolding, Growth, Holding, HostHolding, SnapshotHolding, VaultHoldings,
};
use crate::format::VaultInfo;
use crate::report::gc::{amount, tally};
use serde_json::{Value, json};

/// Most snapshots, disks and hosts in a document, each: a document of them takes some 100 MiB.
const MOST_IN_JSON: usize = 100_000;

/// What to report.
pub struct HoldingsReport<'a> {
    /// What the vault holds.
    pub found: &'a VaultHoldings,
    /// Where it is.
    pub location: &'a str,
    /// What it is.
    pub vault: &'a VaultInfo,
}

/// The document.
pub(super) fn document(info: &HoldingsReport<'_>) -> Value {
    let found = info.found;
    let left_out = [found.snapshots.len(), found.disks.len(), found.hosts.len()];
    let left_out = left_out.map(|count| count.saturating_sub(MOST_IN_JSON));
    let left_out: usize = left_out.iter().sum();
    let snapshots = found.snapshots.iter().take(MOST_IN_JSON);
    let disks = found.disks.iter().take(MOST_IN_JSON);
    let hosts = found.hosts.iter().take(MOST_IN_JSON);
    let unread = found.unread.iter();
    let unread = unread
        .map(|one| json!({"snapshot": one.snapshot.to_string(), "what": one.why.to_string()}));
    let runs = found.runs.iter();
    let runs = runs.map(|run| json!({"what": run.what, "silent": run.is_silent}));
    let room = found.room;
    json!({
        "vault": info.vault.id.to_string(),
        "name": info.vault.name,
        "location": info.location,
        "bytes": found.bytes(),
        "needed": tally(&found.needed),
        "dead_bytes": found.dead,
        "shared_bytes": found.shared,
        "unneeded": tally(&found.unneeded),
        "at_work": tally(&found.at_work),
        "manifest_bytes": found.manifests,
        "other": amount(Amount {objects: found.side.objects, bytes: found.side.bytes}),
        "snapshots": snapshots.map(snapshot_document).collect::<Vec<_>>(),
        "disks": disks.map(disk_document).collect::<Vec<_>>(),
        "hosts": hosts.map(host_document).collect::<Vec<_>>(),
        "left_out": left_out,
        "unread_snapshots": found.unread_snapshots(),
        "unread": unread.collect::<Vec<_>>(),
        "missing_objects": found.missing.objects,
        "missing": found.missing.first,
        "damage_lists": found.side.damage_lists,
        "runs": runs.collect::<Vec<_>>(),
        "plans": found.side.plans.len(),
        "oldest_plan": found.side.oldest_plan.map(|time| time.to_string()),
        "room_bytes": room.map(|room| room.all),
        "free_bytes": room.map(|room| room.free),
        "free_files": room.and_then(|room| room.free_files),
        "growth": found.growth.map(|growth| growth_document(&growth, found)),
    })
}

fn with_holding(mut document: Value, holding: &Holding) -> Value {
    document["logical_bytes"] = json!(holding.logical);
    document["stored_bytes"] = json!(holding.stored);
    document["unique_bytes"] = json!(holding.unique);
    document["freed_bytes"] = json!(holding.freed);
    document
}

fn snapshot_document(one: &SnapshotHolding) -> Value {
    let document = json!({
        "snapshot": one.id.to_string(),
        "time": format!("{:.3}", one.time),
        "host": one.host,
        "disks": one.disks,
        "whole": !one.is_unread,
    });
    with_holding(document, &one.holding)
}

fn disk_document(one: &DiskHolding) -> Value {
    let document = json!({
        "host": one.host,
        "disk": one.name,
        "serial": one.serial,
        "size_bytes": one.size,
        "snapshots": one.snapshots,
    });
    with_holding(document, &one.holding)
}

fn host_document(one: &HostHolding) -> Value {
    let document = json!({"host": one.name, "snapshots": one.snapshots});
    with_holding(document, &one.holding)
}

fn growth_document(growth: &Growth, found: &VaultHoldings) -> Value {
    let full = found.room.and_then(|room| growth.full_at(room.free));
    json!({
        "from": growth.from.to_string(),
        "to": growth.to.to_string(),
        "segments": growth.segments,
        "later_fulls": growth.later_fulls,
        "weekly_bytes": growth.weekly,
        "full_at": full.map(|time| time.to_string()),
    })
}
