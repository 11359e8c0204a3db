//! A plan with what is noted of it and how it stands.

use super::places::PlanPlaces;
use crate::error::{Error, Result};
use crate::plan::{HostClock, PlanName, PlanRecord, SnapshotPlan};
use crate::report::plan::{PlanRunner, SeenPlan, UnreadPlan};

/// Looks at the plan of that name. A note that cannot be read is told, and counts as none.
pub fn look(places: &PlanPlaces, name: &PlanName) -> Result<SeenPlan> {
    let plan = places.folder.plan(name)?;
    let (record, unread) = match places.notes.noted(name) {
        Ok(Some(record)) => (record.for_plan(&plan, places.now), None),
        Ok(None) => (PlanRecord::new(&plan, places.now), None),
        Err(error) => (PlanRecord::new(&plan, places.now), Some(error)),
    };
    seen(places, plan, record, unread)
}

fn seen(
    places: &PlanPlaces,
    plan: SnapshotPlan,
    record: PlanRecord,
    unread: Option<Error>,
) -> Result<SeenPlan> {
    let running = places.notes.is_running(&plan.name)?;
    Ok(SeenPlan {
        file: places.folder.file(&plan.name),
        clock: HostClock::of(&plan, &places.host),
        now: places.now,
        running,
        runner: PlanRunner::Cron(cron_line(&plan)),
        plan,
        record,
        unread,
    })
}

/// All plans, and the files that hold none.
pub fn look_at_all(places: &PlanPlaces) -> Result<(Vec<SeenPlan>, Vec<UnreadPlan>)> {
    let (mut seen, mut unread) = (Vec::new(), Vec::new());
    for name in places.folder.names()? {
        let shown = name.as_ref().ok().map(ToString::to_string);
        match name.and_then(|name| look(places, &name)) {
            Ok(one) => seen.push(one),
            Err(error) => unread.push(UnreadPlan { name: shown, error }),
        }
    }
    Ok((seen, unread))
}

/// What runs all plans that are due where there is no systemd: all in one, so that two plans need
/// no two lines.
fn cron_line(plan: &SnapshotPlan) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "stillpoint".into());
    let program = program.display();
    let minutes = plan.schedule.every.length() < jiff::SignedDuration::from_hours(1);
    let often = if minutes { "*" } else { "*/15" };
    format!("{often} * * * * root {program} plan run --due")
}
