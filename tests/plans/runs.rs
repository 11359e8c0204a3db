//! Hosts that look at a plan again and again, for ten years.

use super::times::{CASES, DAY, HALF_PAST_TWO, at, days, edited};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use stillpoint::plan::{
    CUT_OFF_TRIES, Decision, DueRun, HostClock, PRUNE, PlanCase, PlanHealth, PlanRecord, PlanStep,
    PlanTry, SnapshotPlan, StepOutcome, VERIFY, WaitReason,
};

/// A host that looks at its plan again and again.
pub struct Simulated {
    pub plan: SnapshotPlan,
    clock: HostClock,
    pub record: PlanRecord,
    /// How often each time was served.
    served: BTreeMap<i64, usize>,
    failing: bool,
    tries: usize,
}

impl Simulated {
    pub fn new(plan: SnapshotPlan, written: i64) -> Self {
        let plan = SnapshotPlan {
            written: Some(at(written)),
            ..plan
        };
        Self {
            clock: HostClock::of(&plan, "host"),
            record: PlanRecord::new(&plan, at(written)),
            plan,
            served: BTreeMap::new(),
            failing: false,
            tries: 0,
        }
    }

    pub fn case(&self, now: i64) -> PlanCase<'_> {
        PlanCase {
            plan: &self.plan,
            record: &self.record,
            clock: &self.clock,
            now: at(now),
        }
    }

    /// What `plan run --due` does; returns the time that it was for.
    pub fn look(&mut self, now: i64) -> Option<DueRun> {
        let Decision::Now(due) = self.case(now).decide() else {
            return None;
        };
        self.tries += 1;
        let outcome = StepOutcome {
            exit_code: u8::from(self.failing),
            job: None,
            snapshot: None,
            said: String::new(),
            hint: None,
        };
        self.record.last = Some(PlanTry {
            time: Some(due.time),
            number: due.number,
            began: at(now),
            ended: Some(at(now)),
            outcome: Some(outcome),
        });
        if !self.failing {
            *self.served.entry(due.time.as_second()).or_default() += 1;
            self.record.served = Some(due.time);
        }
        Some(due)
    }
}

#[test]
fn no_run_is_lost_and_none_doubled_in_ten_years() {
    for case in &CASES {
        // Each time costs a look: of those that come each hour two years will do.
        let is_often = case.plan().schedule.every.length() < SignedDuration::from_hours(2);
        let by_hand = case.by_hand(if is_often { 2 } else { 10 });
        let (first, last) = (by_hand[0], *by_hand.last().unwrap());
        let mut host = Simulated::new(case.plan(), first - 1);
        // Looks at odd moments; the host is off for a while now and then.
        let mut off = Vec::new();
        let (mut now, mut random) = (first - 10, 1_u64);
        while now <= last {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let step = if is_often { 900 } else { 7200 };
            let step = step + i64::try_from(random >> 54).unwrap();
            let step = if random.is_multiple_of(3000) {
                8 * DAY
            } else {
                step
            };
            if step > DAY {
                off.push((now, now + step));
            }
            now += step;
            host.look(now);
        }
        let shown = format!("{} {:?} {}", case.zone.name(), case.start, case.every);
        assert!(host.served.values().all(|count| *count == 1), "{shown}");
        for pair in by_hand.windows(2) {
            let &[time, next] = pair else { unreachable!() };
            let was_off = off
                .iter()
                .any(|(from, until)| *from < next && *until > time);
            // Of times that passed while it was off, the last one is served.
            assert!(
                host.served.contains_key(&time) || was_off,
                "{shown}: {time} is lost"
            );
        }
        let known: BTreeSet<i64> = by_hand.iter().copied().collect();
        assert!(
            host.served.keys().all(|time| known.contains(time)),
            "{shown}"
        );
    }
}

#[test]
fn a_week_off_is_one_run_late() {
    let case = &CASES[1];
    let by_hand = case.by_hand(1);
    let mut host = Simulated::new(case.plan(), by_hand[0] - 1);
    assert_eq!(host.look(by_hand[0] - 1), None);
    assert_eq!(host.look(by_hand[0]).unwrap().missed, 0);
    let back = by_hand[7] + 3 * 3600;
    let late = host.case(back).health(false);
    assert_eq!(late, PlanHealth::Overdue(at(by_hand[1])));
    let due = host.look(back).unwrap();
    assert_eq!((due.time, due.missed), (at(by_hand[7]), 6));
    assert_eq!(host.case(back).health(false), PlanHealth::Good);
    assert_eq!(host.look(back + 60), None);
    assert_eq!(host.look(by_hand[8] - 1), None);
    assert!(host.look(by_hand[8]).is_some());
}

#[test]
fn clocks_that_jump_lose_nothing_for_longer_than_an_interval() {
    let case = &CASES[1];
    let by_hand = case.by_hand(10);
    let mut host = Simulated::new(case.plan(), by_hand[0] - 1);
    for time in &by_hand[..100] {
        assert!(host.look(*time).is_some());
        // A little back, over the time that was just served: it is served.
        for back in [1, 2, 3600, DAY - 3600] {
            assert_eq!(host.look(time - back), None, "{back}");
        }
    }
    // A year ahead: one run. Right again: one run, and then as ever.
    let here = by_hand[99] + 7200;
    assert!(host.look(here + 365 * DAY).is_some());
    let due = host.look(here).unwrap();
    assert!(due.clock_was_ahead && due.missed == 0, "{due:?}");
    assert_eq!(host.look(here + 60), None);
    for time in &by_hand[100..110] {
        assert!(host.look(*time).is_some());
    }
    // Back to 1970, as without a battery: before the start nothing is owed; then it goes on.
    assert_eq!(host.look(0), None);
    assert!(host.look(by_hand[110] + 5).is_some());
    assert!(host.served.values().filter(|count| **count > 1).count() <= 1);
}

#[test]
fn what_fails_is_tried_again_after_growing_pauses() {
    let case = &CASES[1];
    let by_hand = case.by_hand(1);
    let mut host = Simulated::new(case.plan(), by_hand[0] - 1);
    host.failing = true;
    let mut tried = Vec::new();
    for minute in 0..(24 * 60) {
        if host.look(by_hand[0] + minute * 60).is_some() {
            tried.push(minute);
        }
    }
    assert_eq!(tried, [0, 5, 15, 35, 75, 155, 315, 635, 995, 1355]);
    let late = by_hand[0] + 20 * 3600;
    assert_eq!(
        host.case(late).health(false),
        PlanHealth::Overdue(at(by_hand[0]))
    );
    let soon = host.case(by_hand[0] + 300).health(false);
    assert_eq!(soon, PlanHealth::Failed);
    let last = by_hand[0] + 1400 * 60;
    let Decision::Later(wait) = host.case(last).decide() else {
        panic!("it does not pause");
    };
    assert_eq!(
        (wait.reason, wait.until),
        (WaitReason::Pauses, Some(at(by_hand[1])))
    );
    // The next time is tried anew, and serves both.
    host.failing = false;
    let due = host.look(by_hand[1]).unwrap();
    assert_eq!((due.number, due.missed), (1, 1));
    assert_eq!(host.case(by_hand[1]).health(false), PlanHealth::Good);
}

/// One that was cut off (no end is noted) or stopped by a signal is tried again at once, and no
/// more often than any other.
#[test]
fn what_was_cut_off_is_tried_again_at_once() {
    let case = &CASES[0];
    let by_hand = case.by_hand(1);
    let mut host = Simulated::new(case.plan(), by_hand[0] - 1);
    host.failing = true;
    for number in 1..=CUT_OFF_TRIES {
        let due = host.look(by_hand[0] + i64::from(number)).unwrap();
        assert_eq!(due.number, number);
        let last = host.record.last.as_mut().unwrap();
        if number % 2 == 0 {
            last.ended = None;
            last.outcome = None;
        } else {
            last.outcome.as_mut().unwrap().exit_code = 143;
        }
    }
    assert_eq!(host.look(by_hand[0] + 100), None);
    let health = host.case(by_hand[0] + 100).health(false);
    assert_eq!(health, PlanHealth::Failed);
    assert_eq!(
        host.case(by_hand[0] + 100).health(true),
        PlanHealth::Running
    );
}

#[test]
fn a_window_holds_back_what_is_late_and_is_not_called_overdue_for_it() {
    let first = days(2026, 12, 1) * DAY;
    let plan = edited(|edit| edit.set_text("window", "02:00-04:00"));
    let mut host = Simulated::new(plan, first);
    // The host comes back at nine.
    let nine = first + 9 * 3600;
    assert_eq!(host.look(nine), None);
    let Decision::Later(wait) = host.case(nine).decide() else {
        panic!("it runs outside of its window");
    };
    assert_eq!(wait.reason, WaitReason::OutsideWindow);
    assert_eq!(wait.until, Some(at(first + DAY + 2 * 3600)));
    // It has been owed since 02:30, when it might have begun.
    assert!(host.case(nine).health(false).is_bad());
    assert!(host.look(first + DAY + 2 * 3600).is_some());
    // A time outside of the window is owed from its opening on.
    let plan = edited(|edit| edit.set_text("window", "22:00-23:00"));
    let mut host = Simulated::new(plan, first);
    assert_eq!(host.case(first + 12 * 3600).health(false), PlanHealth::New);
    assert_eq!(host.look(first + 12 * 3600), None);
    let late = host.case(first + 23 * 3600 + 1800).health(false);
    assert_eq!(late, PlanHealth::Overdue(at(first + 22 * 3600)));
    assert!(host.look(first + 22 * 3600).is_some());
}

#[test]
fn jitter_is_a_hosts_own_and_always_the_same() {
    let plan = edited(|edit| edit.set_text("jitter", "1h"));
    let mut later = Vec::new();
    for host in 0..200 {
        let clock = HostClock::of(&plan, &format!("host-{host}"));
        assert_eq!(clock, HostClock::of(&plan, &format!("host-{host}")));
        let shift = clock.later().as_secs();
        assert!((0..3600).contains(&shift));
        let first = clock.next(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            first.as_second(),
            days(2026, 12, 1) * DAY + HALF_PAST_TWO + shift
        );
        assert_eq!(clock.latest(first), Some(first));
        assert_eq!(clock.latest(first - SignedDuration::from_secs(1)), None);
        later.push(shift);
    }
    later.sort_unstable();
    let spread = later[199] - later[0];
    assert!(spread > 3000, "{later:?}");
}

#[test]
fn what_follows_comes_at_its_own_interval() {
    let plan = edited(|edit| {
        edit.set_text("verify.sample", "5%");
        edit.set_text("verify.every", "1w");
        edit.set_text("retention", "30d");
    });
    let first = days(2026, 12, 1) * DAY + HALF_PAST_TWO;
    let mut host = Simulated::new(plan, first - 1);
    let (mut pruned, mut verified) = (0, Vec::new());
    for day in 0..30 {
        // The days' runs begin and end at other moments.
        let now = first + day * DAY + (day * 977) % 3000;
        host.look(now).unwrap();
        for follow_up in host.plan.follow_ups() {
            let Some(due) = host.case(now + 600).follow_up(&follow_up) else {
                continue;
            };
            match follow_up.name {
                PRUNE => pruned += 1,
                _ => verified.push(day),
            }
            let outcome = host.record.last.clone().unwrap().outcome.unwrap();
            let step = PlanStep {
                served: due.0,
                began: at(now),
                outcome,
            };
            host.record.steps.insert(follow_up.name.into(), step);
        }
    }
    assert_eq!((pruned, verified), (30, vec![0, 7, 14, 21, 28]));
    // One that failed makes the plan fail, until the plan has it no more.
    let step = host.record.steps.get_mut(VERIFY).unwrap();
    step.outcome.exit_code = 4;
    let now = first + 29 * DAY + 3000;
    assert_eq!(host.case(now).health(false), PlanHealth::Failed);
    host.plan.verify = None;
    assert_eq!(host.case(now).health(false), PlanHealth::Good);
}

#[test]
fn what_was_held_back_or_changed_owes_nothing_of_before() {
    let plan = edited(|_| ());
    let first = days(2026, 12, 1) * DAY + HALF_PAST_TWO;
    let mut host = Simulated::new(plan.clone(), first - 1);
    host.look(first).unwrap();
    let written = |now: i64, plan: &SnapshotPlan| SnapshotPlan {
        written: Some(at(now)),
        ..plan.clone()
    };
    // Held back for five days.
    let mut held = written(first + 60, &plan);
    held.suspended = true;
    let record = host.record.clone().for_plan(&held, at(first + 100));
    assert!(record.suspended);
    let resumed = written(first + 5 * DAY, &plan);
    let record = record.for_plan(&resumed, at(first + 5 * DAY + 300));
    assert_eq!(record.since, at(first + 5 * DAY));
    host.plan = resumed;
    host.record = record;
    assert_eq!(host.look(first + 5 * DAY + 300), None);
    assert!(host.look(first + 6 * DAY).is_some());
    // Other times: those up to the change are owed to nobody.
    let mut other = written(first + 6 * DAY + 600, &plan);
    other.schedule.every = "1h".parse().unwrap();
    let record = host
        .record
        .clone()
        .for_plan(&other, at(first + 6 * DAY + 900));
    assert_eq!(
        (record.since, record.served),
        (at(first + 6 * DAY + 600), None)
    );
    // The same file, looked at twice, changes nothing more.
    assert_eq!(record.clone().for_plan(&other, at(first + 9 * DAY)), record);
}

/// A file, or a note, that was written while the clock was ahead: one run more, and then as ever.
#[test]
fn what_was_written_by_a_clock_that_was_ahead_keeps_nothing_from_running() {
    let first = days(2026, 12, 1) * DAY + HALF_PAST_TWO;
    let ahead = at(first + 400 * DAY);
    for noted in [false, true] {
        let mut host = Simulated::new(edited(|_| ()), first - DAY);
        host.plan.written = Some(ahead);
        let mut served = 0;
        for hour in 0..240 {
            let now = first + hour * 3600;
            if !noted && host.record.last.is_none() {
                // Nothing was noted yet: each look knows the file alone.
                host.record = PlanRecord::new(&host.plan, at(now));
            } else if noted && hour == 0 {
                host.record.since = ahead;
            }
            served += usize::from(host.look(now).is_some());
        }
        assert_eq!(served, 10, "noted: {noted}");
        assert!(host.served.values().all(|count| *count == 1));
    }
    // Nobody knows when the file was written.
    let mut plan = edited(|_| ());
    plan.written = None;
    let mut host = Simulated::new(plan.clone(), first - DAY);
    host.plan.written = None;
    host.record = PlanRecord::new(&host.plan, at(first + 60));
    let due = host.look(first + 60).unwrap();
    assert_eq!(due.missed, 0);
}
