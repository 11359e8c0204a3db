//! Plans: what a host snapshots by itself, when, and what follows. Their files, their times, what
//! is noted of their runs, and whether one is due. It must never run anything, and does not know
//! the command line.

mod clock;
mod decide;
mod edit;
mod file;
mod folder;
mod hold;
mod interval;
mod name;
mod record;
mod retention;
mod schedule;
mod trust;
mod unit_files;
mod units;
mod window;

pub use clock::{HostClock, Owed};
pub use decide::{
    CUT_OFF_TRIES, Decision, DueOrAsked, DueRun, FollowUpDue, PlanCase, PlanHealth, PlanWait,
    WaitReason,
};
pub use edit::PlanEdit;
pub use file::{
    DRILL, FollowUp, GC, MIRROR, NamedZone, PRUNE, PlanDisks, PlanDrill, PlanMirror, PlanVerify,
    SnapshotPlan, VERIFY, parse_start, parse_zone,
};
pub use folder::{MOST_PLANS, PlanFolder, PlanNotes};
pub use hold::STEADY_RUNS;
pub use interval::{Interval, IntervalStep};
pub use name::{PlanId, PlanName};
pub use record::{NotedVault, PlanRecord, PlanStep, PlanTry, StepOutcome};
pub use retention::{PlanRetention, parse_days};
pub use schedule::Schedule;
pub use trust::{ClockCase, ClockReading, ClockWord, HoldReason, SteadyRuns};
pub use unit_files::{PlanUnits, UnitFolder, UnitState};
pub use units::{UnitContext, UnitNames, calendar, service_text, timer_text};
pub use window::DayWindow;

/// The folder of root's notes of runs, unless another is named.
pub const DEFAULT_NOTES: &str = "/var/lib/stillpoint/plans";
