//! Segments that are mostly dead are given up: what is needed of them is copied, and snapshots get
//! other names, under which they lead to the copies. Each is the same before and after, byte for
//! byte; killed anywhere, none is lost.

use super::stage::{BLOCKS, Done, GRACE, Stage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use stillpoint::engine::{
    CollectOptions, CollectReport, RetentionOptions, RetentionRules, RewriteReport, RewriteRules,
    Silent, collect, plan_collection, plan_prune,
};
use stillpoint::format::{ChunkHash, Condemned, Manifest};
use stillpoint::model::{BlockIndex, Content, ObjectId, RunMap, SnapshotId};
use stillpoint::store::{FaultStore, KeepTerm, ObjectName, ObjectStore, SnapshotRef, Vault};
use stillpoint::{Error, ErrorKind};

/// The usual rules; whatever lies dead is worth it.
pub const REWRITING: CollectOptions = CollectOptions {
    rewrite: RewriteRules {
        tolerated: 0,
        ..RewriteRules::USUAL
    },
    ..GRACE
};

/// The chunks of a snapshot's blocks.
pub type Chunks = Vec<Option<ChunkHash>>;

fn chunks(vault: &Vault, map: &RunMap) -> Chunks {
    let of = |block| match map.get(BlockIndex(block)).unwrap() {
        Content::Data { segment, slot } => Some(vault.chunk(segment, slot).unwrap().hash),
        Content::Zero | Content::Free => None,
    };
    (0..BLOCKS).map(of).collect()
}

/// What a snapshot shows, every chunk of it read from the store and checked.
pub fn shown(stage: &Stage, snapshot: &SnapshotRef) -> Chunks {
    let vault = stage.vault();
    let manifest = vault.manifest(snapshot).unwrap();
    let map = vault.load_index(&manifest.disks[0].index, BLOCKS).unwrap();
    let segments: BTreeSet<ObjectId> = map.iter().filter_map(|run| run.segment()).collect();
    segments
        .into_iter()
        .for_each(|id| drop(vault.check_segment(id).unwrap()));
    chunks(&vault, &map)
}

pub fn listed(stage: &Stage) -> Vec<SnapshotRef> {
    stage.vault().snapshots().unwrap()
}

/// The one snapshot that there is under some name of this one.
pub fn now(stage: &Stage, done: &Done) -> SnapshotRef {
    let all = listed(stage);
    let mut akin = all.iter().filter(|one| one.id.is_akin_to(done.run));
    let found = akin.next().expect("it is there").clone();
    assert!(akin.next().is_none(), "{all:?}");
    found
}

pub fn gc(stage: &Stage) -> CollectReport {
    collect(&stage.vault(), REWRITING, &Silent).unwrap()
}

pub fn done(report: CollectReport) -> RewriteReport {
    report.rewriting.unwrap().done.unwrap()
}

/// A snapshot of eight blocks in one segment, one that lays six others over it, one that lays one
/// over that; the first is deleted. All of it is old.
pub struct Half {
    pub stage: Stage,
    pub second: Done,
    pub third: Done,
    pub shown: [Chunks; 2],
}

pub fn half_dead() -> Half {
    let stage = Stage::new();
    let take = |blocks: &[u64], parent: Option<&Done>| {
        let mut run = stage.begin(parent);
        run.put_together(blocks);
        // Names are in the order of time from one millisecond to the next only.
        std::thread::sleep(Duration::from_millis(2));
        run.commit().unwrap()
    };
    let first = take(&[0, 1, 2, 3, 4, 5, 6, 7], None);
    let second = take(&[0, 1, 2, 3, 5, 6], Some(&first));
    let third = take(&[1], Some(&second));
    stage.delete(&first);
    stage.pass(60);
    let vault = stage.vault();
    let shown = [&second, &third].map(|one| chunks(&vault, &one.map));
    Half {
        stage,
        second,
        third,
        shown,
    }
}

impl Half {
    /// Both snapshots are there, under whatever names, with every byte.
    pub fn check(&self) {
        for (done, shown_then) in [&self.second, &self.third].into_iter().zip(&self.shown) {
            let all = listed(&self.stage);
            let akin: Vec<_> = all
                .iter()
                .filter(|one| one.id.is_akin_to(done.run))
                .collect();
            assert!(!akin.is_empty(), "{} is lost", done.run);
            akin.into_iter()
                .for_each(|one| assert_eq!(&shown(&self.stage, one), shown_then));
        }
    }

    fn manifests(&self) -> [Manifest; 2] {
        [&self.second, &self.third]
            .map(|one| self.stage.vault().manifest(&now(&self.stage, one)).unwrap())
    }

    /// Bytes of all segments.
    fn stored(&self) -> u64 {
        let all = self.stage.store.list_all(&ObjectName::segments()).unwrap();
        all.iter().map(|one| one.size).sum()
    }
}

#[test]
fn what_is_mostly_dead_is_given_up_and_every_snapshot_stays_as_it_was() {
    let half = half_dead();
    let stage = &half.stage;
    let before = half.stored();
    let names: Vec<SnapshotId> = listed(stage).iter().map(|one| one.id).collect();
    let received = |stage: &Stage| -> Vec<_> {
        let options = RetentionOptions {
            rules: RetentionRules {
                last: 9,
                ..RetentionRules::default()
            },
            host: None,
            disk: None,
            tags: BTreeMap::new(),
            take_last_good: false,
            now: jiff::Timestamp::now(),
        };
        let plan = plan_prune(&stage.vault(), &options, &Silent).unwrap();
        plan.judged.iter().map(|one| one.received).collect()
    };
    let came = received(stage);
    let report = gc(stage);
    let rewriting = report.rewriting.as_ref().unwrap();
    assert_eq!(rewriting.plan.space.segments, 1, "{rewriting:?}");
    assert_eq!(
        (rewriting.plan.cost.segments, rewriting.plan.cost.snapshots),
        (1, 2)
    );
    let report = done(report);
    // The first one's segment: of it two blocks were live.
    assert_eq!(report.segments, 1, "{report:?}");
    assert_eq!(report.renamed.len(), 2);
    assert!(report.warnings.is_empty(), "{report:?}");
    half.check();
    let manifests = half.manifests();
    for ((manifest, old), renamed) in manifests.iter().zip(&names).zip(&report.renamed) {
        assert_eq!(manifest.rewrites, [*old]);
        assert_eq!((renamed.old, renamed.new), (*old, manifest.snapshot));
        assert!(manifest.received.is_some());
        // Who knows the old name finds it.
        assert_eq!(
            stage.vault().find(&old.to_string()).unwrap().id,
            manifest.snapshot
        );
    }
    // Retention still knows when the store got them.
    assert_eq!(received(stage), came);
    // Nothing was deleted but names: a run or a restore that is at work has all it knows of.
    assert!(stage.is_whole(&half.second) && stage.is_whole(&half.third));
    // What nothing needs now is planned already, and the next one deletes it.
    for _ in 0..2 {
        stage.pass(25);
        let again = gc(stage);
        assert!(again.rewriting.unwrap().plan.is_empty());
        half.check();
        assert!(!stage.is_whole(&half.second), "its old map leads nowhere");
    }
    assert!(half.stored() < before, "{} {before}", half.stored());
    stage.pass(25);
    let last = gc(stage);
    assert!(last.planned.is_none(), "{last:?}");
    assert_eq!(last.rewriting.unwrap().plan.space.dead.0, 0);
    half.check();
    assert!(stage.names("condemned").is_empty() && stage.names("sessions").is_empty());
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let half = half_dead();
    let before = half.stage.all();
    let report = plan_collection(&half.stage.vault(), REWRITING, &Silent).unwrap();
    assert_eq!(half.stage.all(), before);
    let rewriting = report.rewriting.unwrap();
    assert!(rewriting.done.is_none());
    let cost = rewriting.plan.cost;
    assert_eq!((cost.segments, cost.snapshots), (1, 2));
    // One read, one look at what was put, one index object, which both have; of two snapshots
    // eight, and twice the two and three index objects that they name. Each lists four times.
    let counts = (1 + 1 + 1 + 2 * 8 + 2 * 5, 1 + 1 + 2 * 5);
    assert_eq!((cost.gets, cost.puts), counts, "{cost:?}");
    assert!(cost.freed > cost.moved, "{cost:?}");
}

#[test]
fn what_is_little_dead_young_or_not_to_be_moved_stays() {
    let half = half_dead();
    let told = |options| {
        let plan = plan_collection(&half.stage.vault(), options, &Silent).unwrap();
        plan.rewriting.unwrap().plan
    };
    let with = |rewrite| CollectOptions { rewrite, ..GRACE };
    let enough = told(with(RewriteRules {
        tolerated: 10_000,
        ..RewriteRules::USUAL
    }));
    assert!(enough.is_empty() && enough.space.dead.0 > 0 && enough.why_not.is_none());
    let small = told(with(RewriteRules {
        most_moved: Some(stillpoint::model::Bytes(1)),
        ..REWRITING.rewrite
    }));
    assert!(small.is_empty() && small.why_not.is_some());
    // Who has not asked for it is told nothing, and nothing of it is read.
    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    let store = FaultStore::new(half.stage.store.clone(), move |operation| {
        let of_segments = operation.name.as_str().starts_with("segments/");
        let reads = of_segments && operation.verb != "list";
        counted.fetch_add(u64::from(reads), Ordering::Relaxed);
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let before = half.stage.names("snapshots");
    let report = collect(&vault, GRACE, &Silent).unwrap();
    assert!(report.rewriting.is_none() && reads.load(Ordering::Relaxed) == 0);
    assert_eq!(half.stage.names("snapshots"), before);
    // What is younger than the grace cannot be planned.
    let young = CollectOptions {
        grace: jiff::SignedDuration::from_hours(61),
        ..REWRITING
    };
    assert!(told(young).is_empty());
}

#[test]
fn a_snapshot_that_somebody_keeps_keeps_its_name() {
    let half = half_dead();
    let stage = &half.stage;
    let vault = stage.vault();
    let second = vault.find(&half.second.run.to_string()).unwrap();
    vault
        .put_keep(&second, KeepTerm::Hold("audit".into()), "test")
        .unwrap();
    let report = gc(stage);
    let why = report.rewriting.as_ref().unwrap().plan.why_not.clone();
    assert!(why.unwrap().contains("keeps"), "{report:?}");
    assert!(done(report).renamed.is_empty());
    assert_eq!(now(stage, &half.second).id, half.second.run);
    half.check();
    vault.release(second.id, "audit", &Silent).unwrap();
    assert_eq!(done(gc(stage)).renamed.len(), 2);
    half.check();
}

#[test]
fn a_segment_with_a_damaged_chunk_stays_and_is_told() {
    let half = half_dead();
    let stage = &half.stage;
    let content = half.second.map.get(BlockIndex(4)).unwrap();
    let Content::Data { segment, slot } = content else {
        panic!("{content:?}");
    };
    let name = ObjectName::segment(segment);
    let before = stage.store.get(&name, u64::MAX).unwrap();
    let footer = stage.vault().check_segment(segment).unwrap();
    let mut bytes = before.to_vec();
    bytes[footer.slots()[slot as usize].offset as usize + 30] ^= 1;
    stage.store.replace(&name, bytes.into()).unwrap();
    stage.store.age(&name, jiff::SignedDuration::from_hours(60));
    let names = listed(stage);
    let report = done(gc(stage));
    assert!(report.renamed.is_empty(), "{report:?}");
    assert!(
        report.warnings[0].contains(&segment.to_string()),
        "{report:?}"
    );
    assert_eq!(listed(stage), names);
    // It is noted, so that nobody tries it again.
    let damage = stage.vault().known_damage().unwrap().damage;
    assert_eq!(damage.within(segment, 0..8), [slot]);
    let again = gc(stage).rewriting.unwrap();
    let why = again.plan.why_not.unwrap();
    assert!(why.contains("noted as damaged"), "{why}");
    assert!(again.done.unwrap().warnings.is_empty());
    stage
        .names("damaged")
        .iter()
        .for_each(|name| stage.store.delete(name).unwrap());
    // A dead chunk that is damaged keeps nothing.
    let mut bytes = before.to_vec();
    bytes[footer.slots()[5].offset as usize + 30] ^= 1;
    stage.store.replace(&name, bytes.into()).unwrap();
    stage.store.age(&name, jiff::SignedDuration::from_hours(60));
    assert_eq!(done(gc(stage)).renamed.len(), 2);
    half.check();
}

#[test]
fn one_whose_successor_cannot_be_made_keeps_its_name_alone() {
    let half = half_dead();
    let stage = &half.stage;
    let vault = stage.vault();
    let third = vault.find(&half.third.run.to_string()).unwrap();
    let own = vault.manifest(&third).unwrap().disks[0].index.clone();
    let second = vault.find(&half.second.run.to_string()).unwrap();
    let shared = vault.manifest(&second).unwrap().disks[0].index.clone();
    let own = own.iter().find(|part| !shared.contains(part)).unwrap();
    let name = ObjectName::index(own.id);
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let renaming = Arc::new(AtomicBool::new(false));
    let begun = Arc::clone(&renaming);
    let steps = FaultStore::new(stage.store.clone(), move |operation| {
        let is_put = operation.verb == "put" && operation.name.as_str().starts_with("index/");
        begun.fetch_or(is_put, Ordering::Relaxed);
        if *operation.name == name && renaming.load(Ordering::Relaxed) {
            count.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Damaged, "it was damaged just now"));
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
    let report = done(collect(&vault, REWRITING, &Silent).unwrap());
    assert!(asked.load(Ordering::Relaxed) > 0);
    let renamed: Vec<SnapshotId> = report.renamed.iter().map(|one| one.old).collect();
    assert_eq!(renamed, [half.second.run], "{report:?}");
    assert!(
        report.warnings[0].contains("damaged just now"),
        "{report:?}"
    );
    half.check();
}

#[test]
fn a_run_beside_it_keeps_what_it_builds_on() {
    let half = half_dead();
    let stage = &half.stage;
    let mut early = stage.begin(Some(&half.third));
    early.put(&[2]);
    assert_eq!(done(gc(stage)).renamed.len(), 2);
    // Nothing that it builds on is planned while it is at work.
    let plans = stage.vault().plans().unwrap();
    let mut named = plans.iter().flat_map(|plan| &plan.objects);
    assert!(named.all(|one| !matches!(one, Condemned::Segment(_))));
    stage.pass_beating(25);
    gc(stage);
    let early = early.commit().unwrap();
    for _ in 0..3 {
        stage.pass(25);
        gc(stage);
        half.check();
        now(stage, &early);
        shown(stage, &now(stage, &early));
    }
}

#[test]
fn one_that_was_deleted_meanwhile_does_not_come_back() {
    let (mut deleted, mut came_back) = (0, 0);
    for moment in 0..220 {
        let half = half_dead();
        let stage = &half.stage;
        let third = stage.vault().find(&half.third.run.to_string()).unwrap();
        let deleter = stage.vault();
        let was_there = Arc::new(AtomicBool::new(false));
        let there = Arc::clone(&was_there);
        let steps = FaultStore::new(stage.store.clone(), move |operation| {
            if operation.moment == moment {
                there.store(deleter.has_snapshot(&third)?, Ordering::Relaxed);
                deleter.delete(&third)?;
            }
            Ok(())
        });
        let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
        collect(&vault, REWRITING, &Silent).unwrap();
        assert_eq!(shown(stage, &now(stage, &half.second)), half.shown[0]);
        let left = listed(stage);
        let mut akin = left.iter().filter(|one| one.id.is_akin_to(half.third.run));
        let is_left = akin.next().is_some();
        if was_there.load(Ordering::Relaxed) {
            deleted += 1;
            came_back += u32::from(is_left);
        } else {
            assert!(
                is_left,
                "moment {moment}: nobody has deleted it under this name"
            );
        }
    }
    // Between the last question whether it is there and its end: what has another name by then is
    // not taken back, as somebody may have kept that one.
    assert!(deleted > 50 && came_back <= 30, "{deleted} {came_back}");
}

#[test]
fn what_a_plan_names_is_not_led_to_anew() {
    let half = half_dead();
    let stage = &half.stage;
    let Some(Content::Data { segment, .. }) = half.third.map.get(BlockIndex(1)) else {
        panic!("{half:?}", half = half.third.map);
    };
    let plan = BTreeSet::from([Condemned::Segment(segment)]);
    stage
        .vault()
        .put_plan(SnapshotId::generate(1), &plan)
        .unwrap();
    let report = done(gc(stage));
    assert_eq!(report.renamed.len(), 1, "{report:?}");
    assert!(report.warnings[0].contains("a plan names"), "{report:?}");
    assert_eq!(now(stage, &half.third).id, half.third.run);
    half.check();
}

#[test]
fn one_that_is_kept_meanwhile_stays_kept() {
    let (mut before, mut after) = (0, 0);
    for moment in 0..220 {
        let half = half_dead();
        let stage = &half.stage;
        let second = stage.vault().find(&half.second.run.to_string()).unwrap();
        let keeper = stage.vault();
        let kept = Arc::new(AtomicBool::new(false));
        let was_kept = Arc::clone(&kept);
        let steps = FaultStore::new(stage.store.clone(), move |operation| {
            if operation.moment == moment {
                let hold = KeepTerm::Hold("audit".into());
                let done = keeper.put_keep(&second, hold, "test");
                was_kept.store(done.is_ok(), Ordering::Relaxed);
            }
            Ok(())
        });
        let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
        collect(&vault, REWRITING, &Silent).unwrap();
        half.check();
        if kept.load(Ordering::Relaxed) {
            let one = now(stage, &half.second);
            let by = stage.vault().kept_by(one.id, &Silent).unwrap();
            assert!(by.holds.contains("audit"), "moment {moment}: {by:?}");
            match one.id == half.second.run {
                true => before += 1,
                false => after += 1,
            }
        }
    }
    assert!(before > 10 && after > 0, "{before} {after}");
}

/// Killed at any operation on the store, before or after it was done, and run again.
#[test]
fn killed_at_any_moment_no_snapshot_is_lost() {
    let mut last = 0;
    for moment in 0.. {
        let half = half_dead();
        let stage = &half.stage;
        let killed = FaultStore::new(stage.store.clone(), move |operation| {
            match operation.moment >= moment {
                true => Err(Error::new(ErrorKind::Io, "it was killed")),
                false => Ok(()),
            }
        });
        let vault = Vault::open(Arc::new(killed)).map(Arc::new);
        let ended = vault.and_then(|vault| collect(&vault, REWRITING, &Silent));
        half.check();
        for _ in 0..4 {
            stage.pass(25);
            gc(stage);
            half.check();
        }
        let left = (stage.names("condemned"), stage.names("sessions"));
        assert_eq!(left, Default::default(), "{moment}");
        let space = plan_collection(&stage.vault(), REWRITING, &Silent).unwrap();
        assert_eq!(space.rewriting.unwrap().plan.space.dead.0, 0, "{moment}");
        if ended.is_ok() {
            last = moment;
            break;
        }
    }
    assert!(last > 60, "{last}");
}
