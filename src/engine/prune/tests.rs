//! The rules of a retention as an honest user and as an attacker finds them.

use super::*;
use jiff::SignedDuration;
use jiff::civil::date;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::collections::BTreeSet;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// In the first week of 2027, on a Monday.
fn monday() -> i64 {
    let day = date(2027, 1, 4).to_zoned(TimeZone::UTC).unwrap();
    day.timestamp().as_second()
}

/// Cut and received, in seconds, of one disk.
fn candidate(cut: i64, received: i64, groups: &[usize]) -> Candidate {
    Candidate {
        snapshot: SnapshotId::generate(u64::try_from(received).unwrap() * 1000),
        cut: at(cut),
        received: at(received),
        claimed: None,
        groups: groups.iter().copied().map(DiskGroup).collect(),
    }
}

/// One that came a minute after its cut.
fn honest(cut: i64) -> Candidate {
    candidate(cut, cut + 60, &[0])
}

/// Which of them stay.
fn kept(rules: &RetentionRules, all: &[Candidate]) -> Vec<usize> {
    let hits = kept_by_rules(rules, all);
    (0..all.len())
        .filter(|&one| !hits[one].is_empty())
        .collect()
}

fn ids(rules: &RetentionRules, all: &[Candidate]) -> BTreeSet<SnapshotId> {
    let kept = kept(rules, all);
    kept.into_iter().map(|one| all[one].snapshot).collect()
}

const NONE: RetentionRules = RetentionRules {
    last: 0,
    hourly: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    within: None,
};

#[test]
fn each_rule_keeps_what_it_says() {
    // Five within a minute: the newest count.
    let quick: Vec<Candidate> = (0..5).map(|n| honest(monday() + n * 5)).collect();
    assert_eq!(kept(&RetentionRules { last: 2, ..NONE }, &quick), [3, 4]);
    for rules in [
        RetentionRules { hourly: 3, ..NONE },
        RetentionRules { daily: 3, ..NONE },
        RetentionRules { weekly: 3, ..NONE },
        RetentionRules { monthly: 3, ..NONE },
        RetentionRules { yearly: 3, ..NONE },
    ] {
        assert_eq!(kept(&rules, &quick), [4], "{rules:?}");
    }
    // Two a day, at noon and one hour later, for 800 days.
    let noon = monday() + 12 * HOUR;
    let twice = |day: i64| [honest(noon + day * DAY), honest(noon + day * DAY + HOUR)];
    let all: Vec<Candidate> = (0..800).flat_map(twice).collect();
    let days = |rules| -> Vec<usize> { kept(&rules, &all).iter().map(|one| one / 2).collect() };
    assert_eq!(
        kept(&RetentionRules { last: 3, ..NONE }, &all),
        [1597, 1598, 1599]
    );
    assert_eq!(
        kept(&RetentionRules { hourly: 3, ..NONE }, &all),
        [1597, 1598, 1599]
    );
    assert_eq!(
        kept(&RetentionRules { daily: 3, ..NONE }, &all),
        [1595, 1597, 1599]
    );
    // Day 799 is a Tuesday; Sundays are 797, 790.
    assert_eq!(days(RetentionRules { weekly: 3, ..NONE }), [790, 797, 799]);
    // 2029-03-13; the last days of February and January.
    assert_eq!(days(RetentionRules { monthly: 3, ..NONE }), [758, 786, 799]);
    assert_eq!(days(RetentionRules { yearly: 9, ..NONE }), [361, 727, 799]);
    let within = Some(SignedDuration::from_secs(2 * DAY));
    assert_eq!(
        days(RetentionRules { within, ..NONE }),
        [797, 798, 798, 799, 799]
    );
}

#[test]
fn a_snapshot_of_two_disks_stays_while_one_of_them_needs_it() {
    let both = candidate(monday(), monday(), &[0, 1]);
    let one = candidate(monday() + DAY, monday() + DAY, &[0]);
    let rules = RetentionRules { last: 1, ..NONE };
    let hits = kept_by_rules(&rules, &[both, one]);
    assert!(
        hits[0].iter().all(|hit| hit.group == DiskGroup(1)),
        "{hits:?}"
    );
    assert!(!hits[0].is_empty() && hits[1].iter().all(|hit| hit.group == DiskGroup(0)));
}

/// A clock that was wrong, and a place to which all was copied at once, are judged by what is right
/// of both times.
#[test]
fn either_time_is_enough() {
    let rules = RetentionRules { daily: 7, ..NONE };
    // All came within an hour: a mirror. They are judged by their cuts.
    let copied: Vec<Candidate> = (0..20)
        .map(|day| candidate(monday() + day * DAY, monday() + 30 * DAY + day, &[0]))
        .collect();
    assert_eq!(kept(&rules, &copied), (13..20).collect::<Vec<_>>());
    // The clock stood still for two weeks: all say the same day, and one by one they came.
    let still: Vec<Candidate> = (0..20)
        .map(|day| candidate(monday() + day, monday() + day * DAY, &[0]))
        .collect();
    assert_eq!(kept(&rules, &still), (13..20).collect::<Vec<_>>());
}

/// Thousands of snapshots that say any time, by who has got a key to put with: at one moment they
/// take one place of each rule, as an honest one would.
#[test]
fn a_flood_pushes_out_no_more_than_one_snapshot_would() {
    let rules = RetentionRules {
        last: 5,
        hourly: 5,
        daily: 7,
        weekly: 5,
        monthly: 6,
        ..NONE
    };
    let noon = monday() + 12 * HOUR;
    let real: Vec<Candidate> = (0..300).map(|day| honest(noon + day * DAY)).collect();
    // Three in the morning of the next day.
    let now = noon + 299 * DAY + 15 * HOUR;
    let one_more = [real.clone(), vec![honest(now)]].concat();
    let expected: BTreeSet<usize> = kept(&rules, &one_more).into_iter().collect();
    for (what, cut) in [
        ("now", Box::new(|n: i64| now + n) as Box<dyn Fn(i64) -> i64>),
        ("the future", Box::new(|n| now + n * DAY)),
        ("the past", Box::new(|n| now - n * HOUR / 2)),
        (
            "right after each real one",
            Box::new(|n| noon + (n % 300) * DAY + HOUR),
        ),
        (
            "the beginning and the end of time",
            Box::new(|n| (n % 2) * (now * 5)),
        ),
    ] {
        let fakes = (0..3000).map(|n| candidate(cut(n), now + n % 600, &[0]));
        let all = [real.clone(), fakes.collect()].concat();
        let kept: BTreeSet<usize> = kept(&rules, &all).into_iter().collect();
        let lost: Vec<_> = expected
            .iter()
            .filter(|one| **one < 300 && !kept.contains(one))
            .collect();
        assert!(lost.is_empty(), "{what}: {lost:?}");
        let fakes = kept.iter().filter(|one| **one >= 300).count();
        assert!(fakes <= 5 + 5 + 7 + 5 + 6 + 5, "{what}: {fakes} fakes stay");
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let times = (
        0..40 * DAY,
        -3 * DAY..3 * DAY,
        prop_oneof![Just(60), 0..40 * DAY],
    );
    let one = (times, prop::collection::btree_set(0_usize..3, 1..3));
    let one = one.prop_map(|((cut, wrong, lag), groups)| {
        let groups: Vec<usize> = groups.into_iter().collect();
        let wrong = if wrong % 4 == 0 { wrong } else { 0 };
        candidate(monday() + cut + wrong, monday() + cut + lag, &groups)
    });
    prop::collection::vec(one, 0..60)
}

fn with_another_order(
    all: Vec<Candidate>,
) -> impl Strategy<Value = (Vec<Candidate>, Vec<Candidate>)> {
    (Just(all.clone()), Just(all).prop_shuffle())
}

fn rules() -> impl Strategy<Value = RetentionRules> {
    let counts = prop::array::uniform6(prop_oneof![Just(0_u32), 0..5_u32]);
    (counts, prop::option::of(0..10 * DAY)).prop_map(|(counts, within)| {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        let within = within.map(SignedDuration::from_secs);
        RetentionRules {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
        }
    })
}

fn sum(one: &RetentionRules, two: &RetentionRules) -> RetentionRules {
    RetentionRules {
        last: one.last + two.last,
        hourly: one.hourly + two.hourly,
        daily: one.daily + two.daily,
        weekly: one.weekly + two.weekly,
        monthly: one.monthly + two.monthly,
        yearly: one.yearly + two.yearly,
        within: one.within.max(two.within),
    }
}

/// Says of each copy what the test says.
struct Said {
    good: BTreeSet<usize>,
    fuzzy: BTreeSet<usize>,
    below: BTreeSet<usize>,
}

impl Goodness for Said {
    fn is_fuzzy(&self, copy: DiskCopy) -> bool {
        self.fuzzy.contains(&copy.at)
    }

    fn is_below(&self, copy: DiskCopy) -> bool {
        self.below.contains(&copy.at)
    }

    fn is_good(&mut self, copy: DiskCopy) -> crate::error::Result<bool> {
        Ok(self.good.contains(&copy.at))
    }
}

/// What stays by the rules, and because it is the last good one.
fn stays(rules: &RetentionRules, all: &[Candidate], said: &mut Said) -> BTreeSet<SnapshotId> {
    let hits = kept_by_rules(rules, all);
    let goes: Vec<bool> = hits.iter().map(Vec::is_empty).collect();
    let last = last_good(all, &goes, said).unwrap();
    let by_rules = (0..all.len()).filter(|&one| !goes[one]);
    let last = last.good.into_iter().chain(last.as_asked);
    let stay: BTreeSet<usize> = by_rules.chain(last.map(|copy| copy.at)).collect();
    stay.into_iter().map(|one| all[one].snapshot).collect()
}

/// Those of `all` with these names, and the same of places.
fn part(all: &[Candidate], said: &Said, of: impl Fn(usize) -> bool) -> (Vec<Candidate>, Said) {
    let places: Vec<usize> = (0..all.len()).filter(|&one| of(one)).collect();
    let again = |set: &BTreeSet<usize>| {
        let places = places.iter().enumerate();
        places
            .filter(|(_, old)| set.contains(old))
            .map(|(new, _)| new)
            .collect()
    };
    let said = Said {
        good: again(&said.good),
        fuzzy: again(&said.fuzzy),
        below: again(&said.below),
    };
    (places.iter().map(|&one| all[one].clone()).collect(), said)
}

/// Hooks that are broken for a month push out nothing that is sure; a level that was lowered on
/// purpose does.
#[test]
fn copies_below_what_was_asked_do_not_push_out_the_last_one_that_is_not() {
    let all: Vec<Candidate> = (0..30).map(|day| honest(monday() + day * DAY)).collect();
    let rules = RetentionRules { last: 7, ..NONE };
    let mut said = Said {
        good: (0..30).collect(),
        fuzzy: BTreeSet::new(),
        below: (10..30).collect(),
    };
    let places = |stay: BTreeSet<SnapshotId>| -> Vec<usize> {
        let places = (0..30).filter(|one| stay.contains(&all[*one].snapshot));
        places.collect()
    };
    let by_rules: Vec<usize> = (23..30).collect();
    let mut with_last = by_rules.clone();
    with_last.insert(0, 9);
    assert_eq!(places(stays(&rules, &all, &mut said)), with_last);
    // It is damaged: the one before.
    said.good.remove(&9);
    with_last[0] = 8;
    assert_eq!(places(stays(&rules, &all, &mut said)), with_last);
    said.below.clear();
    assert_eq!(places(stays(&rules, &all, &mut said)), by_rules);
    // Where none by the rules is good, the newest stays, and not an old one in its place.
    let rules = RetentionRules { last: 1, ..NONE };
    said.below = (10..30).collect();
    said.good = [5, 20].into();
    assert_eq!(places(stays(&rules, &all, &mut said)), [5, 20, 29]);
}

proptest! {
    /// Twice is as good as once, and so is going on after a kill: what stays does not depend on
    /// what goes.
    #[test]
    fn what_stays_does_not_depend_on_what_goes(
        all in candidates(), rules in rules(), some in prop::collection::vec(any::<bool>(), 60),
        good in prop::collection::btree_set(0_usize..60, 0..60),
        fuzzy in prop::collection::btree_set(0_usize..60, 0..60),
        below in prop::collection::btree_set(0_usize..60, 0..60),
    ) {
        let mut said = Said { good, fuzzy, below };
        let first = stays(&rules, &all, &mut said);
        let left = |one: usize| first.contains(&all[one].snapshot) || some[one];
        let (killed, mut said) = part(&all, &said, left);
        prop_assert_eq!(&stays(&rules, &killed, &mut said), &first);
    }

    #[test]
    fn more_rules_and_larger_numbers_never_remove_more(
        all in candidates(), one in rules(), two in rules(),
    ) {
        let few = ids(&one, &all);
        let many = ids(&sum(&one, &two), &all);
        prop_assert!(few.is_subset(&many), "{:?}", few.difference(&many));
    }

    #[test]
    fn it_does_not_matter_in_which_order_they_are(
        (all, other) in candidates().prop_flat_map(with_another_order),
        rules in rules(),
    ) {
        prop_assert_eq!(ids(&rules, &all), ids(&rules, &other));
    }

    /// Any rule keeps the newest of each disk; and a good one stays where there is one.
    #[test]
    fn no_disk_is_left_without_a_good_snapshot(
        all in candidates(), rules in rules(),
        good in prop::collection::btree_set(0_usize..60, 0..60),
        fuzzy in prop::collection::btree_set(0_usize..60, 0..60),
        below in prop::collection::btree_set(0_usize..60, 0..60),
    ) {
        let mut said = Said { good, fuzzy, below };
        let stay = stays(&rules, &all, &mut said);
        for group in (0..3).map(DiskGroup) {
            let of_it = || (0..all.len()).filter(|&one| all[one].groups.contains(&group));
            let is_clear = |one: &usize| said.good.contains(one) && !said.fuzzy.contains(one);
            let is_as_asked = |one: &usize| is_clear(one) && !said.below.contains(one);
            let stayed = |one: &usize| stay.contains(&all[*one].snapshot);
            let kinds: [&dyn Fn(&usize) -> bool; 3] =
                [&is_clear, &is_as_asked, &|one| said.good.contains(one)];
            for is_good in kinds {
                let there = of_it().any(|one| is_good(&one));
                let left = of_it().filter(stayed).any(|one| is_good(&one));
                prop_assert_eq!(there, left);
            }
            // Where nothing is good, nothing goes.
            if !of_it().any(|one| said.good.contains(&one)) {
                prop_assert!(of_it().all(|one| stayed(&one)));
            }
        }
    }

    /// Whatever comes between two moments, of whatever times: of what was there before stays what
    /// would stay if an honest host had taken one each hour meanwhile.
    #[test]
    fn nobody_pushes_out_more_than_a_snapshot_an_hour_would(
        real in prop::collection::vec(0..40 * DAY, 0..40),
        flood in prop::collection::vec((-100 * DAY..100 * DAY, 0.0..1.0), 0..80),
        lasts in 0..30 * HOUR, rules in rules(),
    ) {
        // Both times say the same of them.
        let come = |cut: &i64| candidate(monday() + cut, monday() + cut, &[0]);
        let real: Vec<Candidate> = real.iter().map(come).collect();
        let begin = monday() + 41 * DAY;
        let fakes = flood.iter().map(|(cut, part)| {
            let received = begin + (lasts as f64 * part) as i64;
            candidate(begin + cut, received, &[0])
        });
        // One each hour, and one at the end.
        let hours = (0..lasts).step_by(HOUR as usize).chain([0, lasts]);
        let meanwhile = hours.map(|after| candidate(begin + after, begin + after, &[0]));
        let as_honest = [real.clone(), meanwhile.collect()].concat();
        let as_flooded = [real.clone(), fakes.collect()].concat();
        let hits = kept_by_rules(&rules, &as_honest);
        let stay = ids(&rules, &as_flooded);
        for (one, hits) in real.iter().zip(hits) {
            let counts = |hit: &RuleHit| {
                hit.by == ByTime::Received || hit.rule != RetentionRule::Last
            };
            if hits.iter().any(counts) {
                prop_assert!(stay.contains(&one.snapshot), "{one:?}: {hits:?}");
            }
        }
    }
}
