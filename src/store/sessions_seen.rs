//! Whose sessions are there, as a collector sees them. One that may be a live run's is never
//! deleted; one that is over goes with all its beats before anything else does.

use super::ask::ask_of_each;
use super::object_name::ObjectName;
use super::object_store::ObjectInfo;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::{ObjectKind, SessionRecord};
use crate::model::{Cancel, SnapshotId};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

/// A session is over when its newest beat is this old by the store's clock.
const LEASE: SignedDuration = SignedDuration::from_hours(24);
/// The time between two beats.
const BEAT: SignedDuration = SignedDuration::from_mins(1);

/// A run that is at work, or may be.
#[derive(Clone, Debug)]
pub struct LiveRun {
    /// Its name.
    pub run: SnapshotId,
    /// What it says of itself; `None`: that cannot be read.
    pub record: Option<SessionRecord>,
    /// When it was last heard of, by the store's clock.
    pub heard: Timestamp,
    /// The number of its newest beat.
    beat: u32,
}

/// For people.
impl fmt::Display for LiveRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = self.heard.strftime("%Y-%m-%d %H:%M:%S UTC");
        let Self { run, record, .. } = self;
        match record {
            Some(record) => write!(
                f,
                "{} on {} ({run}), heard of at {heard}",
                record.command, record.host
            ),
            None => write!(f, "a run that cannot be read ({run}), heard of at {heard}"),
        }
    }
}

impl LiveRun {
    /// About when it began, by the store's clock. What its host's clock says it has lasted may be
    /// wrong: nothing but comfort may rest on this.
    pub fn began(&self) -> Timestamp {
        let by_beats = BEAT * i32::try_from(self.beat).unwrap_or(i32::MAX);
        let by_record = self
            .record
            .as_ref()
            .map(|record| record.heartbeat.duration_since(record.started));
        let lasted = by_record.unwrap_or_default().max(by_beats);
        self.heard.checked_sub(lasted).unwrap_or(Timestamp::MIN)
    }
}

/// The sessions of a vault.
pub struct SessionsSeen {
    /// By the store's clock and the asker's own beat; the time now is not before it, and minutes
    /// after it at most. `None`: its session was not listed.
    pub now: Option<Timestamp>,
    /// The runs other than the asker's.
    pub live: Vec<LiveRun>,
}

impl Vault {
    /// The sessions that are there, but for that of `own`.
    pub fn sessions_seen(&self, own: SnapshotId, cancel: &dyn Cancel) -> Result<SessionsSeen> {
        self.sessions(Some(own), cancel)
    }

    /// The same for who has none and changes nothing.
    pub fn sessions_looked_at(&self, cancel: &dyn Cancel) -> Result<SessionsSeen> {
        self.sessions(None, cancel)
    }

    /// Ends the sessions of runs that were not heard of for a lease. The asker is `own`. Returns
    /// whether its session was listed: where it was not, the time now is not known.
    pub fn end_silent_sessions(&self, own: SnapshotId, cancel: &dyn Cancel) -> Result<bool> {
        let listed = self.store.list_all(&ObjectName::sessions())?;
        let runs = by_run(&listed);
        // What others' beats say may be false: who puts into a directory sets their times.
        let beats = runs.get(&own).into_iter().flat_map(BTreeMap::values);
        let Some(now) = beats.map(|object| object.modified).max() else {
            return Ok(false);
        };
        for (run, beats) in runs {
            let heard = beats.values().map(|object| object.modified).max();
            let is_silent = heard.is_none_or(|heard| now.duration_since(heard) > LEASE);
            if run == own || !is_silent {
                continue;
            }
            cancel.check()?;
            let Some(newest) = beats.values().next_back() else {
                continue;
            };
            // Where there are locks, one that is held is a live process's.
            let lock = match self.store.lock(&newest.name) {
                Ok(lock) => lock,
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(_) => continue,
            };
            let names: Vec<&ObjectName> = beats.values().map(|object| &object.name).collect();
            let delete = |name: &&ObjectName| self.store.delete(name);
            ask_of_each(self.store.as_ref(), &names, cancel, delete, |_, deleted| {
                deleted
            })?;
            drop(lock);
        }
        Ok(true)
    }

    fn sessions(&self, own: Option<SnapshotId>, cancel: &dyn Cancel) -> Result<SessionsSeen> {
        let mut listed = self.store.list_all(&ObjectName::sessions())?;
        if !self.is_far() {
            // A beat that takes the place of another while a directory is read may show neither.
            listed.extend(self.store.list_all(&ObjectName::sessions())?);
        }
        let runs = by_run(&listed);
        let beats = runs
            .iter()
            .filter(|(run, _)| own.is_none_or(|own| own == **run))
            .flat_map(|(_, beats)| beats.values());
        let now = beats.map(|object| object.modified).max();
        let mut newest = Vec::new();
        for (run, beats) in runs {
            let last = beats.last_key_value();
            if let Some((number, object)) = last.filter(|_| Some(run) != own) {
                newest.push((run, *number, *object));
            }
        }
        let most = ObjectKind::Session.most_stored();
        let get = |(_, _, object): &(SnapshotId, u32, &ObjectInfo)| {
            let bytes = self.store.get(&object.name, most)?;
            SessionRecord::decode(&bytes, self.sealer())
        };
        let mut live = Vec::new();
        ask_of_each(
            self.store.as_ref(),
            &newest,
            cancel,
            get,
            |(run, beat, object), record| {
                live.push(LiveRun {
                    run: *run,
                    // One that cannot be read may be anybody's; one that is gone has ended, or
                    // beats on.
                    record: record.ok(),
                    heard: object.modified,
                    beat: *beat,
                });
                Ok(())
            },
        )?;
        Ok(SessionsSeen { now, live })
    }
}

/// The beats of each run, by their numbers.
fn by_run(listed: &[ObjectInfo]) -> BTreeMap<SnapshotId, BTreeMap<u32, &ObjectInfo>> {
    let mut runs: BTreeMap<SnapshotId, BTreeMap<u32, &ObjectInfo>> = BTreeMap::new();
    for object in listed {
        let Some((run, beat)) = object.name.run_and_number() else {
            continue;
        };
        if ObjectName::session(run, beat) == object.name {
            runs.entry(run).or_default().insert(beat, object);
        }
    }
    runs
}
