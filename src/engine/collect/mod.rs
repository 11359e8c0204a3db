//! `gc`: deletes what no snapshot needs, while others write, in two steps that are at least a grace
//! apart. First a plan names what nothing needs. A later collection, when every run has ended that
//! may not know of the plan, looks again what snapshots need, and deletes the rest of what the plan
//! names. It must never delete what no such plan names, nor anything while it is not known what
//! some snapshot needs.

mod judge;
mod outcome;

pub use outcome::{Amount, CollectReport, EarlierPlan, NewPlan, PlanOutcome, Rewriting, Tally};

use super::monitor::{Event, Monitor};
use super::reach::{CopiesName, Reachable, listed_and_not_there};
use super::rewrite::{
    RewritePlan, RewriteReport, RewriteRules, RewriteScope, plan_rewrite, rewrite,
};
use super::run_phase::RunPhase;
use super::session_record::session_record;
use crate::error::Result;
use crate::format::Condemned;
use crate::model::SnapshotId;
use crate::store::{Collectable, LiveRun, Plan, Session, SessionPace, Vault};
use crate::sys::machine::host_name;
use jiff::{SignedDuration, Timestamp};
pub use judge::LEAST_GRACE;
use judge::{COLLECTOR, Fate, Sighting, is_collector, refuse_short};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How late the listings of a place at the other end of a network may be.
const LATE: Duration = Duration::from_secs(15 * 60);
/// How often its own session is looked for in a listing: its time is the time now.
const MOST_LOOKS: u32 = 30;
/// How often it is asked, while waiting, whether to go on.
const TICK: Duration = Duration::from_millis(200);

/// How a collection goes by time.
pub struct CollectPace<'a> {
    /// Its session.
    pub session: SessionPace,
    /// Waits for as long, or until it shall stop.
    pub wait: &'a Wait<'a>,
}

/// Waits for as long.
type Wait<'a> = dyn Fn(Duration) -> Result<()> + 'a;

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct CollectOptions {
    /// How long a plan stands before it is carried out: at least [`LEAST_GRACE`].
    pub grace: SignedDuration,
    /// When segments that are mostly dead are rewritten.
    pub rewrite: RewriteRules,
}

/// Carries out plans that may be, and puts a new one.
///
/// # Errors
/// What some snapshot needs cannot be read: nothing was deleted.
pub fn collect(
    vault: &Arc<Vault>,
    options: CollectOptions,
    monitor: &dyn Monitor,
) -> Result<CollectReport> {
    let wait = |long: Duration| {
        let mut left = long;
        while !left.is_zero() {
            monitor.check()?;
            std::thread::sleep(left.min(TICK));
            left = left.saturating_sub(TICK);
        }
        Ok(())
    };
    let pace = CollectPace {
        session: SessionPace::default(),
        wait: &wait,
    };
    collect_at(&pace, vault, options, monitor)
}

/// The same at another pace.
pub fn collect_at(
    pace: &CollectPace<'_>,
    vault: &Arc<Vault>,
    options: CollectOptions,
    monitor: &dyn Monitor,
) -> Result<CollectReport> {
    refuse_short(options.grace)?;
    let now = Timestamp::now();
    let run = SnapshotId::generate(u64::try_from(now.as_millisecond()).unwrap_or_default());
    // Before plans are read: who withdraws one sees that somebody may be carrying it out.
    let record = session_record(COLLECTOR, &host_name(), now);
    let session = vault.begin_session_at(pace.session.clone(), run, record)?;
    let mut looks = 1;
    while !vault.end_silent_sessions(run, monitor)? && looks < MOST_LOOKS {
        (pace.wait)(LATE / MOST_LOOKS)?;
        looks += 1;
    }
    let mut collection = Collection::begin(vault, options, monitor, Some(run))?;
    collection.note_fates()?;
    if collection.is_any_ripe() && vault.lists_late() {
        monitor.tell(Event::Phase(RunPhase::WaitingForListings));
        (pace.wait)(LATE)?;
    }
    let found = collection.look(Some(pace.wait))?;
    let mut report = collection.report(&found);
    collection.carry_out(&found, &session, run, &mut report)?;
    // First of all: nothing that happens to what is rewritten keeps the rest from being planned.
    if !found.unneeded.is_empty() {
        session.ask()?;
        vault.put_plan(run, &found.unneeded)?;
        let planned = report.planned.as_mut();
        planned
            .into_iter()
            .for_each(|planned| planned.id = Some(run));
    }
    let rewriting = collection.plan_rewrite(&found).and_then(|plan| {
        let Some(plan) = plan else {
            return Ok(None);
        };
        let done = match collection.is_alone() {
            true => rewrite(vault, &plan, pace.session.clone(), monitor)?,
            false => RewriteReport::default(),
        };
        let done = Some(done);
        Ok(Some(Rewriting { plan, done }))
    });
    report.rewriting = rewriting.map_err(|error| {
        error.and_said("what no snapshot needs was collected all the same; no segment is given up")
    })?;
    if report.gave_any_up() && report.at_work.is_empty() {
        let wait = pace.wait;
        report.plans_besides(plan_again(wait, vault, options, &session, monitor))?;
    }
    Ok(report)
}

/// Plans what was given up just now, as another collection would. Not while a run is at work: what
/// it builds on would count as lost for the next one.
fn plan_again(
    wait: &Wait<'_>,
    vault: &Arc<Vault>,
    options: CollectOptions,
    session: &Session,
    monitor: &dyn Monitor,
) -> Result<Option<NewPlan>> {
    if vault.lists_late() {
        monitor.tell(Event::Phase(RunPhase::WaitingForListings));
        wait(LATE)?;
    }
    let again = Collection::begin(vault, options, monitor, Some(session.run()))?;
    if again.live.iter().any(|run| !is_collector(run)) {
        return Ok(None);
    }
    let found = again.look(Some(wait))?;
    let mut planned = found.new_plan();
    if let Some(planned) = &mut planned {
        session.ask()?;
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let id = *planned.id.insert(SnapshotId::generate(now));
        vault.put_plan(id, &found.unneeded)?;
    }
    Ok(planned)
}

/// What [`collect`] would do. Nothing is put or deleted.
pub fn plan_collection(
    vault: &Vault,
    options: CollectOptions,
    monitor: &dyn Monitor,
) -> Result<CollectReport> {
    refuse_short(options.grace)?;
    let collection = Collection::begin(vault, options, monitor, None)?;
    let found = collection.look(None)?;
    let mut report = collection.report(&found);
    let plan = collection.plan_rewrite(&found)?;
    report.rewriting = plan.map(|plan| Rewriting { plan, done: None });
    Ok(report)
}

/// A collection at work.
struct Collection<'a> {
    vault: &'a Vault,
    monitor: &'a dyn Monitor,
    grace: SignedDuration,
    rewrite: RewriteRules,
    now: Option<Timestamp>,
    live: Vec<LiveRun>,
    plans: Vec<(Plan, Fate)>,
}

/// What is in the vault, and what of it nothing needs.
struct Inspected {
    reachable: Reachable,
    needed: Tally,
    left_alone: Tally,
    planned: Tally,
    /// By the places of ripe plans, what is there of what they name, and nothing needs.
    doomed: Vec<Vec<Collectable>>,
    /// By the places of ripe plans, how many objects are needed after all.
    rescued: Vec<usize>,
    /// What no plan names yet.
    unneeded: BTreeSet<Condemned>,
    /// The segments that are needed, where any may be given up.
    in_use: Vec<Collectable>,
}

impl Inspected {
    fn new_plan(&self) -> Option<NewPlan> {
        (!self.unneeded.is_empty()).then_some(NewPlan {
            id: None,
            objects: self.planned,
        })
    }
}

impl<'a> Collection<'a> {
    fn begin(
        vault: &'a Vault,
        options: CollectOptions,
        monitor: &'a dyn Monitor,
        own: Option<SnapshotId>,
    ) -> Result<Self> {
        monitor.tell(Event::Phase(RunPhase::ListingVault));
        let plans = vault.plans()?;
        let sessions = match own {
            Some(own) => vault.sessions_seen(own, monitor)?,
            None => vault.sessions_looked_at(monitor)?,
        };
        let now = match own {
            Some(_) => sessions.now,
            // Nothing rests on what is only told.
            None => Some(Timestamp::now()),
        };
        let seen = Sighting {
            now,
            live: &sessions.live,
            grace: options.grace,
        };
        let judged = plans.into_iter().map(|plan| {
            let fate = seen.judge(&plan);
            (plan, fate)
        });
        Ok(Self {
            vault,
            monitor,
            grace: options.grace,
            rewrite: options.rewrite,
            now,
            plans: judged.collect(),
            live: sessions.live,
        })
    }

    fn seen(&self) -> Sighting<'_> {
        Sighting {
            now: self.now,
            live: &self.live,
            grace: self.grace,
        }
    }

    fn ripe(&self) -> impl Iterator<Item = &Plan> {
        let ripe = self
            .plans
            .iter()
            .filter(|(_, fate)| matches!(fate, Fate::Ripe { .. }));
        ripe.map(|(plan, _)| plan)
    }

    fn is_any_ripe(&self) -> bool {
        self.ripe().next().is_some()
    }

    /// Notes in the vault for whom each plan waits, where that is not noted yet; of those that wait
    /// for nobody, too: a run that was passed over learns of it.
    fn note_fates(&mut self) -> Result<()> {
        for (plan, fate) in &mut self.plans {
            let runs = match fate {
                Fate::Awaits { runs, new: true } => runs.iter().copied().collect(),
                Fate::Ripe { new: true } => BTreeSet::new(),
                _ => continue,
            };
            self.vault.put_awaited(plan, runs)?;
        }
        Ok(())
    }

    /// What snapshots need. That one is gone is believed only when a listing says so, too, that is
    /// not older than the answer; `wait` is `None` where nothing rests on it.
    fn reachable(&self, wait: Option<&Wait<'_>>) -> Result<Reachable> {
        let listed = self.vault.snapshots()?;
        let pause = wait.unwrap_or(&|_| Ok(()));
        let found = Reachable::read(self.vault, listed, self.monitor, pause)?;
        if let (Some(wait), false) = (wait, found.gone().is_empty()) {
            if self.vault.lists_late() {
                self.monitor
                    .tell(Event::Phase(RunPhase::WaitingForListings));
                wait(LATE)?;
            }
            let listed: BTreeSet<SnapshotId> =
                self.vault.snapshots()?.iter().map(|one| one.id).collect();
            let still = found.gone().iter().find(|one| listed.contains(&one.id));
            still.map_or(Ok(()), |one| Err(listed_and_not_there(one.id)))?;
        }
        Ok(found)
    }

    /// Lists objects, and after that reads what snapshots need.
    fn look(&self, wait: Option<&Wait<'_>>) -> Result<Inspected> {
        self.monitor.tell(Event::Phase(RunPhase::ListingVault));
        let mut listed = Vec::new();
        self.vault
            .each_collectable(self.monitor, &mut |one| listed.push(one))?;
        let reachable = self.reachable(wait)?;
        let is_needed = |object: Condemned| match object {
            Condemned::Segment(id) => reachable.has_segment(id),
            Condemned::Index(id) => reachable.has_index(id),
            Condemned::Copies { run, part } => reachable.has_copies(CopiesName { run, part }),
            Condemned::Keep { snapshot, .. } => reachable.has_name(snapshot),
        };
        let mut by_plan: HashMap<Condemned, usize> = HashMap::new();
        for (number, plan) in self.ripe().enumerate() {
            by_plan.extend(plan.objects.iter().map(|object| (*object, number)));
        }
        let count = self.ripe().count();
        let standing = self
            .plans
            .iter()
            .filter(|(_, fate)| !matches!(fate, Fate::Ripe { .. } | Fate::Void(_)));
        let standing: Vec<&Plan> = standing.map(|(plan, _)| plan).collect();
        let from = self.seen().left_alone_from();
        let mut found = Inspected {
            needed: Tally::default(),
            left_alone: Tally::default(),
            planned: Tally::default(),
            doomed: vec![Vec::new(); count],
            rescued: vec![0; count],
            unneeded: BTreeSet::new(),
            in_use: Vec::new(),
            reachable: Reachable::default(),
        };
        for one in listed {
            let Collectable { object, size, put } = one;
            let number = by_plan.get(&object).copied();
            if is_needed(object) {
                found.needed.add(object, size);
                if !self.rewrite.is_never() && matches!(object, Condemned::Segment(_)) {
                    found.in_use.push(one);
                }
                number
                    .into_iter()
                    .for_each(|number| found.rescued[number] += 1);
            } else if let Some(number) = number {
                found.doomed[number].push(one);
            } else if standing.iter().any(|plan| plan.objects.contains(&object)) {
                // It waits there.
            } else if put >= from {
                found.left_alone.add(object, size);
            } else {
                found.planned.add(object, size);
                found.unneeded.insert(object);
            }
        }
        found.reachable = reachable;
        Ok(found)
    }

    fn report(&self, found: &Inspected) -> CollectReport {
        let mut ripe = found.doomed.iter().zip(&found.rescued);
        let earlier = self.plans.iter().map(|(plan, fate)| {
            let outcome = match fate {
                Fate::Void(why) => PlanOutcome::Withdrawn(why.clone()),
                Fate::Unreadable(why) => PlanOutcome::Left(why.clone()),
                Fate::Young(until) => PlanOutcome::TooYoung(*until),
                Fate::Awaits { runs, .. } => {
                    let awaited = self.live.iter().filter(|one| runs.contains(&one.run));
                    PlanOutcome::Awaits(awaited.map(in_words).collect())
                }
                Fate::Ripe { .. } => {
                    let mut deleted = Tally::default();
                    let (doomed, rescued) =
                        ripe.next().map_or((&[][..], 0), |(doomed, rescued)| {
                            (doomed.as_slice(), *rescued)
                        });
                    doomed.iter().for_each(|one| deleted.add_one(one));
                    PlanOutcome::CarriedOut {
                        deleted,
                        needed: rescued,
                        stays: false,
                    }
                }
            };
            EarlierPlan {
                id: plan.id,
                put: plan.put,
                objects: plan.objects.len(),
                outcome,
            }
        });
        CollectReport {
            snapshots: found.reachable.snapshots().len(),
            needed: found.needed,
            left_alone: found.left_alone,
            earlier: earlier.collect(),
            planned: found.new_plan(),
            rewriting: None,
            at_work: self.live.iter().map(in_words).collect(),
        }
    }

    /// Whether no other collector is seen: two would give a snapshot two names.
    fn is_alone(&self) -> bool {
        !self.live.iter().any(is_collector)
    }

    /// `None` where nobody has asked for it, or the store's time is not known: nothing is read.
    fn plan_rewrite(&self, found: &Inspected) -> Result<Option<RewritePlan>> {
        let now = self.now.filter(|_| !self.rewrite.is_never());
        let Some(now) = now else {
            return Ok(None);
        };
        let scope = RewriteScope {
            reachable: &found.reachable,
            needed: &found.in_use,
            before: self.seen().left_alone_from(),
            now,
            rules: self.rewrite,
        };
        plan_rewrite(self.vault, &scope, self.monitor).map(Some)
    }

    /// Deletes what ripe plans name and nothing needs, and takes away plans that are of no use any
    /// more.
    fn carry_out(
        &self,
        found: &Inspected,
        session: &Session,
        own: SnapshotId,
        report: &mut CollectReport,
    ) -> Result<()> {
        let all: usize = found.doomed.iter().map(Vec::len).sum();
        if all > 0 {
            self.monitor
                .tell(Event::Phase(RunPhase::DeletingObjects(all)));
        }
        let mut stay = BTreeSet::new();
        for (plan, doomed) in self.ripe().zip(&found.doomed) {
            let objects: Vec<Condemned> = doomed.iter().map(|one| one.object).collect();
            let count = self
                .vault
                .delete_condemned(plan.id, &objects, session, self.monitor)?;
            // Where listings may be late, they still show what is gone now, and a mirror would
            // take it for there: the plan that tells it stays until a look finds nothing of it.
            if count < doomed.len() || (count > 0 && self.vault.lists_late()) {
                stay.insert(plan.id);
                report.stays(plan.id, doomed.get(..count).unwrap_or(doomed));
            }
        }
        let done = |fate: &Fate| matches!(fate, Fate::Ripe { .. } | Fate::Void(_));
        let done: Vec<&Plan> = self
            .plans
            .iter()
            .filter(|(plan, fate)| done(fate) && !stay.contains(&plan.id))
            .map(|(plan, _)| plan)
            .collect();
        if done.is_empty() {
            return Ok(());
        }
        session.ask()?;
        // Another may be about to delete what one of them names: as long as it is there, nobody
        // puts or uses anything of that name.
        let now = self.vault.sessions_seen(own, self.monitor)?;
        if now
            .live
            .iter()
            .any(|run| is_collector(run) || run.record.is_none())
        {
            for plan in &mut report.earlier {
                match &mut plan.outcome {
                    PlanOutcome::CarriedOut { stays, .. } => *stays = true,
                    PlanOutcome::Withdrawn(why) => {
                        plan.outcome = PlanOutcome::Left(std::mem::take(why));
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        done.into_iter()
            .try_for_each(|plan| self.vault.withdraw_plan(plan))
    }
}

fn in_words(run: &LiveRun) -> String {
    run.to_string()
}
