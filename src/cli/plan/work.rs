//! A run of a plan. Each try is noted before it begins and when it has ended, so that one that was
//! cut off is known and tried again. Nothing is deleted after a run that took no snapshot, nor
//! where `may_delete` says so.

use super::super::signals;
use super::clock_word::{ClockAsk, read_clocks};
use super::here::{Here, on_this_host};
use super::may_delete::{DeleteAsk, MayDelete, deletes};
use super::places::PlanPlaces;
use super::steps::StepRunner;
use super::words::{self, FollowedRun, PlanLabels};
use crate::error::Result;
use crate::model::exit::BELOW;
use crate::plan::{
    ClockCase, ClockReading, Decision, DueOrAsked, HostClock, PlanCase, PlanId, PlanName,
    PlanRecord, PlanStep, PlanTry, SnapshotPlan, StepOutcome,
};
use crate::report::plan::{FollowedStep, PlanRunEnd};
use jiff::Timestamp;

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
    /// The clocks when it began.
    begun: Option<ClockReading>,
    /// Whether what was noted before is of a clock that was ahead.
    clock_was_ahead: bool,
}

impl PlanWork {
    /// What is known of the plan, of which the caller has the lock.
    pub fn begin(places: PlanPlaces, name: &PlanName) -> Result<Self> {
        let file = places.folder.settings(name)?;
        let plan = SnapshotPlan::of(name.clone(), &file)?;
        let mut said = Vec::new();
        let noted = noted_with_id(&places, name, &mut said);
        let before = noted.clone();
        let noted = noted.filter(|noted| !noted.is_of_another(&plan, file.hash.as_deref()));
        let is_new = noted.is_none();
        let mut record = match noted {
            Some(record) => record.for_plan(&plan, places.now),
            None => PlanRecord::new(&plan, places.now),
        };
        record.gone_since = None;
        record.file_hash = file.hash;
        if let Some(gone) = before
            .as_ref()
            .filter(|_| is_new)
            .and_then(|one| one.gone_since)
        {
            said.push(format!(
                "its file was gone (since {gone:.0} at least), and another one stands there now"
            ));
            record.id = Some(PlanId::generate());
        }
        if before.as_ref().is_some_and(|before| before.id != record.id) {
            said.push(
                "its ID is another one than was noted: what was taken before stays, and is none of \
                 this plan's"
                    .into(),
            );
        }
        if before.is_none() && record.id.is_none() {
            said.push(
                "no run of it was noted: it deletes what it takes from now on, and nothing that a \
                 plan of its name has taken before"
                    .into(),
            );
            record.id = Some(PlanId::generate());
        }
        Ok(Self {
            begun: read_clocks(),
            clock_was_ahead: false,
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
                if self.case().catches_up() {
                    return self.catch_up(steps);
                }
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
        self.clock_was_ahead = due.clock_was_ahead;
        self.run(Some(due.time), steps)
    }

    /// Runs it because someone asks for it: with the vault of a flag, that is no run of the plan's
    /// own.
    pub fn run_asked_for(mut self, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
        if steps.vault.is_some() {
            return Ok(self.run_elsewhere(steps));
        }
        if steps.clock_is_right {
            self.record.let_go();
        }
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

    fn labels(&self) -> PlanLabels<'_> {
        PlanLabels {
            machine: &self.places.machine,
            id: self.record.id.as_ref(),
        }
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
        let mut outcome = steps.run(words::snapshot(&plan, self.labels()));
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
        (steps.begins)(&self.plan);
        let outcome = self.snapshot(steps);
        this.ended = Some(Timestamp::now());
        this.outcome = Some(outcome.clone());
        let good = this.is_good();
        let may_delete = good.then(|| self.judge(Some(&this), steps));
        if good {
            self.record.served = time.or(self.record.served);
            self.record.last_good = Some(this.clone());
            let since = self.record.below_since.unwrap_or(this.began);
            self.record.below_since = (!outcome.is_as_asked()).then_some(since);
            self.owe();
        }
        self.record.last = Some(this);
        // What was done is told, whatever becomes of the note; nothing follows without one.
        let mut unnoted = self.note().err();
        let mut followed = Vec::new();
        if let Some(may_delete) = may_delete.filter(|_| unnoted.is_none()) {
            unnoted = self.follow_up(steps, &may_delete, &mut followed).err();
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

    /// Notes after a snapshot whether what deletes may be run.
    fn judge(&mut self, taken: Option<&PlanTry>, steps: &StepRunner<'_>) -> MayDelete {
        let may_delete = MayDelete::look(&DeleteAsk {
            plan: &self.plan,
            noted: self.record.vault.as_ref(),
            machine: &self.places.machine,
            common: steps.common,
        });
        self.said
            .extend(may_delete.other_vault().map(str::to_owned));
        self.record.vault = may_delete.own_vault().or(self.record.vault.take());
        let now = read_clocks();
        let mut case = ClockCase {
            begun: self.begun.as_ref(),
            now: now.as_ref(),
            word: self.time_service(steps).word(),
            before: self.record.last_good.as_ref().map(|last| last.began),
            interval: self.clock.interval(),
            was_ahead: self.clock_was_ahead,
        };
        if self.record.asks_for_the_time(&case) {
            let ask = ClockAsk {
                taken,
                ..self.time_service(steps)
            };
            case.word = ask.word();
        }
        self.record.judge_clock(&case);
        may_delete
    }

    /// Who is asked for the time where there is no snapshot to ask the vault about.
    fn time_service<'a>(&'a self, steps: &'a StepRunner<'_>) -> ClockAsk<'a> {
        ClockAsk {
            plan: &self.plan,
            common: steps.common,
            distrust: steps.distrust_clock,
            taken: None,
        }
    }

    /// Notes what is to follow the snapshot, with what was owed before and cut off.
    fn owe(&mut self) {
        let mut owed = std::mem::take(&mut self.record.owed);
        for follow_up in self.plan.follow_ups() {
            if let Some(due) = self.case().follow_up(&follow_up) {
                owed.insert(follow_up.name.to_owned(), due.0);
            }
        }
        self.record.owed = owed;
        self.record.owed_tries = 0;
    }

    /// Does what was cut off after the last snapshot, without another one.
    fn catch_up(mut self, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
        self.said
            .push("what follows the last snapshot was cut off: it is done now".into());
        let taken = self.record.last_good.clone();
        let may_delete = self.judge(taken.as_ref(), steps);
        let mut followed = Vec::new();
        let unnoted = self.follow_up(steps, &may_delete, &mut followed).err();
        Ok(PlanRunEnd::CaughtUp {
            followed,
            said: std::mem::take(&mut self.said),
            unnoted,
            next: self.next(),
        })
    }

    fn follow_up(
        &mut self,
        steps: &StepRunner<'_>,
        may_delete: &MayDelete,
        followed: &mut Vec<FollowedStep>,
    ) -> Result<()> {
        self.record.owed_tries = self.record.owed_tries.saturating_add(1);
        self.note()?;
        for follow_up in self.plan.follow_ups() {
            let Some(due) = self.record.owed.get(follow_up.name).copied() else {
                continue;
            };
            let Some(words) = self.words(follow_up.name) else {
                continue;
            };
            signals::check()?;
            let before = self.record.steps.get(follow_up.name);
            let served = before.and_then(|step| step.served);
            let began = Timestamp::now();
            if deletes(follow_up.name) {
                // Steps before it may have taken hours.
                let word = self.time_service(steps).word();
                self.record.look_again(read_clocks().as_ref(), &word);
            }
            let refused = may_delete.why_not(follow_up.name, &self.plan, &self.record);
            let was_run = refused.is_none();
            let outcome = refused.unwrap_or_else(|| steps.run(words));
            // What must wait was not done for its time.
            let served = match outcome.is_good() && was_run {
                true => due.or(served),
                false => served,
            };
            // What a signal has stopped is still owed.
            if !outcome.is_stopped() {
                self.record.owed.remove(follow_up.name);
                let step = PlanStep {
                    served,
                    began,
                    outcome: outcome.clone(),
                };
                self.record.steps.insert(follow_up.name.to_owned(), step);
            }
            followed.push(FollowedStep {
                name: follow_up.name,
                outcome,
            });
            self.note()?;
        }
        // What the plan has no more is owed to nobody.
        let follow_ups = self.plan.follow_ups();
        let has = |name: &str| follow_ups.iter().any(|one| one.name == name);
        self.record.owed.retain(|name, _| has(name));
        if self.record.owed.is_empty() {
            self.record.owed_tries = 0;
        }
        self.note()
    }

    /// The command of what follows the last snapshot.
    fn words(&self, name: &str) -> Option<Vec<String>> {
        let last = self.record.last_good.as_ref();
        let taken = last.and_then(|last| last.outcome.as_ref());
        let run = FollowedRun {
            labels: self.labels(),
            snapshot: taken.and_then(|outcome| outcome.snapshot.as_deref()),
        };
        words::follow_up(&self.plan, name, run)
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

/// What is noted of a plan, with the ID that an older version of the program has dropped. Who
/// cannot tell what was done does it once more.
fn noted_with_id(
    places: &PlanPlaces,
    name: &PlanName,
    said: &mut Vec<String>,
) -> Option<PlanRecord> {
    let noted = places.notes.noted(name).unwrap_or_else(|error| {
        said.push(format!("{error}: it is written anew"));
        None
    });
    let mut record = noted?;
    if record.id.is_none() {
        record.id = match places.notes.id(name) {
            Ok(id) => id,
            // By its name alone it would reach what an earlier one has taken.
            Err(error) => {
                said.push(format!("{error}: it gets another ID"));
                Some(PlanId::generate())
            }
        };
        if let Some(id) = &record.id {
            said.push(format!(
                "an older version of the program had dropped its ID from the note: it is {id}"
            ));
        }
    }
    Some(record)
}
