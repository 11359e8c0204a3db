//! `lock`: what snapshots need stays locked in a bucket until each may go. Hosts lock what they put
//! for the vault's time; what a later snapshot needs longer, or somebody keeps, is locked longer
//! here, from the manifests alone, so that hosts ask for nothing and no host decides.
//!
//! It must never make a lock shorter, nor longer than the rule's time from now on and a quarter,
//! nor lock what comes and goes. It deletes nothing.

mod needs;
mod term;

use super::monitor::{Event, Monitor};
use super::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LockRule, SnapshotId};
use crate::store::{
    BucketLock, KeptBy, LockEach, LockSeen, LockStanding, LockTarget, ObjectName, StoredSnapshot,
    Vault,
};
use jiff::{SignedDuration, Timestamp};
use needs::LockNeeds;
use std::collections::BTreeMap;
use term::{ahead, locked_until};

/// So many objects are asked for their locks between two looks at how far it is.
const AT_ONCE: usize = 1024;
/// Most names of objects that are told one by one.
const MOST_NAMED: usize = 100;
/// So many failures of the way to the store, one after another, are no object's fault.
const MOST_IN_A_ROW: usize = 64;

/// What to lock, and how.
#[derive(Clone, Copy, Debug)]
pub struct LockOptions {
    /// Another rule than the vault's own.
    pub rule: Option<LockRule>,
    /// Only say what would be locked.
    pub dry_run: bool,
    /// The time now.
    pub now: Timestamp,
}

/// A snapshot of which it is not known what it needs.
#[derive(Debug)]
pub struct UnknownNeeds {
    /// Which one.
    pub snapshot: SnapshotId,
    /// Why.
    pub why: Error,
}

/// An object that could not be locked.
#[derive(Debug)]
pub struct LockFailure {
    /// Which one.
    pub name: ObjectName,
    /// Why.
    pub why: Error,
}

/// What was found and locked.
#[derive(Debug)]
pub struct LockReport {
    /// The rule that it went by.
    pub rule: LockRule,
    /// Snapshots that are locked.
    pub snapshots: usize,
    /// Snapshots whose time is over: nothing of theirs was looked at.
    pub over: usize,
    /// Objects whose locks are long enough.
    pub stand: usize,
    /// Objects that had none, and have one now.
    pub made: usize,
    /// Objects whose locks were made longer.
    pub extended: usize,
    /// Objects of all these whose locks are of a weaker mode than the rule's, and stay so.
    pub weaker: usize,
    /// Objects that are named, and not there; the first ones.
    pub missing: Vec<ObjectName>,
    /// How many these are.
    pub missing_count: usize,
    /// Objects that could not be looked at or locked; the first ones.
    pub failed: Vec<LockFailure>,
    /// How many these are.
    pub failed_count: usize,
    /// Snapshots of which not all could be locked.
    pub unknown: Vec<UnknownNeeds>,
    /// What the user should know besides.
    pub warnings: Vec<String>,
}

/// Locks what snapshots need until each may go.
///
/// # Errors
/// Nothing can be locked there, or the vault has no rule; the store cannot be asked, or refuses
/// all. What is wrong with one object is no error: the rest is locked, and the report names it.
pub fn lock(vault: &Vault, options: LockOptions, monitor: &dyn Monitor) -> Result<LockReport> {
    let rule = options.rule.or(vault.info().lock).ok_or_else(no_rule)?;
    let mut report = LockReport {
        rule,
        snapshots: 0,
        over: 0,
        stand: 0,
        made: 0,
        extended: 0,
        weaker: 0,
        missing: Vec::new(),
        missing_count: 0,
        failed: Vec::new(),
        failed_count: 0,
        unknown: Vec::new(),
        warnings: Vec::new(),
    };
    match vault.bucket_lock()? {
        Some(BucketLock::Never) => return Err(no_locks(vault)),
        Some(BucketLock::ByDefault(time)) => report.warnings.push(format!(
            "the bucket locks everything by default ({time}), also notes of runs and plans, which \
             stay for so long"
        )),
        Some(BucketLock::Possible) | None => {}
    }
    let needs = find_needs(vault, options.now, &mut report, monitor)?;
    let mut work = LockWork {
        vault,
        each: LockEach {
            mode: rule.mode,
            now: options.now,
            only_look: options.dry_run,
        },
        monitor,
        report,
        fails: FailedInARow::default(),
    };
    let always = options.now.checked_add(rule.time());
    let always = always.unwrap_or(Timestamp::MAX);
    let by_all = vault.needed_by_all()?.into_iter();
    let by_all = by_all.map(|name| (name, always));
    // What snapshots share goes first: a manifest that is locked is one whose needs are.
    work.all(needs.shared().chain(by_all), ahead(rule))?;
    work.all(needs.alone(), SignedDuration::ZERO)?;
    let mut report = work.report;
    match report.stand + report.made + report.extended {
        0 if !report.failed.is_empty() => Err(report.failed.swap_remove(0).why),
        _ => Ok(report),
    }
}

fn no_rule() -> Error {
    Error::new(ErrorKind::Usage, "this vault has no rule for locks")
        .with_hint("say one: `stillpoint lock --rule compliance:30d`; a new vault: init --lock")
}

fn no_locks(vault: &Vault) -> Error {
    let what = format!(
        "{}: the bucket has no object lock: nothing was locked",
        vault.location()
    );
    Error::new(ErrorKind::Unsupported, what).with_hint(
        "switch it on for the bucket where the store can, or make one with it and `mirror` the \
         vault there",
    )
}

/// Reads what snapshots need. Those whose time is over are not looked at.
fn find_needs(
    vault: &Vault,
    now: Timestamp,
    report: &mut LockReport,
    monitor: &dyn Monitor,
) -> Result<LockNeeds> {
    let listed = vault.stored_snapshots(None)?;
    let keeps = vault.list_keeps(&|_| true)?;
    let keeps = vault.read_keeps(&keeps, monitor)?;
    let mut needs = LockNeeds::default();
    let mut fails = FailedInARow::default();
    monitor.tell(Event::Phase(RunPhase::ReadingManifests(listed.len())));
    let snapshots = listed.iter().map(|one| one.snapshot.clone());
    let manifests = vault.manifests(snapshots.collect());
    for ((snapshot, manifest), StoredSnapshot { received, .. }) in manifests.zip(&listed) {
        monitor.check()?;
        let manifest = fails.count(manifest)?;
        let mut kept: KeptBy = keeps.get(&snapshot.id).cloned().unwrap_or_default();
        match &manifest {
            Ok(manifest) => kept.add(KeptBy::manifest(manifest, Some(*received))),
            // It may say anything, also that it is kept.
            Err(why) => kept.unreadable.push(why.to_string()),
        }
        let until = locked_until(report.rule, *received, &kept, now);
        if until <= now {
            report.over += 1;
            continue;
        }
        report.snapshots += 1;
        match manifest {
            Ok(manifest) => needs.add(&snapshot, &manifest, until),
            Err(why) => {
                needs.add_alone(&snapshot, until);
                let snapshot = snapshot.id;
                report.unknown.push(UnknownNeeds { snapshot, why });
            }
        }
    }
    add_segments(vault, &mut needs, report, monitor)?;
    Ok(needs)
}

/// Failures that came one after another. An object that cannot be read, asked for or locked, for
/// whatever reason, is one object: whoever may put could end each look with it otherwise.
#[derive(Default)]
struct FailedInARow(usize);

impl FailedInARow {
    /// Hands back what came of one object; an error when it is time to end.
    fn count<T>(&mut self, of_one: Result<T>) -> Result<Result<T>> {
        self.0 = match &of_one {
            Err(error) if error.kind() == ErrorKind::Io => self.0 + 1,
            _ => 0,
        };
        match of_one {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted(_)) => Err(error),
            Err(error) if self.0 >= MOST_IN_A_ROW => Err(error),
            of_one => Ok(of_one),
        }
    }
}

fn add_segments(
    vault: &Vault,
    needs: &mut LockNeeds,
    report: &mut LockReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    let named = needs.parts();
    let parts: Vec<_> = named.iter().map(|part| (part.id, part.blocks)).collect();
    monitor.tell(Event::Phase(RunPhase::ReadingIndexes(parts.len())));
    // What is there and not what is named sets how much there is to ask: names cost nothing.
    vault.each_segment(&mut |segment| {
        needs.note_listed(segment);
        monitor.check()
    })?;
    if needs.is_full() {
        report.warnings.push(
            "the names of all segments do not fit into a quarter of this host's memory: run it on \
             a host with more"
                .into(),
        );
    }
    let mut unknown: BTreeMap<SnapshotId, Error> = BTreeMap::new();
    let mut fails = FailedInARow::default();
    let mut asked = named.into_iter();
    vault.read_index_parts(&parts, monitor, &mut |id, map| {
        // They come in the order in which they were asked for.
        let part = asked.next().filter(|part| part.id == id);
        let part = part.ok_or_else(|| Error::new(ErrorKind::Failed, "an answer is lost"))?;
        let why = match fails.count(map)? {
            Ok(map) => match needs.add_segments(part, &map) {
                0 => return Ok(()),
                many => {
                    let what = format!("index {id} names {many} blocks in segments not listed");
                    Error::new(ErrorKind::Damaged, what)
                }
            },
            Err(why) => why,
        };
        for snapshot in needs.snapshots_of(part) {
            let why = || Error::new(why.kind(), why.to_string());
            unknown.entry(snapshot).or_insert_with(why);
        }
        Ok(())
    })?;
    let unknown = unknown.into_iter();
    let unknown = unknown.map(|(snapshot, why)| UnknownNeeds { snapshot, why });
    report.unknown.extend(unknown);
    Ok(())
}

/// The locking of many objects.
struct LockWork<'a> {
    vault: &'a Vault,
    each: LockEach,
    monitor: &'a dyn Monitor,
    report: LockReport,
    fails: FailedInARow,
}

impl LockWork<'_> {
    fn all(
        &mut self,
        objects: impl Iterator<Item = (ObjectName, Timestamp)>,
        ahead: SignedDuration,
    ) -> Result<()> {
        let targets = objects.map(|(name, until)| LockTarget { name, until, ahead });
        let mut some: Vec<LockTarget> = Vec::new();
        for target in targets {
            some.push(target);
            if some.len() == AT_ONCE {
                self.some(&some)?;
                some.clear();
            }
        }
        self.some(&some)
    }

    fn some(&mut self, targets: &[LockTarget]) -> Result<()> {
        let Self {
            vault,
            each,
            monitor,
            report,
            fails,
        } = self;
        let all = vault.lock_each(targets, *each, *monitor, &mut |target, standing| {
            match fails.count(standing)? {
                Ok(LockSeen {
                    standing,
                    is_weaker,
                }) => {
                    report.weaker += usize::from(is_weaker);
                    *match standing {
                        LockStanding::Stands => &mut report.stand,
                        LockStanding::Made => &mut report.made,
                        LockStanding::Extended => &mut report.extended,
                    } += 1;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    report.missing_count += 1;
                    if report.missing.len() < MOST_NAMED {
                        report.missing.push(target.name.clone());
                    }
                }
                Err(why) => {
                    report.failed_count += 1;
                    if report.failed.len() < MOST_NAMED {
                        let name = target.name.clone();
                        report.failed.push(LockFailure { name, why });
                    }
                }
            }
            Ok(())
        });
        all.map_err(|error| {
            let done = report.made + report.extended;
            error.and_said(format!(
                "{done} locks were made or made longer until then; the same command goes on"
            ))
        })
    }
}
