//! What of a plan must wait as the clock may be wrong: it is noted from run to run. It must never
//! end by one run alone on the same clock.

use super::record::PlanRecord;
use super::trust::{ClockCase, ClockGoing, ClockReading, ClockWord, HoldReason, SteadyRuns};
use jiff::{SignedDuration, Timestamp};

/// So many runs on a steady clock in a row, and so much time, end what a jump began.
pub const STEADY_RUNS: u32 = 3;
const STEADY_TIME: SignedDuration = SignedDuration::from_hours(72);

impl PlanRecord {
    /// Notes whether what deletes may go on after a run that took a snapshot.
    pub fn judge_clock(&mut self, case: &ClockCase<'_>) {
        let going = case.going(self.clock.as_ref());
        let now = case.now.map_or(self.since, |now| now.wall);
        match (&case.word, going) {
            (ClockWord::Right, _) => self.let_go(),
            (ClockWord::Wrong(_), _) => self.hold(HoldReason::Disputed, now),
            (ClockWord::Nobody, ClockGoing::Jumped) => self.hold(HoldReason::Jumped, now),
            (ClockWord::Nobody, ClockGoing::Unknown) => self.hold(HoldReason::Unnoted, now),
            (ClockWord::Nobody, ClockGoing::Steady) => self.count_steady(now),
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
        if in_step != Some(true) && *word != ClockWord::Right {
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
        self.prune_held.get_or_insert(now);
        self.hold_reason = reason;
        self.steady = Some(SteadyRuns {
            since: now,
            runs: 0,
        });
    }

    fn count_steady(&mut self, now: Timestamp) {
        if self.prune_held.is_none() {
            return;
        }
        let steady = self.steady.get_or_insert(SteadyRuns {
            since: now,
            runs: 0,
        });
        steady.runs = steady.runs.saturating_add(1);
        let long = now.duration_since(steady.since) >= STEADY_TIME;
        if steady.runs >= STEADY_RUNS && long {
            self.let_go();
        }
    }
}
