//! A plan with what is noted of it and how it stands.

use super::super::args::Common;
use super::places::PlanPlaces;
use super::systemd::{Systemd, runner};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{HostClock, PlanName, PlanRecord};
use crate::report::plan::{SeenPlan, UnreadPlan};
use std::collections::BTreeSet;

/// The plans of this host.
pub struct PlansFound {
    pub seen: Vec<SeenPlan>,
    /// Files that hold none.
    pub unread: Vec<UnreadPlan>,
}

/// Looks at all plans of this host.
pub fn look_at_plans(common: &Common) -> Result<PlansFound> {
    look_at_all(&PlanPlaces::of(common), common)
}

/// The same without asking what runs them.
pub fn look_without_timers(common: &Common) -> Result<PlansFound> {
    let systemd = None;
    look_with_ask(&PlanPlaces::of(common), &LookAsk { common, systemd })
}

/// Looks at the plan of that name. A note that cannot be read is told, and counts as none.
pub fn look(places: &PlanPlaces, name: &PlanName, common: &Common) -> Result<SeenPlan> {
    let systemd = Systemd::here(common);
    look_with(places, name, &LookAsk { common, systemd })
}

/// What is asked about each plan.
struct LookAsk<'a> {
    common: &'a Common,
    systemd: Option<Systemd>,
}

fn look_with(places: &PlanPlaces, name: &PlanName, ask: &LookAsk<'_>) -> Result<SeenPlan> {
    let plan = places.folder.plan(name)?;
    let (record, unread) = match places.notes.noted(name) {
        Ok(Some(record)) => (record.for_plan(&plan, places.now), None),
        Ok(None) => (PlanRecord::new(&plan, places.now), None),
        Err(error) => (PlanRecord::new(&plan, places.now), Some(error)),
    };
    let running = places.notes.is_running(&plan.name)?;
    Ok(SeenPlan {
        file: places.folder.file(&plan.name),
        clock: HostClock::of(&plan, &places.host),
        now: places.now,
        running,
        runner: runner(&plan, places, ask.systemd.as_ref(), ask.common),
        record,
        unread,
        plan,
    })
}

/// All plans, and the files that hold none.
pub fn look_at_all(places: &PlanPlaces, common: &Common) -> Result<PlansFound> {
    // One that does not answer is asked once, and not for each plan.
    let systemd = Systemd::here(common);
    look_with_ask(places, &LookAsk { common, systemd })
}

fn look_with_ask(places: &PlanPlaces, ask: &LookAsk<'_>) -> Result<PlansFound> {
    let (mut seen, mut unread) = (Vec::new(), Vec::new());
    let mut known = BTreeSet::new();
    for name in places.folder.names()? {
        known.extend(name.as_ref().ok().cloned());
        let shown = name.as_ref().ok().map(ToString::to_string);
        match name.and_then(|name| look_with(places, &name, ask)) {
            Ok(one) => seen.push(one),
            Err(error) => unread.push(UnreadPlan { name: shown, error }),
        }
    }
    unread.extend(gone(places, &known));
    Ok(PlansFound { seen, unread })
}

/// Plans that have run here, and have no file any more: whoever has not deleted them misses them.
fn gone(places: &PlanPlaces, known: &BTreeSet<PlanName>) -> Vec<UnreadPlan> {
    let noted = places.notes.names().into_iter();
    let gone = noted.filter(|name| !known.contains(name));
    let told = gone.map(|name| {
        let file = places.folder.file(&name);
        let what = format!(
            "plan {name} was run here, and its file {} is gone",
            file.display()
        );
        let hint = format!("put it back, or `stillpoint plan delete {name}`");
        UnreadPlan {
            name: Some(name.to_string()),
            error: Error::new(ErrorKind::NotFound, what).with_hint(hint),
        }
    });
    told.collect()
}
