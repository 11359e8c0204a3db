//! What drills say of the disks of a host, as `status` shows it: the newest one of each kind, and
//! those of each disk's last good snapshot. One that has failed, and one that cannot be read, must
//! be looked at.

use super::drill::{says_document, says_words};
use crate::engine::DiskDrills;
use crate::format::DrillKind;
use crate::model::SnapshotId;
use crate::model::printable::one_line;
use crate::store::NewestDrill;
use serde_json::{Value, json};

/// What a vault has of drills of one disk.
pub struct VaultDrills {
    /// The vault.
    pub vault: String,
    /// Its last good snapshot there.
    pub copy: SnapshotId,
    /// What they say.
    pub drills: DiskDrills,
}

/// A drill that is shown.
struct ShownDrill<'a> {
    kind: DrillKind,
    says: &'a NewestDrill,
    /// Whether it is the newest of its kind of any snapshot of the disk; else it is that of the
    /// last good one alone.
    is_newest: bool,
}

impl VaultDrills {
    /// The newest of each kind; then those of the last good snapshot, where they are others.
    fn shown(&self) -> Vec<ShownDrill<'_>> {
        let DiskDrills { newest, of_copy } = &self.drills;
        let shown = |kind, says, is_newest| ShownDrill {
            kind,
            says,
            is_newest,
        };
        let mut all = Vec::new();
        for (kind, newest, own) in [
            (DrillKind::Opened, &newest.opened, &of_copy.opened),
            (DrillKind::Booted, &newest.booted, &of_copy.booted),
        ] {
            all.extend(newest.iter().map(|says| shown(kind, says, true)));
            let own = own.as_ref().filter(|own| Some(*own) != newest.as_ref());
            all.extend(own.map(|says| shown(kind, says, false)));
        }
        all
    }

    /// For programs.
    pub(super) fn documents(&self) -> Vec<Value> {
        let shown = self.shown().into_iter();
        let documents = shown.map(|one| {
            let snapshot = snapshot(one.says);
            let mut json = says_document(one.says);
            json["vault"] = json!(self.vault);
            json["kind"] = match one.kind {
                DrillKind::Booted => "booted".into(),
                _ => "opened".into(),
            };
            json["newest"] = json!(one.is_newest);
            json["snapshot"] = json!(snapshot.map(|id| id.to_string()));
            json["of_last_good"] = json!(snapshot.map(|id| id == self.copy));
            json
        });
        documents.collect()
    }

    /// For people: a line for each.
    pub(super) fn lines(&self, disk: &str) -> Vec<String> {
        let mut lines: Vec<String> = self
            .shown()
            .iter()
            .map(|one| {
                let of = of_snapshot(one.says);
                let vault = one_line(&self.vault);
                format!(
                    "drilled: {disk}: {} ({of}vault {vault})",
                    says_words(one.says)
                )
            })
            .collect();
        // One that cannot be read stands for both kinds.
        lines.dedup();
        lines
    }

    /// What must be looked at.
    pub(super) fn problems(&self, disk: &str) -> Vec<String> {
        let shown = self.shown();
        let bad = shown.iter().filter_map(|one| {
            let of = of_snapshot(one.says);
            let vault = &self.vault;
            match one.says {
                NewestDrill::Unknown(why) => Some(format!(
                    "{disk}: what its newest drill has found is NOT KNOWN: {why} (vault {vault}); \
                     the next drill of each kind is believed again: `stillpoint drill {}`",
                    self.copy
                )),
                NewestDrill::Says(record) => {
                    let step = record.failed()?;
                    Some(format!(
                        "{disk}: the newest drill {}FAILED at: {}; on {:.0}, as {} says ({of}vault \
                         {vault})",
                        match (one.is_newest, one.kind) {
                            (true, DrillKind::Booted) => "that boots ",
                            (true, _) => "of its filesystems ",
                            (false, DrillKind::Booted) => "of its last snapshot that boots ",
                            (false, _) => "of its last snapshot's filesystems ",
                        },
                        step.what,
                        record.time,
                        record.by,
                    ))
                }
            }
        });
        let mut bad: Vec<String> = bad.collect();
        bad.dedup();
        bad
    }
}

/// Which snapshot it was of, where that is known.
fn snapshot(says: &NewestDrill) -> Option<SnapshotId> {
    match says {
        NewestDrill::Says(record) => Some(record.snapshot),
        NewestDrill::Unknown(_) => None,
    }
}

fn of_snapshot(says: &NewestDrill) -> String {
    snapshot(says).map_or_else(String::new, |id| format!("snapshot {id}, "))
}
