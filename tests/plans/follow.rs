//! Ten years of what follows snapshots on an interval of its own, against another implementation:
//! no time of it is lost, and none is served twice.

use super::runs::Simulated;
use super::times::{CASES, Case, DAY, at};
use std::collections::BTreeMap;
use stillpoint::plan::{DRILL, FollowUp, PlanStep, SnapshotPlan, StepOutcome};

/// A number that looks like chance, below `bound`.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn with_drill(case: &Case, every: &str) -> SnapshotPlan {
    let mut plan = case.plan();
    let drill = super::times::edited(|edit| edit.set_text("drill.every", every)).drill;
    assert!(drill.is_some());
    plan.drill = drill;
    plan
}

/// What the other implementation knows of a drill.
struct ByHand {
    times: Vec<i64>,
    served: Option<i64>,
}

impl ByHand {
    /// The time for which it is to be done after a snapshot that is taken now.
    fn due(&self, now: i64) -> Option<i64> {
        let passed = self.times.partition_point(|time| *time <= now);
        let latest = *self.times.get(passed.checked_sub(1)?)?;
        self.served
            .is_none_or(|served| served < latest)
            .then_some(latest)
    }
}

fn step(served: Option<i64>, now: i64, exit_code: u8) -> PlanStep {
    PlanStep {
        served: served.map(at),
        began: at(now),
        outcome: StepOutcome {
            exit_code,
            job: None,
            snapshot: None,
            said: String::new(),
            hint: None,
        },
    }
}

#[test]
fn drills_of_ten_years_are_those_of_another_implementation() {
    let cases = CASES.iter().filter(|case| !case.every.ends_with('m'));
    for case in cases {
        let often = case.every == "1h";
        let years = if often { 2 } else { 10 };
        for every in ["20h", "1d", "1w", "4w"] {
            let mut chance = Chance(case.start.iter().sum::<i64>().unsigned_abs());
            let other = Case::new(case.zone, case.start, every);
            let mut hand = ByHand {
                times: other.by_hand(years),
                served: None,
            };
            let mut host = Simulated::new(with_drill(case, every), hand.times[0] - 1);
            let mut good: BTreeMap<i64, usize> = BTreeMap::new();
            for time in case.by_hand(years) {
                // The host is off now and then, and looks a while after the time.
                if chance.below(40) == 0 {
                    continue;
                }
                let now = time + chance.below(1800);
                host.look(now).unwrap();
                let [one]: [FollowUp; 1] = host.plan.follow_ups().try_into().unwrap();
                assert_eq!(one.name, DRILL);
                let due = host.case(now).follow_up(&one);
                let due = due.map(|due| due.0.unwrap().as_second());
                let shown = format!("{} {:?} {every}: {now}", case.zone.name(), case.start);
                assert_eq!(due, hand.due(now), "{shown}");
                let Some(due) = due else { continue };
                // What fails is due again after the next snapshot.
                let fails = chance.below(5) == 0;
                if !fails {
                    *good.entry(due).or_default() += 1;
                    hand.served = Some(due);
                }
                let step = step(hand.served, now, u8::from(fails));
                host.record.steps.insert(DRILL.into(), step);
            }
            assert!(good.values().all(|count| *count == 1));
            assert!(good.len() > 20, "{every}");
        }
    }
}

/// What is noted of a clock that was ahead keeps no drill from being done.
#[test]
fn a_clock_that_was_ahead_loses_no_drill() {
    let case = &CASES[0];
    let first = case.by_hand(1)[0];
    let mut host = Simulated::new(with_drill(case, "1w"), first - 1);
    let [one]: [FollowUp; 1] = host.plan.follow_ups().try_into().unwrap();
    let ahead = first + 400 * DAY;
    let noted = step(Some(ahead), ahead, 0);
    host.record.steps.insert(DRILL.into(), noted);
    let due = host.case(first + 60).follow_up(&one).unwrap();
    assert_eq!(due.0, Some(at(first)));
}
