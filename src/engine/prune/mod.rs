//! `prune`: which snapshots go by the rules of a retention, and their end. First a plan, which is a
//! value: every snapshot that was judged, and why it stays. Then the deed, which deletes just the
//! manifests of those of which nothing says that they stay.
//!
//! It must never delete what it could not read, nor what somebody keeps, nor the last good copy of
//! a disk without being told twice. Killed anywhere it leaves what stays as it was: what stays does
//! not depend on what goes. No live run minds: what it builds upon stays until it has ended.

mod judge;
mod known_copies;
mod last_good;
mod policy;
#[cfg(test)]
mod tests;
mod twins;

pub use judge::plan_prune;
pub use last_good::{DiskCopy, Goodness, last_good};
pub use policy::{
    ByTime, Candidate, DiskGroup, RetentionRule, RetentionRules, RuleHit, kept_by_rules,
};

use super::monitor::{Event, Monitor};
use super::run_phase::RunPhase;
use crate::error::{Error, Result};
use crate::model::SnapshotId;
use crate::store::{Keeps, KeptBy, SnapshotRef, Vault};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// So many are deleted between two looks at what somebody keeps.
const AT_ONCE: usize = 256;
/// Most snapshots, gone before, whose keeps are cleared away by one prune.
const MOST_ORPHANS: usize = 256;

/// What to judge, and by which rules.
#[derive(Clone, Debug)]
pub struct RetentionOptions {
    /// The rules; at least one.
    pub rules: RetentionRules,
    /// Only snapshots of this host.
    pub host: Option<String>,
    /// Only snapshots with this disk: its name or serial number.
    pub disk: Option<String>,
    /// Only snapshots with all of these labels.
    pub tags: BTreeMap<String, String>,
    /// The last good copy of a disk may go, too.
    pub take_last_good: bool,
    /// The time by which keeps end.
    pub now: Timestamp,
}

/// A snapshot, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Which one.
    pub snapshot: SnapshotRef,
    /// Its host's name.
    pub host: String,
    /// The instant of its cut, as it says.
    pub cut: Timestamp,
    /// When the store got its manifest, by the store's clock; of one that was given another name,
    /// the first one, as its manifest says.
    pub received: Timestamp,
    /// The names of its disks.
    pub disks: Vec<String>,
    /// Why it stays; nothing: it goes.
    pub stays: Vec<StayReason>,
}

impl Judged {
    /// Whether nothing says that it stays.
    pub fn goes(&self) -> bool {
        self.stays.is_empty()
    }
}

/// Why a snapshot stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StayReason {
    /// A rule keeps it.
    Rule {
        /// Which one.
        rule: RetentionRule,
        /// By which of its times.
        by: ByTime,
        /// For which of its disks, by name.
        disks: Vec<String>,
    },
    /// Somebody keeps it.
    Kept(KeptBy),
    /// The bucket keeps its manifest until then.
    Locked(Timestamp),
    /// Without it no good copy of these disks would be left, or none of theirs is known to be good.
    LastGood(Vec<String>),
    /// It is the last good copy of these disks at the level that was asked: hooks failed for what
    /// stays of them by the rules.
    LastAsAsked(Vec<String>),
    /// The store got it after now, by its clock: one of the clocks is wrong, or was. No rule judges
    /// it, and it takes no other one's place.
    FromLater,
    /// It is the same snapshot as this one, which stays, under another name.
    SameAs(SnapshotId),
}

/// A snapshot that could not be judged.
#[derive(Debug)]
pub struct Unjudged {
    /// Which one.
    pub snapshot: SnapshotId,
    /// Why; it stays.
    pub why: Error,
}

/// What a prune would do.
#[derive(Debug, Default)]
pub struct PrunePlan {
    /// What was judged, newest first.
    pub judged: Vec<Judged>,
    /// What could not be.
    pub unread: Vec<Unjudged>,
    /// How many others there are, which were not asked for.
    pub others: usize,
    /// What else the user should know.
    pub warnings: Vec<String>,
    /// Keeps that keep nothing any more once what goes is gone.
    ended: Keeps,
    /// Keeps of snapshots that were not listed.
    strange: Keeps,
    /// By the names of those that have others: these, each of which what keeps it keeps.
    names: HashMap<SnapshotId, Vec<SnapshotId>>,
}

impl PrunePlan {
    /// Those that go, oldest first.
    pub fn going(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().rev().filter(|one| one.goes())
    }

    /// The names of a snapshot, and of those that are the same one.
    fn names_of(&self, id: SnapshotId) -> impl Iterator<Item = SnapshotId> + '_ {
        let others = self.names.get(&id).into_iter().flatten().copied();
        [id].into_iter().chain(others)
    }
}

/// Deletes what goes by the plan. What somebody has kept since stays, and from now on in the plan.
/// Returns what the user should know besides.
///
/// # Errors
/// Not all could be deleted; the error tells how many are gone. The same again goes on.
pub fn carry_out_prune(
    vault: &Vault,
    plan: &mut PrunePlan,
    monitor: &dyn Monitor,
) -> Result<Vec<String>> {
    let going: Vec<SnapshotRef> = plan.going().map(|one| one.snapshot.clone()).collect();
    if !going.is_empty() {
        monitor.tell(Event::Phase(RunPhase::Deleting(going.len())));
    }
    let (mut deleted, mut kept) = (0, BTreeMap::new());
    for some in going.chunks(AT_ONCE) {
        let free = still_free(vault, some, plan, &mut kept, monitor);
        let all = free.and_then(|free| vault.delete_all(&free, monitor, &mut |_| deleted += 1));
        all.map_err(|error| {
            error.and_said(format!(
                "{deleted} of {} that go were deleted, and nothing else",
                going.len()
            ))
        })?;
    }
    let ended = std::mem::take(&mut plan.ended);
    let names = kept.keys().flat_map(|id| plan.names_of(*id));
    let names: HashSet<SnapshotId> = names.collect();
    let ended = ended.split(&|id| !names.contains(&id)).wanted;
    for judged in &mut plan.judged {
        if judged.goes() {
            let by = kept.get(&judged.snapshot.id).cloned();
            judged.stays.extend(by.map(StayReason::Kept));
        }
    }
    let strange = std::mem::take(&mut plan.strange);
    let cleared = vault.delete_keeps(&ended, monitor).and_then(|()| {
        let gone = vault.orphaned(strange, MOST_ORPHANS, monitor)?;
        vault.delete_keeps(&gone, monitor)
    });
    let warn = |error: Error| {
        format!("keeps of deleted snapshots could not be cleared away, and do no harm: {error}")
    };
    Ok(cleared.err().map(warn).into_iter().collect())
}

/// Those of these that nobody has kept since the plan was made; `kept` gets what keeps the others.
fn still_free(
    vault: &Vault,
    some: &[SnapshotRef],
    plan: &PrunePlan,
    kept: &mut BTreeMap<SnapshotId, KeptBy>,
    monitor: &dyn Monitor,
) -> Result<Vec<SnapshotRef>> {
    let ids: HashSet<SnapshotId> = some.iter().flat_map(|one| plan.names_of(one.id)).collect();
    let now = vault.list_keeps(&|id| ids.contains(&id))?;
    let is_kept = |one: &SnapshotRef| {
        let mut names = plan.names_of(one.id);
        names.any(|name| now.has_more(&plan.ended, name))
    };
    let (stay, free): (Vec<_>, Vec<_>) = some.iter().cloned().partition(is_kept);
    let names = stay.iter().flat_map(|one| plan.names_of(one.id));
    let names: HashSet<SnapshotId> = names.collect();
    let now = now.split(&|id| names.contains(&id)).wanted;
    let by = vault.read_keeps(&now, monitor)?;
    for one in &stay {
        let of_it = kept.entry(one.id).or_default();
        let by = plan.names_of(one.id).filter_map(|name| by.get(&name));
        by.for_each(|by| of_it.add(by.clone()));
    }
    Ok(free)
}
