//! What keeps a snapshot from being deleted: what `keep` reports, and its part of a snapshot's
//! document.

use super::Report;
use crate::model::SnapshotId;
use crate::model::printable::one_line;
use crate::store::KeptBy;
use serde_json::{Value, json};

/// What `keep` has done.
pub struct KeepReport<'a> {
    /// With which snapshot.
    pub snapshot: SnapshotId,
    /// Which hold was released, if one was.
    pub released: Option<&'a str>,
    /// What keeps it now; `None`: nothing does.
    pub kept: Option<&'a KeptBy>,
}

/// What `keep` reports.
pub fn report(done: &KeepReport<'_>) -> Report {
    let id = done.snapshot;
    let json = json!({
        "snapshot": id.to_string(),
        "released": done.released,
        "kept": kept_document(done.kept),
    });
    let is_kept = match done.kept {
        Some(kept) => format!("snapshot {id} is kept {kept}"),
        None => format!("nothing keeps snapshot {id}: delete and prune may take it"),
    };
    let text = match done.released {
        Some(hold) => format!("released the hold {:?}; {is_kept}", one_line(hold)),
        None => is_kept,
    };
    Report::done(json, text)
}

/// What keeps a snapshot, for programs; `None`: nothing does.
pub(super) fn kept_document(kept: Option<&KeptBy>) -> Value {
    let document = |kept: &KeptBy| {
        json!({
            "until": kept.until.map(|until| format!("{until:.0}")),
            "holds": kept.holds,
            "unreadable": kept.unreadable,
        })
    };
    kept.map_or(Value::Null, document)
}
