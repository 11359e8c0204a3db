//! Thousands of schedules, each by its seed: writers, who deletes, and collectors at once, on a
//! store whose listings are late, with clocks that differ by hours, kills and sleepers. And the
//! same with one rule broken: each is found.

use super::actors::{Notes, Writer, delete_one, prune_some};
use super::world::{Broken, Who, World, pace};
use crate::support::vaults::{rounds, vault_options};
use jiff::SignedDuration;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stillpoint::engine::{CollectOptions, CollectPace, RewriteRules, Silent, collect_at};
use stillpoint::format::{BlockDedup, VaultInfo};
use stillpoint::store::{ObjectName, Vault, VaultOptions};

/// How many are played, times `STILLPOINT_TEST_ROUNDS`.
const SCHEDULES: u64 = 150;

/// Everybody who is at work.
struct Cast {
    world: Arc<World>,
    writers: Mutex<Vec<Writer>>,
    notes: Vec<Notes>,
    next: AtomicU32,
    collecting: AtomicU32,
    rewrites: AtomicBool,
    /// Somebody changes now and then whether writers refer to what others have put.
    changes: bool,
}

impl Cast {
    fn new(seed: u64, broken: Broken) -> Arc<Self> {
        let world = World::new(seed, broken);
        // In every third one writers refer to what any other has put, in every third some do.
        let dedup = match seed % 3 {
            0 => BlockDedup::Disk,
            _ => BlockDedup::Vault,
        };
        let options = VaultOptions {
            dedup,
            ..vault_options()
        };
        Vault::create(world.of(Who::Deleter), options).unwrap();
        Arc::new(Self {
            world,
            writers: Mutex::default(),
            notes: vec![Notes::default(), Notes::default()],
            next: AtomicU32::new(0),
            collecting: AtomicU32::new(0),
            rewrites: AtomicBool::new(true),
            changes: seed % 3 == 2,
        })
    }

    fn hours(&self, most: u64) {
        let hours = self.world.below(most) as i64;
        self.world.pass(SignedDuration::from_hours(hours));
    }

    /// Somebody does something.
    fn anything(&self) {
        match self.world.below(40) {
            0..20 => self.a_writer(),
            20..24 if self.writers.lock().unwrap().len() < 6 => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let host = self.world.below(2) as usize;
                let (world, notes) = (&self.world, self.notes[host].clone());
                let new = Writer::new(world, number, format!("host{host}"), notes);
                self.writers.lock().unwrap().extend(new);
            }
            24..26 => delete_one(&self.world),
            26..30 => self
                .world
                .pass(SignedDuration::from_mins(self.world.below(30) as i64)),
            30..32 => self.hours(6),
            32 => self.hours(30),
            33..36 => self.collect(),
            36 => prune_some(&self.world),
            37..39 if self.changes => self.change_word(),
            _ => {}
        }
    }

    /// Whoever may write changes `vault.json`; who has begun goes on by what it has read.
    fn change_word(&self) {
        let store = self.world.of(Who::Deleter);
        let info = Vault::open(Arc::clone(&store)).unwrap().info().clone();
        let dedup = match info.dedup {
            BlockDedup::Disk => BlockDedup::Vault,
            BlockDedup::Vault => BlockDedup::Disk,
        };
        let bytes = VaultInfo { dedup, ..info }.encode().unwrap();
        store
            .replace(&ObjectName::vault_info(), bytes.into())
            .unwrap();
        self.world.tell(&format!("vault.json says {dedup} now"));
    }

    fn a_writer(&self) {
        let count = self.writers.lock().unwrap().len() as u64;
        if count == 0 {
            return;
        }
        let place = self.world.below(count) as usize;
        // Whoever is in the middle of something is not asked for more.
        let mut one = self.writers.lock().unwrap().swap_remove(place);
        if one.step() {
            self.writers.lock().unwrap().push(one);
        }
    }

    /// A whole collection, between whose operations others are at work; it may be killed.
    fn collect(&self) {
        if self.collecting.load(Ordering::Relaxed) >= 2 {
            return;
        }
        self.collecting.fetch_add(1, Ordering::Relaxed);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let who = Who::Collector(number);
        let options = CollectOptions {
            grace: SignedDuration::from_hours(1 + self.world.below(24) as i64),
            rewrite: match self.rewrites.load(Ordering::Relaxed) {
                true => RewriteRules {
                    tolerated: 0,
                    most_live: 90,
                    ..RewriteRules::USUAL
                },
                false => RewriteRules::NEVER,
            },
        };
        let wait = |long: Duration| {
            if self.world.others_are_at_work() && self.world.below(10) == 0 {
                self.anything();
            }
            let for_listings = long >= Duration::from_secs(15 * 60);
            if self.world.broken != Broken::NoWait || !for_listings {
                self.world.pass(SignedDuration::try_from(long).unwrap());
            }
            Ok(())
        };
        let pace = CollectPace {
            session: pace(),
            wait: &wait,
        };
        self.world.tell(&format!("collector {number} begins"));
        let done = Vault::open(self.world.of(who))
            .map(Arc::new)
            .and_then(|vault| collect_at(&pace, &vault, options, &Silent));
        let said = done.map(|report| report.earlier.len());
        self.world
            .tell(&format!("collector {number} ends: {said:?}"));
        self.collecting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Plays a schedule; what was lost, if anything was.
    fn play(self: &Arc<Self>) -> Option<String> {
        let (cast, world) = (Arc::downgrade(self), Arc::downgrade(&self.world));
        self.world.set_turn(Some(Box::new(move || {
            let (Some(cast), Some(world)) = (cast.upgrade(), world.upgrade()) else {
                return;
            };
            if world.below(200) == 0 {
                // Whichever collector is at work.
                let next = cast.next.load(Ordering::Relaxed);
                let dead = (0..next).map(Who::Collector);
                world.state().dead.extend(dead);
            }
            cast.anything();
        })));
        for _ in 0..70 {
            self.anything();
            if self.world.state().lost.is_some() {
                break;
            }
        }
        self.world.set_turn(None);
        self.world.state().lost.clone()
    }

    /// When all have ended, nothing is left that nobody needs.
    fn settle(&self) {
        let writers = std::mem::take(&mut *self.writers.lock().unwrap());
        for one in &writers {
            one.fall_dead();
        }
        drop(writers);
        for turn in 0..12 {
            // What was rewritten last is to go, too.
            self.rewrites.store(turn < 5, Ordering::Relaxed);
            self.world.pass(SignedDuration::from_hours(30));
            self.collect();
        }
        let lost = self.world.state().lost.clone();
        assert!(lost.is_none(), "{lost:?}");
        let manifests = self.world.names("snapshots/");
        let reported = self.world.state().reported.clone();
        let unreported = manifests
            .iter()
            .filter(|name| !reported.contains_key(*name));
        if unreported.count() > 0 {
            // Killed after the manifest was put: it needs what nobody here knows of.
            return;
        }
        let needed: BTreeSet<ObjectName> = reported.into_values().flatten().collect();
        let there = |folder: &str| self.world.names(folder).into_iter();
        let left: BTreeSet<ObjectName> = there("segments/").chain(there("index/")).collect();
        let kept: BTreeSet<_> = left.difference(&needed).collect();
        // A reported snapshot's index objects may name segments that its map does not lead to.
        assert!(kept.is_empty(), "{kept:?}\n{}", told(self));
        assert!(self.world.names("condemned/").is_empty());
        assert!(self.world.names("sessions/").is_empty());
    }
}

fn told(cast: &Cast) -> String {
    cast.world.state().told.join("\n")
}

#[test]
fn no_schedule_loses_a_block_of_a_reported_snapshot() {
    let (mut reported, mut deleted, mut shared, mut renamed) = (0, 0, 0, 0);
    let started = std::time::Instant::now();
    for seed in 0..SCHEDULES * u64::from(rounds()) {
        let cast = Cast::new(seed, Broken::Nothing);
        let lost = cast.play();
        assert!(lost.is_none(), "seed {seed}: {lost:?}\n{}", told(&cast));
        cast.settle();
        if seed % 100 == 0 {
            eprintln!("{seed} schedules after {:?}", started.elapsed());
        }
        reported += cast.world.state().reported.len();
        let told = told(&cast);
        deleted += told.matches("deletes segments/").count();
        shared += told.matches("of others are reported").count();
        renamed += told.matches(" is Some(").count();
    }
    eprintln!(
        "{reported} snapshots stood at the end, {deleted} segments were deleted, {shared} \
         snapshots were reported with segments that others had put, {renamed} times a snapshot \
         got another name"
    );
    assert!(reported > 100 && deleted > 300, "{reported} {deleted}");
    assert!(shared > 50 && renamed > 100, "{shared} {renamed}");
}

/// How many schedules it takes until the broken rule is seen.
fn found_after(broken: Broken) -> Option<u64> {
    let seeds = (0..1500).filter(|seed| broken != Broken::TakesBackUnshared || seed % 3 == 2);
    let mut seeds = seeds.enumerate();
    let found = seeds.find(|(_, seed)| Cast::new(*seed, broken).play().is_some());
    found.map(|(tried, _)| tried as u64)
}

#[test]
fn each_rule_that_is_broken_is_found() {
    for broken in [
        Broken::NoHeed,
        Broken::NoAsk,
        Broken::OldManifests,
        Broken::NoSessions,
        Broken::NoWait,
        Broken::TakesBack,
        Broken::TakesBackUnshared,
    ] {
        let after = found_after(broken);
        eprintln!("{broken:?}: found by schedule {after:?}");
        assert!(after.is_some(), "{broken:?} is not found");
    }
}
