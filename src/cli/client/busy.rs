//! What is at work on this host, before something is taken from under it.

use super::super::args::Common;
use super::super::job::directory_of_jobs;
use super::places::ClientPlaces;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::PlanNotes;
use std::collections::BTreeSet;

/// An error when a job or a plan runs.
pub fn refuse_while_busy(places: &ClientPlaces, common: &Common) -> Result<()> {
    refuse_job(common)?;
    let notes = PlanNotes::at(common.plan_notes.clone());
    let mut names: BTreeSet<_> = notes.names().into_iter().collect();
    names.extend(places.plans.names()?.into_iter().flatten());
    for name in names {
        if notes.is_running(&name)? {
            let what = format!("plan {name} is being run");
            return Err(Error::new(ErrorKind::Busy, what)
                .with_hint("`stillpoint job list` shows how far it is; run this again then"));
        }
    }
    Ok(())
}

fn refuse_job(common: &Common) -> Result<()> {
    let directory = match directory_of_jobs(common) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for id in directory.jobs()? {
        // One that cannot be read, or was removed meanwhile, is no process that runs.
        let Ok(record) = directory.look(id) else {
            continue;
        };
        if !record.state.is_end() {
            let what = format!("job {id} ({}) runs", record.command);
            return Err(Error::new(ErrorKind::Busy, what).with_hint(format!(
                "wait for it: `stillpoint job wait {id}`; or stop it: `stillpoint job cancel {id}`"
            )));
        }
    }
    Ok(())
}
