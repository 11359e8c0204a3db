//! Whoever holds a key to put with, and wants others' snapshots gone by the next prune.

use super::*;
use stillpoint::model::{Level, ObjectId};

const HOUR: i64 = 60 * 60;

/// What an honest user asks for.
fn usual() -> RetentionRules {
    RetentionRules {
        last: 3,
        hourly: 4,
        daily: 7,
        weekly: 4,
        monthly: 3,
        ..RetentionRules::default()
    }
}

/// A vault with one snapshot a day, the newest a few hours old, and what must stay of them: what
/// would stay if the host had taken one more.
struct Victim {
    world: World,
    real: BTreeSet<SnapshotId>,
    must: BTreeSet<SnapshotId>,
}

impl Victim {
    fn new() -> Self {
        let world = World::new();
        let days = (0..120).rev();
        let days = days.map(|day| world.put(ago(5 * HOUR + day * DAY), |_| ()));
        let real: BTreeSet<SnapshotId> = days.collect();
        let one_more = world.put(ago(0), |_| ());
        let plan = world.plan(usual());
        let staying = plan.judged.iter().filter(|one| !one.goes());
        let mut must: BTreeSet<SnapshotId> = staying.map(|one| one.snapshot.id).collect();
        let found = world.vault.find(&one_more.to_string()).unwrap();
        world.vault.delete(&found).unwrap();
        must.remove(&one_more);
        // By how days, weeks and months fall: on each hour of six years, 9 to 12 of them.
        assert!((9..=12).contains(&must.len()), "{}", must.len());
        Self { world, real, must }
    }

    /// All that must stay is there after a prune, and after the next one.
    /// Returns how many fakes are left.
    fn survives(&self, what: &str) -> usize {
        for _ in 0..2 {
            let left = self.world.prune(usual());
            let lost: Vec<_> = self.must.difference(&left).collect();
            assert!(lost.is_empty(), "{what}: {} are lost", lost.len());
        }
        self.world.left().difference(&self.real).count()
    }

    /// So many fakes that came just now, with cuts so long ago.
    fn flood(&self, count: i64, cut: impl Fn(i64) -> i64, change: impl Fn(&mut Manifest)) {
        for n in 0..count {
            let when = Ago {
                cut: cut(n),
                received: n % 600,
            };
            self.world.put(when, &change);
        }
    }
}

#[test]
fn a_flood_of_any_claimed_time_pushes_nothing_out() {
    for (what, cut) in [
        ("now", Box::new(|n: i64| n) as Box<dyn Fn(i64) -> i64>),
        ("one a day in the future", Box::new(|n| -n * DAY)),
        ("every half hour of the past", Box::new(|n| n * HOUR / 2)),
        (
            "an hour after each real one",
            Box::new(|n| 4 * HOUR + (n % 120) * DAY),
        ),
        ("the year 9000", Box::new(|n| -6974 * 365 * DAY - n)),
    ] {
        let victim = Victim::new();
        victim.flood(1500, cut, |_| ());
        let fakes = victim.survives(what);
        assert!(fakes < 30, "{what}: {fakes} fakes stay");
    }
}

type Change = Box<dyn Fn(&mut Manifest)>;

/// Also where each fake looks as if no disk could be better off.
#[test]
fn fakes_of_all_sorts_push_nothing_out() {
    let lost = ObjectId::generate();
    let sorts: [(&str, Change); 4] = [
        (
            "one disk alone",
            Box::new(|manifest| manifest.disks.truncate(1)),
        ),
        (
            "of no one instant",
            Box::new(|manifest| {
                manifest.level = Level::Fuzzy;
                manifest
                    .disks
                    .iter_mut()
                    .for_each(|disk| disk.level = Level::Fuzzy);
            }),
        ),
        (
            "of an index that is not there",
            Box::new(move |manifest| {
                for (disk, n) in manifest.disks.iter_mut().zip(0..) {
                    let mut id = lost;
                    id.0[0] = n;
                    disk.index.iter_mut().for_each(|part| part.id = id);
                }
            }),
        ),
        (
            "with a third disk",
            Box::new(|manifest| {
                let mut disk = manifest.disks[0].clone();
                disk.identity.name = "vdc".into();
                disk.index[0].id = ObjectId::generate();
                manifest.disks.push(disk);
            }),
        ),
    ];
    for (what, change) in sorts {
        let victim = Victim::new();
        victim.flood(400, |n| -n * HOUR, change);
        let fakes = victim.survives(what);
        // Of a disk of their own, of which none is good, nothing goes: that costs room alone.
        assert_eq!(
            fakes > 60,
            what == "with a third disk",
            "{what}: {fakes} fakes stay"
        );
    }
}

/// A key that may put may put below any host's name. What stays of one host does not depend on
/// what there is of others.
#[test]
fn snapshots_of_other_hosts_change_nothing() {
    let victim = Victim::new();
    let honest = victim.world.plan(usual());
    victim.flood(300, |n| n * HOUR, |manifest| manifest.host = "other".into());
    let plan = victim.world.plan(usual());
    let stay = |plan: &PrunePlan| -> BTreeSet<SnapshotId> {
        let own = plan
            .judged
            .iter()
            .filter(|one| one.host == "host" && !one.goes());
        own.map(|one| one.snapshot.id).collect()
    };
    assert_eq!(stay(&plan), stay(&honest));
}

/// A flood for hours and days is as good as one snapshot each hour.
#[test]
fn a_flood_that_lasts_takes_an_hour_at_a_time() {
    let victim = Victim::new();
    let world = &victim.world;
    // For two hours before now: three hours' places, and no day's, week's or month's besides.
    for n in 0..1000 {
        let when = Ago {
            cut: -n * DAY,
            received: n * 7,
        };
        world.put(when, |_| ());
    }
    let left = world.prune(usual());
    let newest: Vec<_> = victim.real.iter().rev().take(7).copied().collect();
    for day in &newest[..6] {
        assert!(left.contains(day), "six days of seven stay");
    }
}

/// A run while the clock of host and vault was a year ahead: when it is right again, what came
/// before by far stays as if that run had not been, with a rule of any kind; and what comes next
/// is not deleted at once. Where the clock is behind, all stays.
#[test]
fn a_clock_that_was_ahead_pushes_nothing_out() {
    let within = RetentionRules {
        within: Some(seconds(30 * DAY)),
        ..RetentionRules::default()
    };
    let last = RetentionRules {
        last: 1,
        ..RetentionRules::default()
    };
    for rules in [within, last, usual()] {
        let world = World::new();
        let real = world.days(20);
        let must: BTreeSet<SnapshotId> = {
            let plan = world.plan(rules);
            let staying = plan.judged.iter().filter(|one| !one.goes());
            staying.map(|one| one.snapshot.id).collect()
        };
        let ahead = world.put(ago(-400 * DAY), |_| ());
        let left = world.prune(rules);
        assert!(must.is_subset(&left), "{rules:?}");
        assert!(left.contains(&ahead) && left.contains(real.last().unwrap()));
        assert_eq!(left.len(), must.len() + 1, "{rules:?}");
        let next = world.put(ago(-60), |_| ());
        assert!(world.prune(rules).contains(&next), "{rules:?}");
        let behind = RetentionOptions {
            now: world.now - seconds(500 * DAY),
            ..world.options(rules)
        };
        let before = world.left();
        prune(&world.vault, &behind).unwrap();
        assert_eq!(world.left(), before, "{rules:?}");
    }
}

/// The word of somebody that real segments are damaged takes nothing from what the rules keep.
#[test]
fn false_words_of_damage_push_nothing_out() {
    use stillpoint::format::DamagedChunks;
    let victim = Victim::new();
    let world = &victim.world;
    let mut damage = DamagedChunks::default();
    let segments = world.store.list_all(&ObjectName::segments()).unwrap();
    for segment in segments {
        let id = segment.name.components().last().unwrap().parse().unwrap();
        damage.add(id, None);
    }
    let known = world.vault.known_damage().unwrap();
    world.vault.note_damage(&known, &damage).unwrap();
    victim.flood(300, |n| -n * HOUR, |_| ());
    let left = world.prune(usual());
    // None is known to be good, so none of them goes at all.
    assert!(victim.real.is_subset(&left));
}

/// A collector says in a manifest when the store got the name before. So can anybody.
#[test]
fn false_times_of_receipt_push_nothing_out() {
    type Claim = fn(i64) -> i64;
    let sorts: [(&str, Claim); 3] = [
        ("when each real one came", |n| 5 * HOUR + (n % 120) * DAY),
        ("a minute after each of them", |n| {
            5 * HOUR + (n % 120) * DAY - 60
        }),
        ("each half hour before", |n| n * HOUR / 2),
    ];
    for (what, claimed) in sorts {
        let victim = Victim::new();
        let now = victim.world.now;
        for n in 0..1500 {
            let when = Ago {
                cut: claimed(n),
                received: n % 600,
            };
            victim.world.put(when, |manifest| {
                manifest.rewrites = vec![manifest.snapshot.successor()];
                manifest.received = Some(now - seconds(claimed(n)));
            });
        }
        let fakes = victim.survives(what);
        assert!(fakes < 40, "{what}: {fakes} fakes stay");
    }
}

/// One that is true keeps what it would have kept before it got another name.
#[test]
fn what_was_renamed_stays_as_long_as_before() {
    let world = World::new();
    let now = world.now;
    let days: Vec<SnapshotId> = (0..60)
        .map(|day| {
            let came = ago(day * DAY);
            if day % 2 == 0 {
                return world.put(came, |_| ());
            }
            let renamed = Ago {
                received: 60,
                ..came
            };
            world.put(renamed, |manifest| {
                manifest.rewrites = vec![manifest.snapshot.successor()];
                manifest.received = Some(now - seconds(came.received));
            })
        })
        .collect();
    let left = world.prune(daily(7));
    assert!(left.is_superset(&set(&days[..7])), "{}", left.len());
    // By the times without claims seven more days may stay, and no more.
    assert!(left.is_subset(&set(&days[..14])), "{}", left.len());
}
