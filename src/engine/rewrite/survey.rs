//! What lies dead in segments of which something is needed, and which of them could be given up.
//! It reads footers, manifests and index objects, and no data. It must never call a snapshot free
//! to get other places of which it does not know everything.

use super::old_names::{OldName, SharedNames};
use super::rules::{DeadSpace, HalfLive, RewriteRules, is_archive, least_time};
use crate::engine::monitor::{Event, Monitor};
use crate::engine::reach::Reachable;
use crate::engine::run_phase::RunPhase;
use crate::error::{ErrorKind, Result};
use crate::format::{Condemned, IndexRef};
use crate::model::{Bytes, ObjectId, block_count};
use crate::store::{Collectable, SnapshotRef, StoredSnapshot, Vault};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// Ends of segments that are fetched before they are looked at.
const AT_ONCE: usize = 512;
/// Chunks with so few dead ones between them are read by one request.
pub(super) const GAP: u32 = 8;
/// Most slots that are read by one request: 4 MiB.
pub(super) const MOST_SLOTS: u32 = 64;

/// What to look at.
pub struct RewriteScope<'a> {
    /// What snapshots need.
    pub reachable: &'a Reachable,
    /// The objects that are there and needed.
    pub needed: &'a [Collectable],
    /// Nothing that was put later is given up.
    pub before: Timestamp,
    /// The time now.
    pub now: Timestamp,
    /// When it pays.
    pub rules: RewriteRules,
}

/// What would be given up, and what it takes.
#[derive(Debug, Default)]
pub struct RewritePlan {
    /// What lies dead now.
    pub space: DeadSpace,
    /// What it takes; nothing, where nothing is given up.
    pub cost: RewriteCost,
    /// Why nothing is given up although much lies dead.
    pub why_not: Option<String>,
    pub(super) segments: Vec<HalfLive>,
    pub(super) parts: Vec<OldPart>,
    pub(super) snapshots: Vec<StoredSnapshot>,
    pub(super) old_names: Vec<OldName>,
    pub(super) most_slots: u32,
}

impl RewritePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.old_names.is_empty()
    }

    /// How many names go, if all that they show is there under newer ones.
    pub fn old_names(&self) -> usize {
        self.old_names.len()
    }
}

/// What giving up segments takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RewriteCost {
    /// How many segments.
    pub segments: usize,
    /// Bytes that are free in the end.
    pub freed: Bytes,
    /// Bytes of chunks that are read, and put elsewhere.
    pub moved: Bytes,
    /// Snapshots that get another name.
    pub snapshots: usize,
    /// Requests that read, about.
    pub gets: u64,
    /// Requests that put or list, about.
    pub puts: u64,
}

/// An index object that names a segment that is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldPart {
    pub(super) part: IndexRef,
    /// Of its disk.
    pub(super) blocks: u64,
}

/// A snapshot, and what it names.
struct Naming {
    stored: StoredSnapshot,
    parts: Vec<ObjectId>,
    /// Whether it may get another name.
    is_free: bool,
}

/// Looks what lies dead, and makes a plan. Nothing is put.
pub fn plan_rewrite(
    vault: &Vault,
    scope: &RewriteScope<'_>,
    monitor: &dyn Monitor,
) -> Result<RewritePlan> {
    let mut plan = RewritePlan {
        most_slots: scope.rules.most_slots,
        ..RewritePlan::default()
    };
    if scope.rules.is_never() {
        return Ok(plan);
    }
    let listed = vault.stored_snapshots(None)?;
    let mut names = SharedNames::default();
    if vault.reads_blocks() {
        names = SharedNames::find(vault, &listed, monitor)?;
        plan.old_names = std::mem::take(&mut names.old);
    }
    let half = look(vault, scope, &mut plan.space, monitor)?;
    if scope.rules.is_enough(&plan.space) {
        return Ok(plan);
    }
    let class = vault.storage_class();
    plan.why_not = if !vault.reads_blocks() {
        Some("the key is a writer's, which reads no block".into())
    } else if is_archive(class) {
        Some("segments lie in an archive, and would have to be thawed".into())
    } else {
        None
    };
    if plan.why_not.is_some() {
        return Ok(plan);
    }
    let paid = scope
        .now
        .checked_sub(least_time(class))
        .unwrap_or(Timestamp::MIN);
    let half = half
        .into_iter()
        .filter(|one| one.put < scope.before.min(paid));
    let rules = scope.rules.in_class(class);
    let half: Vec<HalfLive> = half.filter(|one| rules.is_worth(one)).collect();
    if half.is_empty() {
        let why = "what is mostly dead is too young, or too much of it is live for what reading it \
                   costs";
        plan.why_not = Some(why.into());
        return Ok(plan);
    }
    let damage = vault.known_damage()?.damage;
    let is_bad = |one: &HalfLive| {
        let mut live = one.slots.iter().cloned();
        live.any(|slots| !damage.within(one.id, slots).is_empty())
    };
    let (bad, half): (Vec<_>, Vec<_>) = half.into_iter().partition(is_bad);
    if half.is_empty() {
        let many = bad.len();
        plan.why_not = Some(format!("{many} segments are noted as damaged: see verify"));
        return Ok(plan);
    }
    let candidates = Candidates {
        half,
        listed,
        names,
    };
    choose(vault, scope, candidates, &mut plan, monitor)?;
    Ok(plan)
}

/// What may be given up, and who may need it.
struct Candidates {
    half: Vec<HalfLive>,
    listed: Vec<StoredSnapshot>,
    names: SharedNames,
}

/// What of each needed segment is live, by its footer.
fn look(
    vault: &Vault,
    scope: &RewriteScope<'_>,
    space: &mut DeadSpace,
    monitor: &dyn Monitor,
) -> Result<Vec<HalfLive>> {
    let segment = |one: &Collectable| match one.object {
        Condemned::Segment(id) => Some((id, one.put)),
        _ => None,
    };
    let all: Vec<(ObjectId, Timestamp)> = scope.needed.iter().filter_map(segment).collect();
    monitor.tell(Event::Phase(RunPhase::ReadingFooters(all.len())));
    let mut half = Vec::new();
    for some in all.chunks(AT_ONCE) {
        let ids: Vec<ObjectId> = some.iter().map(|(id, _)| *id).collect();
        vault.fetch_footers(&ids, monitor)?;
        for (id, put) in some {
            monitor.check()?;
            let footer = match vault.footer(*id) {
                Ok(footer) => footer,
                Err(error) if is_unknown(error.kind()) => {
                    space.unread += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let slots = scope.reachable.needed_slots(*id);
            let length = |range: &Range<u32>| -> u64 {
                let entries = footer.slots().iter().skip(range.start as usize);
                let entries = entries.take(range.len());
                entries.map(|entry| u64::from(entry.length)).sum()
            };
            let live: u64 = slots.iter().map(length).sum();
            let all: u64 = footer
                .slots()
                .iter()
                .map(|entry| u64::from(entry.length))
                .sum();
            let dead = all.saturating_sub(live);
            space.live.0 += live;
            space.dead.0 += dead;
            if dead > 0 {
                space.segments += 1;
                half.push(HalfLive {
                    id: *id,
                    put: *put,
                    slots,
                    live: Bytes(live),
                    dead: Bytes(dead),
                });
            }
        }
    }
    Ok(half)
}

/// What keeps a footer from being read, and nothing else.
fn is_unknown(kind: ErrorKind) -> bool {
    use ErrorKind::{Archived, Damaged, Format, NotFound};
    matches!(kind, Archived | Damaged | Format | NotFound)
}

fn choose(
    vault: &Vault,
    scope: &RewriteScope<'_>,
    candidates: Candidates,
    plan: &mut RewritePlan,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut known: BTreeMap<ObjectId, OldPart> = BTreeMap::new();
    let snapshots = naming(vault, scope, &candidates, &mut known, monitor)?;
    let half = candidates.half;
    let candidates: HashSet<ObjectId> = half.iter().map(|one| one.id).collect();
    let parts: Vec<_> = known.iter().map(|(id, part)| (*id, part.blocks)).collect();
    let mut named: HashMap<ObjectId, BTreeSet<ObjectId>> = HashMap::new();
    monitor.tell(Event::Phase(RunPhase::ReadingIndexes(parts.len())));
    vault.read_index_parts(&parts, monitor, &mut |id, map| {
        let map = map?;
        let segments = map.iter().filter_map(|run| run.segment());
        let segments: BTreeSet<ObjectId> = segments.filter(|id| candidates.contains(id)).collect();
        if !segments.is_empty() {
            named.insert(id, segments);
        }
        Ok(())
    })?;
    let mut held: HashSet<ObjectId> = HashSet::new();
    for one in snapshots.iter().filter(|one| !one.is_free) {
        let segments = one.parts.iter().filter_map(|part| named.get(part));
        held.extend(segments.flatten());
    }
    let (left, free): (Vec<_>, Vec<_>) = half.into_iter().partition(|one| held.contains(&one.id));
    plan.segments = scope.rules.choose(free, &plan.space);
    if plan.segments.is_empty() {
        let many = left.len();
        plan.why_not = Some(match many {
            0 => "no more than --max-rewrite was to be moved".into(),
            _ => format!(
                "snapshots that somebody keeps, or that say more than this version knows, need \
                 {many} of the segments"
            ),
        });
        return Ok(());
    }
    let chosen: HashSet<ObjectId> = plan.segments.iter().map(|one| one.id).collect();
    named.retain(|_, segments| segments.iter().any(|id| chosen.contains(id)));
    let changes = |one: &Naming| one.parts.iter().any(|part| named.contains_key(part));
    let changed: Vec<Naming> = snapshots.into_iter().filter(changes).collect();
    let named_in_all: usize = changed.iter().map(|one| one.parts.len()).sum();
    plan.snapshots = changed.into_iter().map(|one| one.stored).collect();
    plan.parts = known
        .into_iter()
        .filter(|(id, _)| named.contains_key(id))
        .map(|(_, part)| part)
        .collect();
    plan.cost = cost(plan, named_in_all);
    Ok(())
}

/// Reads all manifests: which index objects they name, and whether they may be written anew.
fn naming(
    vault: &Vault,
    scope: &RewriteScope<'_>,
    candidates: &Candidates,
    known: &mut BTreeMap<ObjectId, OldPart>,
    monitor: &dyn Monitor,
) -> Result<Vec<Naming>> {
    let listed = &candidates.listed;
    let looked_at: BTreeSet<&SnapshotRef> = scope.reachable.snapshots().iter().collect();
    let keeps = vault.list_keeps(&|_| true)?;
    monitor.tell(Event::Phase(RunPhase::ReadingManifests(listed.len())));
    let mut all = Vec::new();
    for stored in listed {
        monitor.check()?;
        // Its other name would hold what it gives up.
        let is_twice = candidates.names.has(stored.snapshot.id);
        // What has come since needs what was there as it is.
        let is_new = !looked_at.contains(&stored.snapshot);
        let (manifest, is_known) = match vault.known_manifest(&stored.snapshot) {
            Ok(Some(manifest)) => (manifest, true),
            Ok(None) => (vault.manifest(&stored.snapshot)?, false),
            // It was deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let kept = manifest.kept_until(Some(stored.received));
        let mut names = [stored.snapshot.id].into_iter().chain(manifest.borne());
        let is_kept = kept.is_some_and(|until| until > scope.now) || names.any(|id| keeps.has(id));
        let mut parts = Vec::new();
        for disk in &manifest.disks {
            let blocks = block_count(disk.identity.size);
            for part in &disk.index {
                parts.push(part.id);
                let part = *part;
                known.entry(part.id).or_insert(OldPart { part, blocks });
            }
        }
        all.push(Naming {
            stored: stored.clone(),
            parts,
            is_free: is_known && !is_kept && !is_new && !is_twice,
        });
    }
    Ok(all)
}

/// Neighbouring slots that are read by one request, with the dead ones between them.
pub(super) fn read_at_once(slots: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut all: Vec<Range<u32>> = Vec::new();
    for range in slots {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + MOST_SLOTS);
            match all.last_mut() {
                Some(last) if start - last.end <= GAP && end - last.start <= MOST_SLOTS => {
                    last.end = end;
                }
                _ => all.push(start..end),
            }
            start = end;
        }
    }
    all
}

/// `named_in_all`: index objects in the lists of all snapshots that are renamed.
fn cost(plan: &RewritePlan, named_in_all: usize) -> RewriteCost {
    let sum = |of: fn(&HalfLive) -> Bytes| Bytes(plan.segments.iter().map(|one| of(one).0).sum());
    let (moved, freed) = (sum(|one| one.live), sum(|one| one.dead));
    let new = moved.0.div_ceil(crate::format::SEGMENT_TARGET as u64);
    let one_read = |one: &HalfLive| read_at_once(&one.slots).len() as u64;
    let reads: u64 = plan.segments.iter().map(one_read).sum();
    let (parts, snapshots) = (plan.parts.len() as u64, plan.snapshots.len() as u64);
    RewriteCost {
        segments: plan.segments.len(),
        freed,
        moved,
        snapshots: plan.snapshots.len(),
        // What was put is read again. Of each snapshot the manifest, its map before and after, and
        // seven questions whether something is there; and four listings.
        gets: reads + new + parts + snapshots * 8 + 2 * named_in_all as u64,
        puts: new + parts + snapshots * 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_gaps_are_read_over_and_requests_are_bounded() {
        let slots = [0..3, 5..6, 14..20, 29..300];
        let read = read_at_once(&slots);
        assert_eq!(read, [0..20, 29..93, 93..157, 157..221, 221..285, 285..300]);
        assert!(read_at_once(&[]).is_empty());
    }
}
