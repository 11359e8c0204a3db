//! Which plans go to the vault of a token, and whether anything runs them by itself. What is not
//! known to run is never called fine.

use crate::client::ClientNote;
use crate::config::Config;
use crate::plan::{PlanNotes, UnitState};
use crate::report::plan::{PlanRunner, SeenPlan};

/// A vault as plans name it.
pub struct MeantVault<'a> {
    /// What the host calls it.
    pub name: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// Whether it is meant where none is named.
    pub is_usual: bool,
}

impl<'a> MeantVault<'a> {
    /// That of a note.
    pub fn of(note: &'a ClientNote, config: &Config) -> Self {
        Self {
            name: &note.vault,
            url: &note.url,
            is_usual: config.usual_vault() == Some(note.vault.as_str()),
        }
    }

    fn is(&self, named: &str) -> bool {
        named == self.name || named == self.url
    }

    /// Whether a plan takes its snapshots there.
    pub fn takes(&self, seen: &SeenPlan) -> bool {
        match &seen.plan.vault {
            Some(vault) => self.is(vault),
            None => self.is_usual,
        }
    }

    /// Whether a plan needs it, be it for its second place.
    pub fn is_needed(&self, seen: &SeenPlan) -> bool {
        let mirror = seen.plan.mirror.as_ref();
        self.takes(seen) || mirror.is_some_and(|mirror| self.is(&mirror.to))
    }
}

/// Why a plan may not run by itself; `None`: it does.
pub fn not_run(seen: &SeenPlan, notes: &PlanNotes) -> Option<String> {
    let name = &seen.plan.name;
    if seen.plan.suspended {
        return Some(format!(
            "plan {name} is suspended: `stillpoint plan resume {name}` lets it go on"
        ));
    }
    match &seen.runner {
        PlanRunner::Timer(timer) => {
            let stands = matches!(timer.state, UnitState::Written | UnitState::Stale);
            let runs = stands && timer.active == Some(true) && timer.problem.is_none();
            (!runs).then(|| {
                format!(
                    "plan {name}: its timer {} is not known to run: `stillpoint plan show {name}` \
                     says why, `stillpoint plan modify {name}` starts it anew",
                    timer.unit
                )
            })
        }
        // Whoever looks at a plan for the first time notes it.
        PlanRunner::Cron(_) if notes.names().contains(name) => None,
        PlanRunner::Cron(line) => Some(format!(
            "plan {name}: no systemd runs this host, and nothing has looked at the plan yet; put \
             this line into /etc/cron.d/stillpoint: {line}"
        )),
    }
}

/// What keeps this host from being snapshotted into a vault by itself: nothing, where one plan
/// that runs goes there. Without a vault any plan counts.
pub fn nothing_runs(
    seen: &[SeenPlan],
    vault: Option<&MeantVault<'_>>,
    notes: &PlanNotes,
) -> Vec<String> {
    let goes = |one: &&SeenPlan| vault.is_none_or(|vault| vault.takes(one));
    let theirs: Vec<&SeenPlan> = seen.iter().filter(goes).collect();
    let why: Vec<String> = theirs
        .iter()
        .filter_map(|one| not_run(one, notes))
        .collect();
    if theirs.is_empty() {
        let where_to = vault.map_or("anywhere", |vault| vault.name);
        return vec![format!(
            "no plan of this host goes to {where_to}: `stillpoint plan create --help`, or \
             `stillpoint plan modify` with --vault"
        )];
    }
    // One that is suspended beside one that runs is somebody's wish.
    let running = theirs.len() > why.len();
    let suspended = theirs.iter().filter(|one| one.plan.suspended).count();
    match running && suspended == why.len() {
        true => Vec::new(),
        false => why,
    }
}
