//! A store far away, by a clock of its own that goes on in leaps: what was put or deleted comes
//! into listings late, each name by itself. Around each operation others may do what they do. It
//! watches that nothing is deleted that a reported snapshot needs.

use super::peek;
use crate::support::model::Chance;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;
use stillpoint::model::SnapshotId;
use stillpoint::store::{Blob, Capabilities, ObjectInfo, ObjectName, ObjectStore, SessionPace};
use stillpoint::{Error, ErrorKind, Result};

/// How late a listing may be.
pub const LATE: SignedDuration = SignedDuration::from_mins(14);

/// What of the rules is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// Writers do not look what is condemned.
    NoHeed,
    /// Writers commit though they were taken for dead.
    NoAsk,
    /// Collectors see manifests as they were when they planned.
    OldManifests,
    /// Collectors see no writer's session, and writers do not see that none has waited for them.
    NoSessions,
    /// Collectors do not wait for listings.
    NoWait,
    /// Writers that fail take back what others may have found.
    TakesBack,
    /// The same of those alone that were told that nobody looks for what others have put.
    TakesBackUnshared,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Writer(u32),
    Collector(u32),
    Pruner,
    Deleter,
}

pub struct Kept {
    pub blob: Blob,
    put: Timestamp,
    /// When listings begin to show it.
    shown: Timestamp,
    /// When it was deleted, and until when listings show it.
    pub gone: Option<Timestamp>,
}

/// The state of all.
pub struct State {
    pub now: Timestamp,
    objects: BTreeMap<ObjectName, Kept>,
    pub random: Chance,
    /// Who answers no more.
    pub dead: BTreeSet<Who>,
    /// By the sessions of writers that are awake: they beat.
    pub awake: BTreeSet<SnapshotId>,
    /// From when on listings show beats of those since they are awake.
    woke: BTreeMap<SnapshotId, Timestamp>,
    /// By manifest: what a reported snapshot needs.
    pub reported: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    /// What a prune was to take.
    pub pruned: BTreeSet<ObjectName>,
    /// The runs of writers.
    pub runs: BTreeMap<Who, SnapshotId>,
    /// What went wrong.
    pub lost: Option<String>,
    pub told: Vec<String>,
    depth: u32,
}

type Turn = Box<dyn Fn() + Send + Sync>;

/// The store, and whoever may step in between.
pub struct World {
    state: Mutex<State>,
    turn: Mutex<Option<Arc<Turn>>>,
    thread: ThreadId,
    pub broken: Broken,
}

impl World {
    pub fn new(seed: u64, broken: Broken) -> Arc<Self> {
        let state = State {
            now: Timestamp::now(),
            objects: BTreeMap::new(),
            random: Chance(seed),
            dead: BTreeSet::new(),
            awake: BTreeSet::new(),
            woke: BTreeMap::new(),
            reported: BTreeMap::new(),
            pruned: BTreeSet::new(),
            runs: BTreeMap::new(),
            lost: None,
            told: Vec::new(),
            depth: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            turn: Mutex::new(None),
            thread: std::thread::current().id(),
            broken,
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others do around an operation.
    pub fn set_turn(&self, turn: Option<Turn>) {
        *self.turn.lock().unwrap() = turn.map(Arc::new);
    }

    pub fn others_are_at_work(&self) -> bool {
        self.turn.lock().unwrap().is_some()
    }

    pub fn below(&self, end: u64) -> u64 {
        self.state().random.below(end)
    }

    pub fn tell(&self, what: &str) {
        let mut state = self.state();
        let now = state.now;
        state.told.push(format!("{now}: {what}"));
    }

    /// Lets time pass; who is awake is heard of.
    pub fn pass(&self, time: SignedDuration) {
        let mut state = self.state();
        state.now += time;
        let (now, awake) = (state.now, state.awake.clone());
        state.woke.retain(|run, _| awake.contains(run));
        for run in &awake {
            let late = state.random.below(LATE.as_secs() as u64) as i64;
            let shown = now - time + SignedDuration::from_secs(late);
            state.woke.entry(*run).or_insert(shown);
        }
        let woke = state.woke.clone();
        let is_shown = |kept: &Kept| kept.gone.is_none_or(|gone| gone > now);
        state.objects.retain(|_, kept| is_shown(kept));
        for (name, kept) in &mut state.objects {
            let run = name.as_str().strip_prefix("sessions/");
            let run: Option<SnapshotId> = run.and_then(|run| run.get(..26)?.parse().ok());
            let is_heard = |run| woke.get(&run).is_some_and(|shown| *shown <= now);
            if kept.gone.is_none() && run.is_some_and(is_heard) {
                // Twenty beats are kept: listings show one, but for the first minutes of a run
                // that goes on after it slept.
                kept.put = now;
            }
        }
    }

    /// A snapshot was made, and is reported. It may have another name by now.
    pub fn report(self: &Arc<Self>, name: &ObjectName, needs: BTreeSet<ObjectName>) {
        if self.state().pruned.contains(name) {
            return;
        }
        let is_there = self.names("").contains(name);
        self.state().reported.insert(name.clone(), needs);
        if !is_there {
            self.renamed(name);
        }
    }

    /// This name of a snapshot is deleted, and not the snapshot: there must be another one under
    /// which just the same is there.
    fn renamed(&self, name: &ObjectName) {
        let Some(needs) = self.state().reported.remove(name) else {
            return;
        };
        let vault = peek::vault(&self.state().objects);
        let old = peek::shown(&vault, name);
        let is_good = |other: &peek::Shown| {
            let same = old.as_ref().is_none_or(|old| old.chunks == other.chunks);
            let there = self.names("");
            same && other.needs.iter().all(|name| there.contains(name))
        };
        let akin = self.names("snapshots/");
        let mut akin = akin.into_iter().filter(|other| peek::are_akin(name, other));
        let found = akin.find_map(|other| {
            let shown = peek::shown(&vault, &other).filter(is_good)?;
            Some((other, shown.needs))
        });
        self.tell(&format!("{name} is {found:?} now"));
        let mut state = self.state();
        match found {
            Some((other, needs)) => drop(state.reported.insert(other, needs)),
            None => {
                let what = format!("{name} went, which nothing else shows; it needs {needs:?}");
                state.lost.get_or_insert(what);
            }
        }
    }

    /// The view of one of them.
    pub fn of(self: &Arc<Self>, who: Who) -> Arc<dyn ObjectStore> {
        Arc::new(View {
            world: Arc::clone(self),
            who,
        })
    }

    /// What is there, whatever listings say.
    pub fn names(&self, folder: &str) -> BTreeSet<ObjectName> {
        let state = self.state();
        let all = state.objects.iter().filter(|(_, kept)| kept.gone.is_none());
        let all = all.map(|(name, _)| name.clone());
        all.filter(|name| name.as_str().starts_with(folder))
            .collect()
    }

    fn others(&self, who: Who) {
        if std::thread::current().id() != self.thread {
            return;
        }
        let mut state = self.state();
        let run = state.runs.get(&who).copied();
        let is_paused = state.depth < 2 && state.random.below(120) == 0;
        if is_paused && matches!(who, Who::Collector(_)) {
            state.depth += 1;
            drop(state);
            let turn = self.turn.lock().unwrap().clone();
            for _ in 0..12 {
                turn.iter().for_each(|turn| turn());
            }
            self.state().depth -= 1;
            return;
        }
        if let Some(run) = run.filter(|run| is_paused && state.awake.contains(run)) {
            // Its machine stands still, in the middle of what it does.
            state.awake.remove(&run);
            state.depth += 1;
            drop(state);
            let turn = self.turn.lock().unwrap().clone();
            for _ in 0..12 {
                turn.iter().for_each(|turn| turn());
            }
            let mut state = self.state();
            state.depth -= 1;
            if !state.dead.contains(&who) {
                state.awake.insert(run);
            }
            return;
        }
        let seldom = [4, 15, 60, u64::MAX][state.depth.min(3) as usize];
        if state.random.below(seldom) > 0 {
            return;
        }
        state.depth += 1;
        drop(state);
        let turn = self.turn.lock().unwrap().clone();
        if let Some(turn) = turn {
            turn();
        }
        self.state().depth -= 1;
    }
}

struct View {
    world: Arc<World>,
    who: Who,
}

impl View {
    fn enter(&self) -> Result<MutexGuard<'_, State>> {
        self.world.others(self.who);
        let state = self.world.state();
        match state.dead.contains(&self.who) {
            true => Err(Error::new(ErrorKind::Io, "it was killed")),
            false => Ok(state),
        }
    }

    fn is_collector(&self) -> bool {
        matches!(self.who, Who::Collector(_))
    }

    fn find(&self, name: &ObjectName) -> Result<Blob> {
        let state = self.enter()?;
        let session = name.as_str().starts_with("sessions/");
        if self.world.broken == Broken::NoAsk && session && !self.is_collector() {
            return Ok(Blob::from_static(b"x"));
        }
        let kept = state.objects.get(name).filter(|kept| kept.gone.is_none());
        let missing = || Error::new(ErrorKind::NotFound, format!("{name} is not in the vault"));
        kept.map(|kept| kept.blob.clone()).ok_or_else(missing)
    }
}

impl ObjectStore for View {
    fn location(&self) -> String {
        "model".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            puts: 1,
            gets: 1,
            confirms: true,
        }
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let mut state = self.enter()?;
        let mut late = state.random.below(LATE.as_secs() as u64);
        if self.world.broken == Broken::NoWait && name.as_str().starts_with("snapshots/") {
            // As late as may be: who does not wait sees none of the last.
            late = LATE.as_secs() as u64;
        }
        let now = state.now;
        let kept = Kept {
            blob: bytes,
            put: now,
            shown: now + SignedDuration::from_secs(late as i64),
            gone: None,
        };
        let before = state.objects.insert(name.clone(), kept);
        let twice = before.is_some_and(|before| before.gone.is_none());
        assert!(!twice, "{name} is used twice");
        Ok(())
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        assert_eq!(*name, ObjectName::vault_info(), "nothing else is put over");
        let mut state = self.enter()?;
        let kept = state.objects.get_mut(name);
        kept.expect("the vault is there").blob = bytes;
        Ok(())
    }

    fn get(&self, name: &ObjectName, _: u64) -> Result<Blob> {
        self.find(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let blob = self.find(name)?;
        Ok(blob.slice(offset as usize..(offset + length) as usize))
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        let blob = self.find(name)?;
        let start = blob.len().saturating_sub(length as usize);
        Ok((blob.slice(start..), blob.len() as u64))
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        let state = self.enter()?;
        let now = state.now;
        let broken = self.world.broken;
        let mut shown = Vec::new();
        for (name, kept) in state
            .objects
            .iter()
            .filter(|(name, _)| name.is_below(prefix))
        {
            let modified = kept.put;
            let folder = name.components().next().unwrap_or_default();
            if now < kept.shown || kept.gone.is_some_and(|gone| gone <= now) {
                continue;
            }
            if self.is_collector() {
                let record = String::from_utf8_lossy(&kept.blob).contains("\"gc\"");
                match (broken, folder) {
                    (Broken::NoSessions, "sessions") if !record => continue,
                    (Broken::OldManifests, "snapshots")
                        if modified > now - SignedDuration::from_hours(24) =>
                    {
                        continue;
                    }
                    _ => {}
                }
            }
            let number = name
                .as_str()
                .rsplit('-')
                .next()
                .and_then(|end| end.parse().ok());
            let lists_runs = folder == "condemned" && number.is_some_and(|number: u32| number > 63);
            if broken == Broken::NoSessions && !self.is_collector() && lists_runs {
                continue;
            }
            shown.push(ObjectInfo {
                name: name.clone(),
                size: kept.blob.len() as u64,
                modified,
            });
        }
        drop(state);
        shown.into_iter().try_for_each(each)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        drop(self.enter()?);
        let may_rename = self.is_collector() || self.who == Who::Pruner;
        if may_rename && name.as_str().starts_with("snapshots/") {
            self.world.renamed(name);
        }
        let mut state = self.world.state();
        let late = state.random.below(LATE.as_secs() as u64);
        let (now, who) = (state.now, self.who);
        if let Some(kept) = state
            .objects
            .get_mut(name)
            .filter(|kept| kept.gone.is_none())
        {
            kept.gone = Some(now + SignedDuration::from_secs(late as i64));
            state.told.push(format!("{now}: {who:?} deletes {name}"));
        }
        let needing = state
            .reported
            .iter()
            .find(|(_, needs)| needs.contains(name));
        if let Some((snapshot, _)) = needing {
            let what = format!("{who:?} deleted {name}, which {snapshot} needs");
            state.lost.get_or_insert(what);
        }
        Ok(())
    }
}

/// The pace of sessions here: they beat as the world goes on, and nobody waits for an answer.
pub fn pace() -> SessionPace {
    SessionPace {
        again: Duration::ZERO,
        ..SessionPace::default()
    }
}
