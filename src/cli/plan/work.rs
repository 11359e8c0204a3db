//! A run of a plan. Each try is noted before it begins and when it has ended, so that one that was
//! cut off is known and tried again. Nothing is deleted after a run that took no snapshot, nor
//! where the clock may have jumped.

use super::super::signals;
use super::here::{Here, on_this_host};
use super::places::PlanPlaces;
use super::steps::StepRunner;
use super::words;
use crate::error::Result;
use crate::model::exit::BELOW;
use crate::plan::{
    Decision, DueOrAsked, HostClock, PRUNE, PlanCase, PlanName, PlanRecord, PlanStep, PlanTry,
    SnapshotPlan, StepOutcome,
};
use crate::report::plan::{FollowedStep, PlanRunEnd};
use jiff::{SignedDuration, Timestamp};

/// A run of a plan.
pub struct PlanWork {
    places: PlanPlaces,
    plan: SnapshotPlan,
    clock: HostClock,
    record: PlanRecord,
    /// Whether the note says the same as `record`.
    is_noted: bool,
    /// What is to be told of it.
    said: Vec<String>,
}

impl PlanWork {
    /// What is known of the plan, of which the caller has the lock.
    pub fn begin(places: PlanPlaces, name: &PlanName) -> Result<Self> {
        let plan = places.folder.plan(name)?;
        let mut said = Vec::new();
        let noted = match places.notes.noted(name) {
            Ok(noted) => noted,
            // Who cannot tell what was done does it once more.
            Err(error) => {
                said.push(format!("{error}: it is written anew"));
                None
            }
        };
        let before = noted.clone();
        let mut record = match noted {
            Some(record) => record.for_plan(&plan, places.now),
            None => PlanRecord::new(&plan, places.now),
        };
        if !said.is_empty() {
            // Nor is it known whether the clock has jumped.
            record.prune_held = Some(places.now);
        }
        Ok(Self {
            clock: HostClock::of(&plan, &places.host),
            is_noted: before.as_ref() == Some(&record),
            places,
            plan,
            record,
            said,
        })
    }

    fn case(&self) -> PlanCase<'_> {
        PlanCase {
            plan: &self.plan,
            record: &self.record,
            clock: &self.clock,
            now: self.places.now,
        }
    }

    /// Runs it if it is due.
    pub fn run_if_due(mut self, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
        let due = match self.case().decide() {
            Decision::Now(due) => due,
            Decision::Later(wait) => {
                // Since when times are owed must not follow a file that is written again and again.
                if !self.is_noted {
                    self.note()?;
                }
                return Ok(PlanRunEnd::Waits(wait));
            }
        };
        if due.clock_was_ahead {
            let told = "what was noted before is of a clock that was ahead: it counts for nothing";
            self.said.push(told.into());
        }
        if due.missed > 0 {
            self.said.push(format!(
                "{} earlier times have passed without a snapshot: this one is for all of them",
                due.missed
            ));
        }
        if due.clock_was_ahead || self.clock_may_have_jumped() {
            self.record.prune_held.get_or_insert(self.places.now);
        }
        self.run(Some(due.time), steps)
    }

    /// Runs it because someone asks for it: with the vault of a flag, that is no run of the plan's
    /// own.
    pub fn run_asked_for(mut self, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
        if steps.vault.is_some() {
            return Ok(self.run_elsewhere(steps));
        }
        // Whoever asks has looked at the clock.
        self.record.prune_held = None;
        let time = match self.case().asked_for() {
            DueOrAsked::Due(time) => Some(time),
            DueOrAsked::Asked => None,
        };
        self.run(time, steps)
    }

    fn run_elsewhere(mut self, steps: &StepRunner<'_>) -> PlanRunEnd {
        let snapshot = self.snapshot(steps);
        self.said.push(
            "the vault of --vault was meant: nothing follows, and the plan's own run is still owed \
             if it was"
                .into(),
        );
        PlanRunEnd::Ran {
            time: None,
            number: 1,
            snapshot,
            followed: Vec::new(),
            said: std::mem::take(&mut self.said),
            unnoted: None,
            next: self.next(),
        }
    }

    /// Whether so much time has passed since the last snapshot, or so little, that the clock may be
    /// wrong. What is deleted by its age must wait for somebody then.
    fn clock_may_have_jumped(&self) -> bool {
        let Some(last) = &self.record.last_good else {
            return false;
        };
        let passed = self.places.now.duration_since(last.began);
        let most = self.clock.interval() * 2 + SignedDuration::from_hours(24);
        passed > most || passed < SignedDuration::ZERO
    }

    fn snapshot(&mut self, steps: &StepRunner<'_>) -> StepOutcome {
        let Here {
            plan,
            gone,
            passed_over,
        } = on_this_host(&self.plan);
        if !passed_over.is_empty() {
            let names = passed_over.join(", ");
            self.said.push(format!(
                "excluded, and not here: {names}; is it called otherwise now?"
            ));
        }
        let mut outcome = steps.run(words::snapshot(&plan, &self.places.machine));
        if !gone.is_empty() && outcome.is_good() {
            let told = format!("{} not here, and left out", gone.join(", "));
            outcome.said = format!("{}; {told}", outcome.said);
            outcome.exit_code = BELOW;
        }
        outcome
    }

    /// Takes the snapshot for `time`, if any is owed, and does what follows.
    fn run(mut self, time: Option<Timestamp>, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
        let before = self.record.last.as_ref();
        let before = before.filter(|last| last.time == time && time.is_some());
        let number = before.map_or(1, |last| last.number.saturating_add(1));
        let mut this = PlanTry {
            time,
            number,
            began: self.places.now,
            ended: None,
            outcome: None,
        };
        self.record.last = Some(this.clone());
        // A run that nobody could note would be begun again and again.
        self.note()?;
        let outcome = self.snapshot(steps);
        this.ended = Some(Timestamp::now());
        this.outcome = Some(outcome.clone());
        let good = this.is_good();
        if good {
            self.record.served = time.or(self.record.served);
            self.record.last_good = Some(this.clone());
        }
        self.record.last = Some(this);
        // What was done is told, whatever becomes of the note; nothing follows without one.
        let mut unnoted = self.note().err();
        let mut followed = Vec::new();
        if good && unnoted.is_none() {
            unnoted = self.follow_up(steps, &mut followed).err();
        }
        let said = std::mem::take(&mut self.said);
        Ok(PlanRunEnd::Ran {
            time,
            number,
            snapshot: outcome,
            followed,
            said,
            unnoted,
            next: self.next(),
        })
    }

    fn follow_up(
        &mut self,
        steps: &StepRunner<'_>,
        followed: &mut Vec<FollowedStep>,
    ) -> Result<()> {
        for follow_up in self.plan.follow_ups() {
            let Some(due) = self.case().follow_up(&follow_up) else {
                continue;
            };
            let words = words::follow_up(&self.plan, follow_up.name, &self.places.machine);
            let Some(words) = words else {
                continue;
            };
            // What a signal has left out is tried after the next snapshot.
            signals::check()?;
            let before = self.record.steps.get(follow_up.name);
            let served = before.and_then(|step| step.served);
            let began = Timestamp::now();
            let prunes = follow_up.name == PRUNE;
            let outcome = match self.record.prune_held.filter(|_| prunes) {
                Some(since) => held_back(self.plan.name.as_str(), since),
                None if prunes && self.places.machine.is_empty() => unlabelled(),
                None => steps.run(words),
            };
            let served = match outcome.is_good() {
                true => due.0.or(served),
                false => served,
            };
            let step = PlanStep {
                served,
                began,
                outcome: outcome.clone(),
            };
            self.record.steps.insert(follow_up.name.to_owned(), step);
            followed.push(FollowedStep {
                name: follow_up.name,
                outcome,
            });
            self.note()?;
        }
        Ok(())
    }

    fn note(&self) -> Result<()> {
        self.places.notes.write(&self.plan.name, &self.record)
    }

    fn next(&self) -> Option<Timestamp> {
        let case = PlanCase {
            now: Timestamp::now(),
            ..self.case()
        };
        match case.decide() {
            Decision::Now(_) => Some(case.now),
            Decision::Later(wait) => wait.until,
        }
    }
}

/// What is said where nothing tells this machine from others.
fn unlabelled() -> StepOutcome {
    StepOutcome {
        exit_code: BELOW,
        job: None,
        snapshot: None,
        said: "nothing is deleted: without /etc/machine-id, and without an ID of the firmware, \
               snapshots of this machine cannot be told from others' of its name"
            .into(),
        hint: Some("systemd-machine-id-setup makes one".into()),
    }
}

/// What is said in place of deleting.
fn held_back(plan: &str, since: Timestamp) -> StepOutcome {
    StepOutcome {
        exit_code: BELOW,
        job: None,
        snapshot: None,
        said: format!(
            "nothing is deleted since {since:.0}: by the clock, much more time had passed than \
             between two runs, or less than none"
        ),
        hint: Some(format!(
            "if the clock is right, `stillpoint plan run {plan}` once, by hand: then it goes on"
        )),
    }
}
