//! Two places of one vault, in both of which snapshots get other names: what comes to the other is
//! sent once, names of one snapshot become one, and both come to rest, whatever has happened.

use super::rewriting::{Chunks, REWRITING, done, gc, half_dead, listed, shown};
use super::stage::{BLOCKS, Done, GRACE, Stage};
use crate::support::model::Chance;
use crate::support::vaults::rounds;
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::engine::{MirrorReport, Silent, collect, mirror, plan_collection, plan_mirror};
use stillpoint::format::{Manifest, Packed};
use stillpoint::model::{BlockIndex, Content, Run, RunMap, SnapshotId};
use stillpoint::store::{
    Draft, FaultStore, KeepTerm, MemoryStore, ObjectName, ObjectStore, SnapshotRef, Vault,
};

pub fn second_of(first: &Stage) -> Stage {
    let store = Arc::new(MemoryStore::one_at_a_time());
    Vault::create_second(store.clone(), &first.vault()).unwrap();
    Stage { store }
}

pub fn send(from: &Stage, to: &Stage) -> MirrorReport {
    let source = from.vault();
    let report = mirror(&source, &to.vault(), &source.snapshots().unwrap(), &Silent).unwrap();
    assert!(
        report.damaged.is_empty() && report.wrong.is_empty(),
        "{report:?}"
    );
    report
}

/// What may be at work in two places.
struct TwoPlaces {
    places: [Stage; 2],
    random: Chance,
    /// By the common part of its names, what each snapshot shows.
    shows: BTreeMap<SnapshotId, Chunks>,
    clock: u64,
}

impl TwoPlaces {
    fn new(seed: u64) -> Self {
        let first = Stage::new();
        let second = second_of(&first);
        Self {
            places: [first, second],
            random: Chance(seed),
            shows: BTreeMap::new(),
            clock: 1_800_000_000_000,
        }
    }

    /// A snapshot over the newest one that is there.
    fn snapshot(&mut self, place: usize) {
        let stage = &self.places[place];
        let vault = stage.vault();
        let parent = vault.snapshots().unwrap().pop().map(|newest| {
            let index = vault.manifest(&newest).unwrap().disks.remove(0).index;
            let map = vault.load_index(&index, BLOCKS).unwrap();
            Done {
                run: newest.id,
                map,
                index,
            }
        });
        self.clock += 60_000;
        let run = SnapshotId::generate(self.clock);
        let mut run = stage.begin_as(vault, run, parent.as_ref());
        let count = 1 + self.random.below(5);
        let blocks: BTreeSet<u64> = (0..count).map(|_| self.random.below(BLOCKS)).collect();
        let blocks: Vec<u64> = match parent {
            None => (0..BLOCKS).collect(),
            Some(_) => blocks.into_iter().collect(),
        };
        run.put_together(&blocks);
        let done = run.commit().unwrap();
        let one = stage.vault().find(&done.run.to_string()).unwrap();
        self.shows
            .insert(done.run.common_part(), shown(stage, &one));
    }

    fn delete(&mut self, place: usize) {
        let all = listed(&self.places[place]);
        if all.len() < 3 {
            return;
        }
        let pick = &all[self.random.below(all.len() as u64 - 1) as usize];
        // All its names, as a prune does.
        let akin = all.iter().filter(|one| one.id.is_akin_to(pick.id));
        let vault = self.places[place].vault();
        akin.for_each(|one| vault.delete(one).unwrap());
    }

    fn send(&self, from: usize) -> usize {
        send(&self.places[from], &self.places[1 - from]).sent.len()
    }

    fn anything(&mut self) {
        let place = self.random.below(2) as usize;
        match self.random.below(12) {
            0..3 => self.snapshot(0),
            3 => self.snapshot(place),
            4 | 5 => self.delete(place),
            6 | 7 => drop(gc(&self.places[place])),
            8 | 9 => drop(self.send(place)),
            _ => self.places.iter().for_each(|stage| stage.pass(30)),
        }
    }

    fn check(&self, what: &str) {
        for stage in &self.places {
            for one in listed(stage) {
                assert_eq!(
                    shown(stage, &one),
                    self.shows[&one.id.common_part()],
                    "{what}"
                );
            }
        }
    }

    fn all(&self) -> [BTreeSet<ObjectName>; 2] {
        [0, 1].map(|place| self.places[place].all())
    }
}

#[test]
fn both_come_to_rest_and_nothing_grows_without_new_snapshots() {
    let (mut renamed, mut longest) = (0, 0);
    for seed in 0..40 * u64::from(rounds()) {
        let mut two = TwoPlaces::new(seed);
        two.snapshot(0);
        for _ in 0..40 {
            two.anything();
        }
        two.check(&format!("seed {seed}, at work"));
        let mut before = two.all();
        let mut rest = None;
        for turn in 0..24 {
            two.places.iter().for_each(|stage| stage.pass(30));
            for place in [0, 1] {
                renamed += done(gc(&two.places[place])).renamed.len();
            }
            let sent = two.send(0) + two.send(1);
            let now = two.all();
            if now == before && sent == 0 {
                rest = Some(turn);
                break;
            }
            before = now;
        }
        let Some(turn) = rest else {
            panic!("seed {seed} goes on: {:#?}", two.all());
        };
        longest = longest.max(turn);
        two.check(&format!("seed {seed}, at rest"));
        let names = |stage: &Stage| -> Vec<SnapshotId> {
            listed(stage)
                .iter()
                .map(|one| one.id.common_part())
                .collect()
        };
        let [here, there] = [&two.places[0], &two.places[1]].map(names);
        assert_eq!(
            here, there,
            "seed {seed}: each place has each snapshot, under one name"
        );
        let once: BTreeSet<SnapshotId> = here.iter().copied().collect();
        assert_eq!(once.len(), here.len(), "seed {seed}: {here:?}");
    }
    eprintln!("{renamed} names at rest, {longest} turns at most");
    assert!(renamed > 0, "nothing was renamed while they came to rest");
}

/// The names of a place, by their first part.
pub fn ids(stage: &Stage) -> BTreeSet<SnapshotId> {
    listed(stage).iter().map(|one| one.id).collect()
}

#[test]
fn a_successor_comes_with_what_is_new_and_its_old_name_goes() {
    let half = half_dead();
    let second = second_of(&half.stage);
    assert_eq!(send(&half.stage, &second).sent.len(), 2);
    let (old, before) = (ids(&second), half.stage.all());
    assert_eq!(done(gc(&half.stage)).renamed.len(), 2);
    let new = ids(&half.stage);
    let made = half.stage.all();
    let made: BTreeSet<_> = made.difference(&before).cloned().collect();
    let had = second.all();
    let report = send(&half.stage, &second);
    assert_eq!(report.sent.len(), 2, "{report:?}");
    // Of the source just what was made anew; of what it had before nothing comes twice.
    let came: BTreeSet<_> = second.all().difference(&had).cloned().collect();
    assert!(came.is_subset(&made), "{came:?} {made:?}");
    assert_eq!(report.objects, came.len() as u64, "{report:?}");
    assert_eq!(ids(&second), &old | &new);
    let told = plan_collection(&second.vault(), REWRITING, &Silent).unwrap();
    assert_eq!(told.rewriting.unwrap().plan.old_names(), 2);
    // Who has not asked for it touches no name.
    collect(&second.vault(), GRACE, &Silent).unwrap();
    assert_eq!(ids(&second), &old | &new);
    let renamed = done(gc(&second)).renamed;
    let gone: BTreeSet<SnapshotId> = renamed.iter().map(|one| one.old).collect();
    assert_eq!((gone, ids(&second)), (old, new));
    for (here, there) in listed(&half.stage).iter().zip(listed(&second)) {
        assert_eq!(shown(&half.stage, here), shown(&second, &there));
    }
    let report = send(&half.stage, &second);
    assert_eq!((report.there, report.sent.len()), (2, 0), "{report:?}");
}

#[test]
fn what_has_gone_another_way_there_stays_as_it_is() {
    let half = half_dead();
    let second = second_of(&half.stage);
    send(&half.stage, &second);
    second.pass(60);
    for stage in [&half.stage, &second] {
        assert_eq!(done(gc(stage)).renamed.len(), 2);
    }
    let before = second.all();
    for (from, to) in [(&half.stage, &second), (&second, &half.stage)] {
        assert!(ids(from).is_disjoint(&ids(to)));
        let source = from.vault();
        let all = source.snapshots().unwrap();
        let planned = plan_mirror(&source, Some(&to.vault()), &all, &Silent).unwrap();
        for report in [planned, send(from, to)] {
            assert_eq!((report.there, report.objects), (2, 0), "{report:?}");
        }
    }
    assert_eq!(second.all(), before);
}

/// Both have other names in the second place, where something is amiss.
fn sent_in_spite_of(amiss: impl Fn(&Stage, &SnapshotRef)) -> usize {
    let half = half_dead();
    let second = second_of(&half.stage);
    send(&half.stage, &second);
    second.pass(60);
    gc(&half.stage);
    gc(&second);
    amiss(&second, &listed(&second)[1]);
    send(&half.stage, &second).sent.len()
}

#[test]
fn a_name_there_that_is_not_whole_or_says_something_else_keeps_nothing_out() {
    assert_eq!(sent_in_spite_of(|_, _| ()), 0);
    let lacks = |stage: &Stage, one: &SnapshotRef| {
        let vault = stage.vault();
        let index = vault.manifest(one).unwrap().disks.remove(0).index;
        let map = vault.load_index(&index, BLOCKS).unwrap();
        let Some(Content::Data { segment, .. }) = map.get(BlockIndex(1)) else {
            panic!("{map:?}");
        };
        stage.store.delete(&ObjectName::segment(segment)).unwrap();
    };
    assert_eq!(sent_in_spite_of(lacks), 1);
    let lies = |stage: &Stage, one: &SnapshotRef| {
        let vault = stage.vault();
        let mut manifest = vault.manifest(one).unwrap();
        manifest.tags.insert("a".into(), "lie".into());
        let bytes = manifest.encode(vault.sealer()).unwrap();
        stage
            .store
            .replace(one.manifest_name(), bytes.into())
            .unwrap();
    };
    assert_eq!(sent_in_spite_of(lies), 1);
}

/// Who may put in the source has a false successor sent first: what is there itself is sent, too.
#[test]
fn a_false_successor_keeps_nothing_out_while_the_source_has_both() {
    let half = half_dead();
    let second = second_of(&half.stage);
    let false_one = forge(&half.stage, half.third.run, Forged::Zeros);
    let source = half.stage.vault();
    let first: Vec<SnapshotRef> = listed(&half.stage)
        .into_iter()
        .filter(|one| one.id == false_one)
        .collect();
    mirror(&source, &second.vault(), &first, &Silent).unwrap();
    assert_eq!(ids(&second), BTreeSet::from([false_one]));
    assert_eq!(send(&half.stage, &second).sent.len(), 2);
    assert!(ids(&second).contains(&half.third.run));
}

/// What is false of one that says that it is a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forged {
    /// Its map leads to zeros.
    Zeros,
    /// It leads to other chunks, as long as the right ones.
    OtherChunks,
    /// The footer that it leads to has the right hashes, and the chunks are something else.
    SameHashes,
    /// It says something else, of the same chunks.
    OtherWords,
    /// Nothing, but it came much later, which by the store's time would be when the snapshot came.
    CameLater,
}

/// Puts a manifest that says that it is a successor.
fn forge(stage: &Stage, id: SnapshotId, forged: Forged) -> SnapshotId {
    let vault = stage.vault();
    let one = vault.find(&id.to_string()).unwrap();
    let mut manifest: Manifest = vault.manifest(&one).unwrap();
    let map = vault.load_index(&manifest.disks[0].index, BLOCKS).unwrap();
    let draft = Draft::begin(&vault);
    let mut false_map = RunMap::new();
    for run in map.iter() {
        let content = match run.content {
            same if matches!(forged, Forged::OtherWords | Forged::CameLater) => same,
            Content::Data { segment, slot } if forged != Forged::Zeros => {
                let sealer = draft.sealer();
                let mut writer = sealer.create_segment(Vec::new()).unwrap();
                let mut packed = Packed::default();
                for at in 0..run.count as u32 {
                    packed.clear();
                    let mut hash = vault.chunk(segment, slot + at).unwrap().hash;
                    if forged == Forged::OtherChunks {
                        hash = sealer.hash_of(&[9; 76]);
                    }
                    let chunk = sealer.encode_hashed(&[9; 76], hash, &mut packed).unwrap();
                    writer.push(&chunk, &packed);
                }
                let (segment, bytes) = writer.finish();
                stage
                    .store
                    .put(&ObjectName::segment(segment), bytes.into())
                    .unwrap();
                Content::Data { segment, slot: 0 }
            }
            _ => Content::Zero,
        };
        false_map.insert(Run { content, ..run });
    }
    manifest.disks[0].index = draft.put_index(&false_map, BLOCKS, true).unwrap();
    if forged == Forged::OtherWords {
        manifest.tags.insert("a".into(), "lie".into());
    }
    manifest.rename(id.successor());
    draft.commit(&mut manifest).unwrap();
    manifest.snapshot
}

#[test]
fn no_name_goes_on_a_manifests_word() {
    for (forged, why) in [
        (Forged::Zeros, "something else"),
        (Forged::OtherChunks, "something else"),
        (Forged::SameHashes, "segment"),
        (Forged::OtherWords, "do not say the same"),
        (Forged::CameLater, "when it came"),
    ] {
        let half = half_dead();
        let stage = &half.stage;
        let false_one = forge(stage, half.third.run, forged);
        stage.pass(60);
        if forged == Forged::CameLater {
            let name = ObjectName::manifest("host", half.third.run);
            stage.store.age(&name, SignedDuration::from_hours(60));
        }
        let report = done(gc(stage));
        assert!(ids(stage).is_superset(&BTreeSet::from([half.third.run, false_one])));
        let told = report.warnings.join("\n");
        assert!(told.contains(&false_one.to_string()), "{report:?}");
        assert!(told.contains(why), "{forged:?}: {report:?}");
        let one = stage.vault().find(&half.third.run.to_string()).unwrap();
        assert_eq!(shown(stage, &one), half.shown[1]);
    }
}

/// A collector that may not delete this, and all else.
fn gc_without(
    stage: &Stage,
    forbidden: impl Fn(&ObjectName) -> bool + Send + Sync + 'static,
) -> stillpoint::Result<stillpoint::engine::CollectReport> {
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        match operation.verb == "delete" && forbidden(operation.name) {
            true => Err(stillpoint::Error::new(
                ErrorKind::Unsupported,
                "it is not permitted",
            )),
            false => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    collect(&vault, REWRITING, &Silent)
}

#[test]
fn who_may_not_delete_names_makes_no_new_ones() {
    let half = half_dead();
    let stage = &half.stage;
    let before = ids(stage);
    let is_name = |name: &ObjectName| name.as_str().starts_with("snapshots/");
    let error = gc_without(stage, is_name).unwrap_err().to_string();
    assert!(
        error.contains("names of snapshots cannot be deleted"),
        "{error}"
    );
    assert_eq!(ids(stage), before);
    // The right is taken away after it was asked for: one stands twice, and stays the only one.
    let real = before.clone();
    let is_one = move |name: &ObjectName| {
        let id = name.components().last().and_then(|id| id.parse().ok());
        is_name(name) && id.is_some_and(|id: SnapshotId| real.contains(&id))
    };
    gc_without(stage, is_one.clone()).unwrap_err();
    let twice = ids(stage);
    assert_eq!(twice.len(), 3, "{twice:?}");
    for _ in 0..3 {
        stage.pass(30);
        gc_without(stage, is_one.clone()).unwrap_err();
        assert_eq!(ids(stage), twice);
    }
    assert_eq!(done(gc(stage)).renamed.len(), 1);
    half.check();
    assert_eq!(ids(stage).len(), 2);
}

#[test]
fn an_old_name_that_somebody_keeps_stays() {
    let half = half_dead();
    let stage = &half.stage;
    let before = ids(stage);
    let real = before.clone();
    gc_without(stage, move |name| {
        let id = name.components().last().and_then(|id| id.parse().ok());
        id.is_some_and(|id: SnapshotId| real.contains(&id))
    })
    .unwrap_err();
    let twice = ids(stage);
    let old = listed(stage).into_iter().find(|one| {
        before.contains(&one.id) && twice.iter().filter(|id| id.is_akin_to(one.id)).count() == 2
    });
    let vault = stage.vault();
    let old = old.unwrap();
    vault
        .put_keep(&old, KeepTerm::Hold("audit".into()), "test")
        .unwrap();
    let report = done(gc(stage));
    assert!(report.warnings.join(" ").contains("keeps it"), "{report:?}");
    assert_eq!(ids(stage), twice);
    vault.release(old.id, "audit", &Silent).unwrap();
    gc(stage);
    assert!(!ids(stage).contains(&old.id));
    half.check();
}
