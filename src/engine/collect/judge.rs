//! What may become of a plan now, by what was seen: pure. It must never call a plan ripe while a
//! run may be at work that does not know of it.

use crate::error::{Error, ErrorKind, Result};
use crate::model::SnapshotId;
use crate::store::{LiveRun, Plan};
use jiff::{SignedDuration, Timestamp};

/// The least grace: what listings may be late by must be over long before it ends.
pub const LEAST_GRACE: SignedDuration = SignedDuration::from_hours(1);
/// How a collector calls itself in its session. It refers to nothing, so nobody waits for it.
pub(super) const COLLECTOR: &str = "gc";

/// What may become of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It can never be carried out, and is taken away. Why, as text.
    Void(String),
    /// It cannot be read here, but elsewhere it can. Why, as text.
    Unreadable(String),
    /// It may not be carried out before.
    Young(Timestamp),
    /// These runs have to end first. `new`: that is to be noted yet.
    Awaits { runs: Vec<SnapshotId>, new: bool },
    /// It may be carried out. `new`: that it is is to be noted yet.
    Ripe { new: bool },
}

/// What was seen.
pub(super) struct Sighting<'a> {
    /// The time now is not before it, by the store's clock; `None`: nobody knows.
    pub(super) now: Option<Timestamp>,
    /// All runs that may be at work.
    pub(super) live: &'a [LiveRun],
    /// How long a plan has to stand.
    pub(super) grace: SignedDuration,
}

/// An error where a plan would stand for too short a time.
pub(super) fn refuse_short(grace: SignedDuration) -> Result<()> {
    match grace >= LEAST_GRACE {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Usage,
            "a grace of less than an hour is too short: runs must have had time to see the plan",
        )),
    }
}

/// Whether a run is another collector's.
pub(super) fn is_collector(run: &LiveRun) -> bool {
    run.record
        .as_ref()
        .is_some_and(|record| record.command == COLLECTOR)
}

impl Sighting<'_> {
    pub(super) fn judge(&self, plan: &Plan) -> Fate {
        if let Some(error) = &plan.unreadable {
            return match error.kind() {
                ErrorKind::Format => Fate::Unreadable(error.to_string()),
                _ => Fate::Void(error.to_string()),
            };
        }
        let until = plan.put.checked_add(self.grace).unwrap_or(Timestamp::MAX);
        if self.now.is_none_or(|now| now < until) {
            return Fate::Young(until);
        }
        if !plan.is_whole {
            return Fate::Void("it was never finished".into());
        }
        let writers = || self.live.iter().filter(|run| !is_collector(run));
        let ids = |runs: &mut dyn Iterator<Item = &LiveRun>| runs.map(|one| one.run).collect();
        // A run that has begun since the grace has ended knows of the plan.
        let left = plan.awaited.values().map(|awaited| {
            let mut left = writers().filter(|one| awaited.contains(&one.run));
            ids(&mut left)
        });
        let left: Option<Vec<SnapshotId>> = left.min_by_key(Vec::len);
        let (runs, new) = match left {
            Some(left) => (left, false),
            None => (ids(&mut writers()), true),
        };
        match runs.is_empty() {
            true => Fate::Ripe { new },
            false => Fate::Awaits { runs, new },
        }
    }

    /// What was put at this time or later is left alone: it may be of a run that is at work, or of
    /// one that was cut off and that the next one goes on from.
    pub(super) fn left_alone_from(&self) -> Timestamp {
        const MARGIN: SignedDuration = SignedDuration::from_hours(1);
        let Some(now) = self.now else {
            return Timestamp::MIN;
        };
        let writers = self.live.iter().filter(|run| !is_collector(run));
        let before = writers.map(|run| run.began().checked_sub(MARGIN));
        let old = now.checked_sub(self.grace.max(MARGIN));
        let all = before
            .chain([old])
            .map(|time| time.unwrap_or(Timestamp::MIN));
        all.min().unwrap_or(Timestamp::MIN)
    }
}
