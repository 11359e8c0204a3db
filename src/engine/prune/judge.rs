//! The plan of a prune: reads every manifest once, one in memory at a time, and asks the rules, the
//! keeps, and whether a good copy of each disk is left. It deletes nothing.

use super::known_copies::{JudgedDisks, KnownCopies};
use super::last_good::{DiskCopy, last_good};
use super::policy::{ByTime, Candidate, DiskGroup, RetentionRule, RuleHit, kept_by_rules};
use super::twins::Twins;
use super::{Judged, PrunePlan, RetentionOptions, StayReason, Unjudged};
use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::model::SnapshotId;
use crate::store::{KeptBy, SnapshotRef, StoredSnapshot, Vault};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Clocks that differ by no more than this are right.
const LATER: SignedDuration = SignedDuration::from_hours(1);

/// What a prune with these options would do.
///
/// # Errors
/// There is no rule; the host or the disk that was named has no snapshot; the vault cannot be
/// asked. What is damaged is no error: it stays.
pub fn plan_prune(
    vault: &Vault,
    options: &RetentionOptions,
    monitor: &dyn Monitor,
) -> Result<PrunePlan> {
    if options.rules.is_empty() {
        let error = Error::new(
            ErrorKind::Usage,
            "no rule says what to keep: nothing was deleted",
        );
        return Err(error.with_hint("give one or more of --keep-daily 7 and its kin"));
    }
    let listed = vault.stored_snapshots(options.host.as_deref())?;
    let mut judgement = Judgement::default();
    judgement.read(vault, &listed, options, monitor)?;
    judgement.refuse_unknown(options)?;
    let hits = kept_by_rules(&options.rules, &judgement.candidates);
    for (at, hits) in hits.into_iter().enumerate() {
        judgement.note_rules(at, &hits);
    }
    judgement.note_keeps(vault, &listed, options, monitor)?;
    judgement.note_locks(vault, options, monitor)?;
    judgement.note_twins();
    if !options.take_last_good {
        judgement.note_last_good(vault, monitor)?;
        judgement.note_twins();
    }
    Ok(judgement.plan())
}

/// A plan in the making: what is known of each snapshot, by its place.
#[derive(Default)]
struct Judgement {
    plan: PrunePlan,
    candidates: Vec<Candidate>,
    disks: JudgedDisks,
    /// What their manifests say themselves.
    said: Vec<KeptBy>,
    twins: Twins,
    /// Names that snapshots have borne which were not asked for.
    of_others: HashSet<SnapshotId>,
}

impl Judgement {
    fn read(
        &mut self,
        vault: &Vault,
        listed: &[StoredSnapshot],
        options: &RetentionOptions,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        monitor.tell(Event::Phase(RunPhase::ReadingManifests(listed.len())));
        let snapshots = listed.iter().map(|one| one.snapshot.clone());
        let manifests = vault.manifests(snapshots.collect());
        for ((_, manifest), stored) in manifests.zip(listed) {
            monitor.check()?;
            match manifest {
                Ok(manifest) if fits(&manifest, options) => {
                    self.add(stored, &manifest, options.now)?;
                }
                Ok(manifest) => {
                    self.plan.others += 1;
                    self.of_others.extend(manifest.borne());
                }
                // It was deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(why) if matches!(why.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
                    let snapshot = stored.snapshot.id;
                    self.plan.unread.push(Unjudged { snapshot, why });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add(&mut self, stored: &StoredSnapshot, manifest: &Manifest, now: Timestamp) -> Result<()> {
        self.disks.add(manifest)?;
        self.twins.add(manifest);
        let snapshot = &stored.snapshot;
        let received = manifest.first_received(stored.received);
        let disks = self.disks.of(self.candidates.len()).iter();
        // A run while the clock was ahead must not have all others go that came before it by far.
        let is_from_later = stored.received.duration_since(now) > LATER;
        let groups = disks.clone().filter(|_| !is_from_later);
        let groups = groups.flat_map(|disk| disk.groups.iter().copied());
        self.candidates.push(Candidate {
            snapshot: snapshot.id,
            cut: manifest.time,
            received: stored.received,
            claimed: manifest
                .received
                .filter(|claimed| *claimed < stored.received),
            groups: groups.collect::<BTreeSet<_>>().into_iter().collect(),
        });
        self.said
            .push(KeptBy::manifest(manifest, Some(stored.received)));
        self.plan.judged.push(Judged {
            snapshot: snapshot.clone(),
            host: manifest.host.clone(),
            cut: manifest.time,
            received,
            disks: disks.map(|disk| disk.name.clone()).collect(),
            stays: is_from_later
                .then_some(StayReason::FromLater)
                .into_iter()
                .collect(),
        });
        Ok(())
    }

    /// Refuses a host or a disk of which there is no snapshot: the name is wrong.
    fn refuse_unknown(&self, options: &RetentionOptions) -> Result<()> {
        let named = match (&options.disk, &options.host) {
            (Some(disk), _) => format!("with a disk {disk:?}"),
            (None, Some(host)) if self.plan.others == 0 => format!("of a host {host:?}"),
            _ => return Ok(()),
        };
        if !self.candidates.is_empty() || !self.plan.unread.is_empty() {
            return Ok(());
        }
        let what = format!("there is no snapshot {named}: nothing was deleted");
        Err(Error::new(ErrorKind::NotFound, what)
            .with_hint("`stillpoint list` shows the host and the disks of each"))
    }

    fn stays(&mut self, at: usize, reason: StayReason) {
        if let Some(judged) = self.plan.judged.get_mut(at) {
            judged.stays.push(reason);
        }
    }

    fn goes(&self) -> Vec<bool> {
        self.plan.judged.iter().map(Judged::goes).collect()
    }

    /// Notes which rules keep a snapshot. What two times say of one rule is said once.
    fn note_rules(&mut self, at: usize, hits: &[RuleHit]) {
        let mut by_rule: BTreeMap<RetentionRule, Vec<RuleHit>> = BTreeMap::new();
        for hit in hits {
            by_rule.entry(hit.rule).or_default().push(*hit);
        }
        for (rule, hits) in by_rule {
            let by = hits.iter().map(|hit| hit.by).min().unwrap_or(ByTime::Cut);
            let groups: Vec<DiskGroup> = hits.iter().map(|hit| hit.group).collect();
            let disks = self.disks.names(at, &groups);
            self.stays(at, StayReason::Rule { rule, by, disks });
        }
    }

    /// Of names of one snapshot all stay when one does.
    fn note_twins(&mut self) {
        for places in self.twins.together() {
            let goes = self.goes();
            let goes = |at: &usize| goes.get(*at).copied().unwrap_or(false);
            let stays = places.iter().copied().find(|at| !goes(at));
            let judged = stays.and_then(|at| self.plan.judged.get(at));
            let Some(stays) = judged.map(|one| one.snapshot.id) else {
                continue;
            };
            for at in places.into_iter().filter(goes) {
                self.stays(at, StayReason::SameAs(stays));
            }
        }
    }

    /// Notes what keeps a snapshot that no rule keeps, by any name that it has borne.
    fn note_keeps(
        &mut self,
        vault: &Vault,
        listed: &[StoredSnapshot],
        options: &RetentionOptions,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let goes = self.goes();
        let going = |at: &usize| goes.get(*at).copied().unwrap_or(false);
        let going: Vec<usize> = (0..self.candidates.len()).filter(going).collect();
        if going.is_empty() {
            return Ok(());
        }
        // Two hosts may have one of a name: whoever can put may see to that.
        let names = going.iter().flat_map(|at| self.twins.names(*at));
        let asked: HashSet<SnapshotId> = names.copied().collect();
        let all = (0..self.candidates.len()).flat_map(|at| self.twins.names(at));
        let mut known: HashSet<SnapshotId> = all.copied().collect();
        known.extend(listed.iter().map(|one| one.snapshot.id));
        known.extend(&self.of_others);
        // Of which host those are that were not listed is not known here, nor which names one has
        // borne that cannot be read.
        let asks_all = options.host.is_none() && self.plan.unread.is_empty();
        let wanted = |id| asked.contains(&id) || (asks_all && !known.contains(&id));
        let keeps = vault.list_keeps(&wanted)?;
        let keeps = keeps.split(&|id| asked.contains(&id));
        let read = vault.read_keeps(&keeps.wanted, monitor)?;
        let mut kept: HashSet<SnapshotId> = HashSet::new();
        for at in going {
            let mut by = self.said.get(at).cloned().unwrap_or_default();
            let names = self.twins.names(at);
            let of_it = names.iter().filter_map(|name| read.get(name));
            of_it.for_each(|one| by.add(one.clone()));
            if let Some(by) = by.at(options.now) {
                kept.extend(names);
                self.stays(at, StayReason::Kept(by));
            }
        }
        self.plan.ended = keeps.wanted.split(&|id| !kept.contains(&id)).wanted;
        self.plan.strange = keeps.others;
        Ok(())
    }

    /// Notes what else would go and is locked: to delete it would hide it, and free nothing.
    fn note_locks(
        &mut self,
        vault: &Vault,
        options: &RetentionOptions,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let going = self.plan.judged.iter().enumerate();
        let going = going.filter(|(_, one)| one.goes());
        let (places, going): (Vec<usize>, Vec<SnapshotRef>) =
            going.map(|(at, one)| (at, one.snapshot.clone())).unzip();
        let mut places = places.into_iter();
        // They come in the order in which they were asked for.
        vault.locked_until_each(&going, options.now, monitor, &mut |_, until| {
            let at = places.next();
            if let (Some(at), Some(until)) = (at, until) {
                self.stays(at, StayReason::Locked(until));
            }
        })
    }

    fn note_last_good(&mut self, vault: &Vault, monitor: &dyn Monitor) -> Result<()> {
        let goes = self.goes();
        let snapshots = self.plan.judged.iter().map(|one| one.snapshot.clone());
        let snapshots: Vec<SnapshotRef> = snapshots.collect();
        let mut copies = KnownCopies::new(vault, monitor, &self.disks, &snapshots);
        let stay = last_good(&self.candidates, &goes, &mut copies)?;
        let warning = copies.warning();
        self.plan.warnings.extend(warning);
        self.note_copies(stay.good, StayReason::LastGood);
        self.note_copies(stay.as_asked, StayReason::LastAsAsked);
        Ok(())
    }

    fn note_copies(&mut self, copies: Vec<DiskCopy>, reason: fn(Vec<String>) -> StayReason) {
        let mut by_place: BTreeMap<usize, Vec<DiskGroup>> = BTreeMap::new();
        for DiskCopy { at, group } in copies {
            by_place.entry(at).or_default().push(group);
        }
        for (at, groups) in by_place {
            let disks = self.disks.names(at, &groups);
            self.stays(at, reason(disks));
        }
    }

    /// The plan, newest first. Keeps of what stays for another reason are left alone.
    fn plan(mut self) -> PrunePlan {
        let names = |goes: bool| -> HashSet<SnapshotId> {
            let places = self.plan.judged.iter().enumerate();
            let places = places.filter(|(_, one)| one.goes() == goes);
            let names = places.flat_map(|(at, _)| self.twins.names(at));
            names.copied().collect()
        };
        let (going, staying) = (names(true), names(false));
        let ended = std::mem::take(&mut self.plan.ended);
        let is_of_going = |id| going.contains(&id) && !staying.contains(&id);
        self.plan.ended = ended.split(&is_of_going).wanted;
        for at in 0..self.candidates.len() {
            self.note_names(&[at]);
        }
        for places in self.twins.together() {
            self.note_names(&places);
        }
        self.plan.judged.sort_by(|one, other| {
            let key = |judged: &Judged| (judged.cut, judged.snapshot.id);
            key(other).cmp(&key(one))
        });
        self.plan
    }

    /// Notes which names those at these places have between them.
    fn note_names(&mut self, places: &[usize]) {
        let names = places.iter().flat_map(|at| self.twins.names(*at));
        let names: BTreeSet<SnapshotId> = names.copied().collect();
        if names.len() > 1 {
            let own = places.iter().filter_map(|at| self.candidates.get(*at));
            for own in own.map(|one| one.snapshot) {
                let others = names.iter().copied().filter(|name| *name != own);
                self.plan.names.entry(own).or_default().extend(others);
            }
        }
    }
}

/// Whether a snapshot is one of those that were asked for.
fn fits(manifest: &Manifest, options: &RetentionOptions) -> bool {
    let disk = options.disk.as_deref();
    let disk = disk.map(|disk| disk.strip_prefix("/dev/").unwrap_or(disk));
    let has_disk = |wanted: &str| {
        manifest.disks.iter().any(|disk| {
            disk.identity.name == wanted || disk.identity.serial.as_deref() == Some(wanted)
        })
    };
    let mut tags = options.tags.iter();
    disk.is_none_or(has_disk) && tags.all(|(key, value)| manifest.tags.get(key) == Some(value))
}
