//! What of a plan must wait as the clock may be wrong: it is noted from run to run. It must never
//! end by one run alone on the same clock.

use super::record::PlanRecord;
use super::trust::{ClockCase, ClockGoing, ClockReading, ClockWord, HoldReason, SteadyRuns};
use jiff::{SignedDuration, Timestamp};

/// So many runs on a steady clock in a row, and so much time, end what a jump began.
pub const STEADY_RUNS: u32 = 3;
const STEADY_TIME: SignedDuration = SignedDuration::from_hours(72);
/// The same where a time service says all the while that the clock is right: one that was misled is
/// put right within a day, or somebody has noticed.
const KEPT_RUNS: u32 = 2;
const KEPT_TIME: SignedDuration = SignedDuration::from_hours(24);

impl PlanRecord {
    /// Whether it matters what others than a time service say of the time.
    pub fn asks_for_the_time(&self, case: &ClockCase<'_>) -> bool {
        let is_steady = matches!(case.going(self.clock.as_ref()), ClockGoing::Steady);
        self.prune_held.is_some() || !is_steady
    }

    /// Notes whether what deletes may go on after a run that took a snapshot.
    pub fn judge_clock(&mut self, case: &ClockCase<'_>) {
        let going = case.going(self.clock.as_ref());
        let now = case.now.map_or(self.since, |now| now.wall);
        match (&case.word, going) {
            (ClockWord::Agreed, _) => self.let_go(),
            (ClockWord::Wrong(_), _) => self.hold(HoldReason::Disputed, now),
            (_, ClockGoing::Jumped) => self.hold(HoldReason::Jumped, now),
            // It was off for long, or its notes are lost; or there is nothing to end.
            (ClockWord::Right, _)
                if self.prune_held.is_none() || self.hold_reason == HoldReason::Unnoted =>
            {
                self.let_go();
            }
            (ClockWord::Right, _) => self.count_steady(now, KEPT_RUNS, KEPT_TIME),
            (ClockWord::Nobody, ClockGoing::Away) => self.hold(HoldReason::Jumped, now),
            (ClockWord::Nobody, ClockGoing::Unknown) => self.hold(HoldReason::Unnoted, now),
            (ClockWord::Nobody, ClockGoing::Steady) => {
                self.count_steady(now, STEADY_RUNS, STEADY_TIME);
            }
        }
        if let Some(now) = case.now {
            self.clock = Some(now.clone());
        }
    }

    /// Notes that what deletes must wait, where the clock has jumped since it was judged: steps
    /// between may have taken hours.
    pub fn look_again(&mut self, now: Option<&ClockReading>, word: &ClockWord) {
        let judged = self.clock.as_ref();
        let in_step = now
            .zip(judged)
            .and_then(|(now, judged)| now.in_step(judged));
        if in_step != Some(true) && *word != ClockWord::Agreed {
            let at = now.map_or(self.since, |now| now.wall);
            self.hold(HoldReason::Jumped, at);
        }
        self.clock = now.cloned();
    }

    /// Lets go what waits.
    pub fn let_go(&mut self) {
        self.prune_held = None;
        self.steady = None;
    }

    fn hold(&mut self, reason: HoldReason, now: Timestamp) {
        let was_held = self.prune_held.is_some();
        self.prune_held.get_or_insert(now);
        // What was told stays told where nobody knows more.
        if !(was_held && reason == HoldReason::Unnoted) {
            self.hold_reason = reason;
        }
        self.steady = Some(SteadyRuns {
            since: now,
            runs: 0,
        });
    }

    fn count_steady(&mut self, now: Timestamp, runs: u32, time: SignedDuration) {
        if self.prune_held.is_none() {
            return;
        }
        let steady = self.steady.get_or_insert(SteadyRuns {
            since: now,
            runs: 0,
        });
        steady.runs = steady.runs.saturating_add(1);
        let long = now.duration_since(steady.since) >= time;
        if steady.runs >= runs && long {
            self.let_go();
        }
    }
}
