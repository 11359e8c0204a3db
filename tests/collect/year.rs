//! A year of daily snapshots, each of a hundredth of the disk changed, thinned each day, collected
//! each week: how much is stored in the end, of how much that is needed. With
//! `STILLPOINT_TEST_YEAR=DIR` blocks are of 64 KiB, and the vaults stay there to be restored from.

use super::actors::manifest_of;
use super::stage::{GRACE, Stage};
use crate::support::model::Chance;
use crate::support::vaults::{rounds, session_record};
use std::collections::BTreeSet;
use std::path::Path;
use stillpoint::engine::{CollectOptions, RewriteRules, Silent, collect};
use stillpoint::format::{IndexRef, Packed};
use stillpoint::model::{BlockIndex, Bytes, Content, ObjectId, Run, RunMap, SnapshotId};
use stillpoint::store::{Draft, ObjectInfo, ObjectName, ObjectStore, SnapshotRef};

/// How large it is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Blocks of the disk, of which a hundredth changes a day.
    blocks: u64,
    /// Blocks in a segment: a day has five, as one of a larger disk has some.
    slots: usize,
}

impl Shape {
    /// A disk of 256 MiB.
    const SMALL: Self = Self {
        blocks: 4096,
        slots: 8,
    };
    /// Segments of real size take too long here: `engine/rewrite/tests.rs` plays these.
    const LARGER: Self = Self {
        blocks: 32_768,
        slots: 64,
    };
}
/// Index objects of a snapshot before there is a new base.
const PARTS: usize = 32;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const FIRST_MS: u64 = 1_800_000_000_000;

/// What changes.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Any block.
    Random,
    /// Blocks in rows of eight, anywhere.
    Rows,
    /// Four of five times in a fiftieth of the disk.
    Hot,
}

struct Year {
    shape: Shape,
    stage: Stage,
    random: Chance,
    /// Length of a block's bytes.
    length: usize,
    moved: u64,
    /// What was live when it was collected last.
    live: Bytes,
}

fn day_of(snapshot: &SnapshotRef) -> u64 {
    (snapshot.id.unix_ms() - FIRST_MS) / DAY_MS
}

impl Year {
    fn noise(&mut self) -> Vec<u8> {
        let words = (0..self.length / 8).map(|_| self.random.below(u64::MAX).to_le_bytes());
        words.flatten().collect()
    }

    fn changed(&mut self, habit: Habit) -> BTreeSet<u64> {
        let mut blocks = BTreeSet::new();
        let all = self.shape.blocks;
        while blocks.len() < all as usize / 100 {
            let end = match habit {
                Habit::Hot if self.random.below(5) < 4 => all / 50,
                _ => all,
            };
            let start = self.random.below(end);
            match habit {
                Habit::Rows => blocks.extend(start..(start + 8).min(all)),
                _ => drop(blocks.insert(start)),
            }
        }
        blocks
    }

    /// Takes a snapshot of these blocks over the newest one.
    fn snapshot(&mut self, day: u64, blocks: &BTreeSet<u64>) {
        let vault = self.stage.vault();
        let newest = vault.snapshots().unwrap().pop();
        let base: Vec<IndexRef> = newest.map_or_else(Vec::new, |newest| {
            vault.manifest(&newest).unwrap().disks.remove(0).index
        });
        let run = SnapshotId::generate(FIRST_MS + day * DAY_MS);
        let session = vault.begin_session(run, session_record()).unwrap();
        let draft = Draft::begin_in(&vault, session, None);
        let mut delta = RunMap::new();
        let (all, slots) = (self.shape.blocks, self.shape.slots);
        let blocks: Vec<u64> = blocks.iter().copied().collect();
        for some in blocks.chunks(slots) {
            let mut writer = draft.sealer().create_segment(Vec::new()).unwrap();
            for _ in some {
                let mut packed = Packed::default();
                let noise = self.noise();
                let chunk = draft.sealer().encode_chunk(&noise, &mut packed).unwrap();
                writer.push(&chunk, &packed);
            }
            let (segment, bytes) = writer.finish();
            draft.put_segment(segment, bytes.into(), &[]).unwrap();
            for (slot, block) in (0..).zip(some) {
                delta.insert(Run {
                    start: BlockIndex(*block),
                    count: 1,
                    content: Content::Data { segment, slot },
                });
            }
        }
        let index = if base.is_empty() || base.len() >= PARTS {
            let mut map = match base.is_empty() {
                true => RunMap::new(),
                false => vault.load_index(&base, all).unwrap(),
            };
            map.overlay(&delta);
            draft.put_index(&map, all, true).unwrap()
        } else {
            let new = draft.put_index(&delta, all, false).unwrap();
            base.into_iter().chain(new).collect()
        };
        let mut record = manifest_of(&vault, "host", run, &index, all);
        record.disks[0].footers = draft.finish_copies().unwrap();
        draft.commit(&mut record).unwrap();
    }

    /// The newest of each of 7 days, 5 weeks, 12 months.
    fn prune(&self) {
        let vault = self.stage.vault();
        let mut all = vault.snapshots().unwrap();
        all.reverse();
        let mut stay = BTreeSet::new();
        for (most, parts, of) in [(7, 1, 1), (5, 1, 7), (12, 12, 365)] {
            let mut seen = BTreeSet::new();
            for one in &all {
                if seen.len() < most && seen.insert(day_of(one) * parts / of) {
                    stay.insert(one.id);
                }
            }
        }
        let go = all.iter().filter(|one| !stay.contains(&one.id));
        go.for_each(|one| vault.delete(one).unwrap());
    }

    fn gc(&mut self, rewrite: RewriteRules) {
        // A twenty-fifth, as of a vault of more than 25 GiB.
        let live = self.live;
        let rewrite = match rewrite.is_never() {
            true => rewrite,
            false => RewriteRules {
                most_moved: Some(Bytes(live.0 / 25)),
                most_slots: self.shape.slots as u32,
                ..rewrite
            },
        };
        let options = CollectOptions { rewrite, ..GRACE };
        let report = collect(&self.stage.vault(), options, &Silent).unwrap();
        let Some(rewriting) = report.rewriting else {
            return;
        };
        self.moved += rewriting.plan.cost.moved.0 / self.length as u64;
        self.live = rewriting.plan.space.live;
    }

    /// How many chunks are stored, and how many of them some snapshot shows.
    fn chunks(&self) -> (usize, usize) {
        let vault = self.stage.vault();
        let all = self.stage.store.list_all(&ObjectName::segments()).unwrap();
        let id =
            |name: &ObjectName| -> ObjectId { name.components().last().unwrap().parse().unwrap() };
        let slots = |one: &ObjectInfo| vault.footer(id(&one.name)).unwrap().slots().len();
        let stored = all.iter().map(slots);
        let mut live = BTreeSet::new();
        for one in vault.snapshots().unwrap() {
            let index = vault.manifest(&one).unwrap().disks.remove(0).index;
            let map = vault.load_index(&index, self.shape.blocks).unwrap();
            for run in map.iter() {
                if let Content::Data { segment, slot } = run.content {
                    live.extend((0..run.count).map(|more| (segment, slot + more as u32)));
                }
            }
        }
        (stored.sum(), live.len())
    }

    /// Writes the vault into a directory.
    fn keep(&self, path: &Path) {
        for folder in ["vault.json", "segments", "index", "snapshots", "footers"] {
            let folder = ObjectName::parse(folder).unwrap();
            for one in self.stage.store.list_all(&folder).unwrap() {
                let path = path.join(one.name.as_str());
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, self.stage.store.get(&one.name, u64::MAX).unwrap()).unwrap();
            }
        }
    }
}

fn first_day(shape: Shape, length: usize, seed: u64) -> Year {
    let mut year = Year {
        shape,
        stage: Stage::new(),
        random: Chance(seed),
        length,
        moved: 0,
        live: Bytes(shape.blocks * (length as u64 + 24)),
    };
    year.snapshot(0, &(0..shape.blocks).collect());
    year
}

/// How much is stored, of what is live.
struct Stored {
    /// After the year.
    last: f64,
    /// At most after a collection in its second half.
    worst: f64,
}

fn play(shape: Shape, habit: Habit, rewrite: RewriteRules, seed: u64) -> Stored {
    let place = std::env::var_os("STILLPOINT_TEST_YEAR");
    let keep = place.as_ref().map(Path::new);
    let length = if keep.is_some() { 1 << 16 } else { 256 };
    let mut year = first_day(shape, length, seed);
    if let Some(path) = keep {
        year.keep(&path.join("fresh"));
    }
    let mut stored = Stored {
        last: 0.0,
        worst: 0.0,
    };
    for day in 1..=YEAR {
        let blocks = year.changed(habit);
        year.snapshot(day, &blocks);
        year.prune();
        if day % 7 == 0 {
            year.stage.pass(7 * 24);
            year.gc(rewrite);
        }
        if day % 28 == 0 && day > YEAR / 2 {
            let (all, live) = year.chunks();
            stored.last = all as f64 / live as f64;
            stored.worst = stored.worst.max(stored.last);
        }
    }
    let rewrites = !rewrite.is_never();
    let of_disk = year.moved as f64 / shape.blocks as f64;
    let snapshots = year.stage.vault().snapshots().unwrap().len();
    eprintln!(
        "{shape:?}, {habit:?}, seed {seed}, rewriting: {rewrites}: {:.3} after the year (at worst \
         in its second half {:.3}); moved {of_disk:.2} of the disk; {snapshots} snapshots",
        stored.last, stored.worst
    );
    if let Some(path) = keep {
        year.keep(&path.join(format!("{habit:?}-{rewrites}")));
    }
    stored
}

/// 52 weeks: twelve months have snapshots then, and the first one is still there.
const YEAR: u64 = 364;

#[test]
fn after_a_year_little_more_is_stored_than_is_live() {
    let small = Shape::SMALL;
    let plays: &[(Shape, Habit, u64)] = match rounds() {
        1 => &[(small, Habit::Hot, 365)],
        _ => &[
            (small, Habit::Random, 365),
            (small, Habit::Rows, 365),
            (small, Habit::Hot, 1),
            (small, Habit::Hot, 2),
            (small, Habit::Hot, 3),
            (Shape::LARGER, Habit::Hot, 365),
        ],
    };
    for (shape, habit, seed) in plays {
        let without = play(*shape, *habit, RewriteRules::NEVER, *seed);
        let with = play(*shape, *habit, RewriteRules::USUAL, *seed);
        let most = with.last.max(with.worst);
        assert!(most <= 1.15, "{shape:?} {habit:?} {seed}: {most}");
        let gain = without.last - with.last;
        assert!(gain > 0.05, "{shape:?} {habit:?} {seed}: {gain}");
    }
}
