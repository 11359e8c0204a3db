//! `client deactivate`: takes back what activation did here, in the order in which a package's
//! removal does: nothing may start a run of what goes, nothing may stay frozen or tracked. What
//! somebody has changed since stays, and so does all that is in the vault.

use super::super::args::{Common, PlanAction, PlanArgs, PlanNameArgs, TrackAction, TrackArgs};
use super::super::plan::{self, Dispatch};
use super::super::progress::ProgressDisplay;
use super::super::{context, thaw, track};
use super::activation::{BEGUN, PLAN};
use super::busy::refuse_while_busy;
use super::configuration::{BLOCK, WithoutBlock, has_block, plan_removal};
use super::meant::MeantVault;
use super::places::ClientPlaces;
use super::trial::clear_drafts;
use super::undo::nothing_left;
use crate::client::{
    ClientFile, ClientNote, ClientStage, TakenFile, hash_of, plan_part, standing, take_away,
};
use crate::config::Config;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{put_file, remove_file};
use crate::report::client::{ClientStep, DeactivationTold, StepWord};
use crate::report::plan::SeenPlan;
use crate::report::{self, Report};
use crate::sys::machine::host_name;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What is said where it stops in the middle.
const GOES_ON: &str = "the same command goes on where it stopped";

pub fn run(common: &Common, progress: &ProgressDisplay, dispatch: Dispatch) -> Result<Report> {
    context::need_root_to("deactivate a host")?;
    let places = ClientPlaces::of(common)?;
    let _lock = places.lock()?;
    clear_drafts(&places);
    let Some(note) = ClientNote::read(&places.note)? else {
        return Ok(unnoted(&places));
    };
    refuse_while_busy(&places, common).map_err(|error| error.and_said("nothing was changed"))?;
    // What cannot be looked at is told before anything is taken back.
    plan_removal(&places, &note).map_err(|error| error.and_said("nothing was changed"))?;
    // What dead runs have left frozen must not wait for what may fail.
    thaw::run(common, progress)
        .map_err(|error| error.and_said("nothing of the activation was taken back"))?;
    let mut work = Deactivation {
        places: &places,
        common,
        progress,
        dispatch,
        note,
        steps: Vec::new(),
        warnings: Vec::new(),
        is_half: false,
    };
    work.note.stage = ClientStage::Deactivating;
    work.note.write(&places.note)?;
    work.take_back().map_err(|error| match error.hint() {
        Some(_) => error.and_said(GOES_ON),
        None => error.with_hint(GOES_ON),
    })?;
    Ok(report::client::deactivated(&DeactivationTold {
        host: host_name(),
        vault: Some(work.note),
        steps: work.steps,
        is_half: work.is_half,
        warnings: work.warnings,
    }))
}

/// What is said where there is no note: what nobody noted is nobody's to take back.
fn unnoted(places: &ClientPlaces) -> Report {
    let warning = has_block(places).then(|| {
        format!(
            "{}: what activation writes stands there, and no note says what else is its own; \
             `stillpoint client activate` with a token of that vault notes it again, then \
             deactivate",
            places.config.display()
        )
    });
    report::client::deactivated(&DeactivationTold {
        host: host_name(),
        vault: None,
        steps: Vec::new(),
        is_half: false,
        warnings: warning.into_iter().collect(),
    })
}

struct Deactivation<'a> {
    places: &'a ClientPlaces,
    common: &'a Common,
    progress: &'a ProgressDisplay,
    dispatch: Dispatch,
    note: ClientNote,
    steps: Vec<ClientStep>,
    warnings: Vec<String>,
    /// Whether keys or credentials stay.
    is_half: bool,
}

impl Deactivation<'_> {
    fn told(&mut self, step: &'static str, word: StepWord, said: impl Into<String>) {
        self.steps.push(ClientStep {
            step,
            word,
            said: said.into(),
        });
    }

    fn take_back(&mut self) -> Result<()> {
        self.plans()?;
        // One that a timer has started meanwhile.
        refuse_while_busy(self.places, self.common)?;
        self.tracking()?;
        match self.configuration()? {
            true => self.files()?,
            false => {
                let said = "keys and credentials: what stands in the configuration may need them";
                self.told("files", StepWord::Left, said);
                // Only the note knows whose they are.
                self.is_half = true;
                return Ok(());
            }
        }
        self.note_is_done()
    }

    /// What needs this vault goes, if activation has made it and nobody has changed it, or else is
    /// held back.
    fn plans(&mut self) -> Result<()> {
        self.half_deleted_plans()?;
        let found = plan::look_at_plans(self.common)?;
        let config = Config::read(&self.common.config_place())?;
        let vault = MeantVault::of(&self.note, &config);
        let needs = found.seen.into_iter().filter(|seen| vault.is_needed(seen));
        let needs: Vec<SeenPlan> = needs.collect();
        for one in found.unread {
            let name = one.name.unwrap_or_else(|| "of no name".into());
            let said = format!("plan {name} cannot be read, and stays: {}", one.error);
            self.told(PLAN, StepWord::Left, said);
        }
        for seen in needs {
            let name = seen.plan.name.as_str();
            let text = standing(&self.places.plans.file(&seen.plan.name))?;
            let hash = text.map(|bytes| hash_of(&bytes)).unwrap_or_default();
            let known = self.note.known(&plan_part(name));
            if known.contains(&hash) || known.iter().any(|known| known == BEGUN) {
                self.delete_plan(name)?;
                self.told(PLAN, StepWord::Done, format!("plan {name} is deleted"));
            } else if seen.plan.suspended {
                self.told(PLAN, StepWord::Kept, format!("plan {name} is suspended"));
            } else {
                let report = self.run_plan(PlanAction::Suspend(named(name)))?;
                let told = report.json["warnings"].as_array().into_iter().flatten();
                let told = told.filter_map(|one| one.as_str().map(str::to_owned));
                self.warnings.extend(told);
                let said = format!(
                    "plan {name} is not as activation made it: it is suspended, and stays; \
                     `stillpoint plan delete {name}` deletes it"
                );
                self.told(PLAN, StepWord::Left, said);
            }
        }
        Ok(())
    }

    /// Plans whose files are gone, and whose units may not be.
    fn half_deleted_plans(&mut self) -> Result<()> {
        for name in self.note.plans() {
            let parsed = name.parse()?;
            if self.places.plans.settings_path(&parsed).is_ok() {
                continue;
            }
            match self.delete_plan(&name) {
                // Nothing of it is left.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn delete_plan(&self, name: &str) -> Result<()> {
        nothing_left(&self.run_plan(PlanAction::Delete(named(name)))?)
    }

    fn run_plan(&self, action: PlanAction) -> Result<Report> {
        plan::run(&PlanArgs { action }, self.common, self.dispatch)
    }

    /// Ends tracking, unless other plans live on it.
    fn tracking(&mut self) -> Result<()> {
        let found = plan::look_at_plans(self.common)?;
        if let Some(other) = found.seen.iter().find(|one| !one.plan.suspended) {
            let said = format!("plan {} goes on, and uses it", other.plan.name);
            self.told("tracking", StepWord::Kept, said);
            return Ok(());
        }
        let stop = TrackArgs {
            action: TrackAction::Stop,
            disks: Vec::new(),
        };
        track::run(&stop, self.common, self.progress)?;
        self.told("tracking", StepWord::Done, "no disk is tracked");
        Ok(())
    }

    /// Whether nothing that activation wrote stands in the configuration any more.
    fn configuration(&mut self) -> Result<bool> {
        let path = &self.places.config;
        let shown = path.display().to_string();
        match plan_removal(self.places, &self.note)? {
            WithoutBlock::Absent => {
                self.told(
                    BLOCK,
                    StepWord::Kept,
                    format!("nothing of it is in {shown}"),
                );
                Ok(true)
            }
            WithoutBlock::Changed => {
                let said = format!("{shown}: it was changed by hand, and stays");
                self.told(BLOCK, StepWord::Left, said);
                Ok(false)
            }
            WithoutBlock::Text(text) => {
                match text.is_empty() {
                    true => remove_file(path).io_context("remove", path)?,
                    false => {
                        let found = fs::metadata(path).io_context("look at", path)?;
                        put_file(path, text.as_bytes(), found.mode() & 0o755)?;
                    }
                }
                let said = format!("{shown}: [vaults.{}] is gone", self.note.vault);
                self.told(BLOCK, StepWord::Done, said);
                Ok(true)
            }
        }
    }

    fn files(&mut self) -> Result<()> {
        for file in ClientFile::ALL {
            let path = file.path(&self.places.folder, &self.note.vault);
            let known = self.note.known(file.name());
            if known.is_empty() {
                continue;
            }
            let shown = path.display().to_string();
            match take_away(&path, known)? {
                TakenFile::Absent => {}
                TakenFile::Taken => {
                    self.told(file.name(), StepWord::Done, format!("{shown} is gone"))
                }
                TakenFile::Left => {
                    let said = format!("{shown}: it was changed since, and stays");
                    self.told(file.name(), StepWord::Left, said);
                }
            }
        }
        Ok(())
    }

    fn note_is_done(&mut self) -> Result<()> {
        ClientNote::remove(&self.places.note)
            .map(drop)
            .map_err(|error: Error| error.and_said("all else is taken back"))
    }
}

fn named(name: &str) -> PlanNameArgs {
    PlanNameArgs { name: name.into() }
}
