//! `client status`: whether this host is activated, by what stands on it, what its vault answers,
//! and how its plans are. A note alone makes no host activated.

use super::super::args::{Common, StatusArgs};
use super::super::progress::ProgressDisplay;
use super::super::{context, plan, status};
use super::activation::for_vault;
use super::meant::{MeantVault, nothing_runs};
use super::places::ClientPlaces;
use crate::client::{ClientFile, ClientNote, ClientStage};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::PlanNotes;
use crate::report::client::{ClientState, ClientTold, StandingVault};
use crate::report::{self, Report};
use crate::sys::machine::host_name;
use std::fs;

pub fn run(common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    context::need_root_to("tell how a client stands: its settings are root's")?;
    let places = ClientPlaces::of(common)?;
    let noted = ClientNote::read(&places.note);
    let config = Config::read(&common.config_place());
    let plans = plan::look_at_plans(common)?;
    let has_plans = !plans.seen.is_empty() || !plans.unread.is_empty();
    let meant = meant(&noted, &config, common);
    let judged = judge(&ClientFacts {
        places: &places,
        noted: &noted,
        config: &config,
        has_plans,
        names: plans
            .seen
            .iter()
            .map(|one| one.plan.name.as_str())
            .collect(),
    });
    let mut told = ClientTold {
        host: host_name(),
        state: ClientState::Installed,
        trouble: None,
        vault: None,
        status: None,
        unrun: Vec::new(),
    };
    match judged {
        Ok(state) => told.state = state,
        Err(error) => {
            told.state = ClientState::Failed;
            told.trouble = Some(error);
        }
    }
    // What was activated half has no vault that could be asked.
    if told.state == ClientState::Activated {
        let common = meant.map_or_else(|| common.clone(), |name| for_vault(common, &name));
        let expected = noted.as_ref().ok().and_then(Option::as_ref);
        match ask(&common, expected) {
            Ok(vault) => told.vault = Some(vault),
            Err(error) => {
                told.state = ClientState::Failed;
                told.trouble = Some(error);
            }
        }
        let asked = StatusArgs {
            max_age: None,
            exclude: Vec::new(),
            notify: false,
            notify_test: false,
        };
        told.status = Some(status::look(&asked, &common, progress)?);
        let vault = match (expected, &config) {
            (Some(note), Ok(config)) => Some(MeantVault::of(note, config)),
            _ => None,
        };
        let notes = PlanNotes::at(common.plan_notes.clone());
        told.unrun = nothing_runs(&plans.seen, vault.as_ref(), &notes);
    }
    Ok(report::client::status(&told))
}

/// The name of the vault in the configuration; `None`: as flag or environment say.
fn meant(
    noted: &Result<Option<ClientNote>>,
    config: &Result<Config>,
    common: &Common,
) -> Option<String> {
    if let Ok(Some(note)) = noted {
        return Some(note.vault.clone());
    }
    let given = common.vault.as_deref().filter(|vault| !vault.is_empty());
    let usual = || config.as_ref().ok()?.usual_vault();
    match given {
        Some(_) => None,
        None => usual().map(str::to_owned),
    }
}

/// What stands on this host.
struct ClientFacts<'a> {
    places: &'a ClientPlaces,
    noted: &'a Result<Option<ClientNote>>,
    config: &'a Result<Config>,
    has_plans: bool,
    /// Of the plans that can be read.
    names: Vec<&'a str>,
}

/// How far the host is.
///
/// # Errors
/// Why its activation has failed, with the remedy.
fn judge(standing: &ClientFacts<'_>) -> Result<ClientState> {
    let again = "run `stillpoint client activate` again, with the same token or another";
    let failed = |what: String| Error::new(ErrorKind::Failed, what).with_hint(again);
    let config = standing.config.as_ref().map_err(Error::retold)?;
    let note = standing.noted.as_ref().map_err(Error::retold)?;
    let Some(note) = note else {
        // Set up by hand, as whoever wrote it wanted it.
        let is_set_up = config.vault_names().next().is_some() || config.usual_vault().is_some();
        return Ok(match is_set_up && standing.has_plans {
            true => ClientState::Activated,
            false => ClientState::Installed,
        });
    };
    match note.stage {
        ClientStage::Activating if standing.places.is_locked() => {
            let what = "it is being activated right now";
            return Err(failed(what.into()).with_hint("ask again in a minute"));
        }
        ClientStage::Activating => {
            let what = format!("its activation was cut off ({:.0})", note.time);
            return Err(failed(what));
        }
        ClientStage::Deactivating => {
            let what = format!("its deactivation was cut off ({:.0})", note.time);
            return Err(failed(what).with_hint("`stillpoint client deactivate` goes on with it"));
        }
        ClientStage::Activated => {}
    }
    if !config.vault_names().any(|name| name == note.vault) {
        let path = standing.places.config.display();
        return Err(failed(format!(
            "{path} has no [vaults.{}] any more",
            note.vault
        )));
    }
    for file in ClientFile::ALL {
        let path = file.path(&standing.places.folder, &note.vault);
        if !note.known(file.name()).is_empty() && fs::symlink_metadata(&path).is_err() {
            return Err(failed(format!("{} is gone", path.display())));
        }
    }
    if let Some(plan) = &note.plan
        && !standing.names.contains(&plan.as_str())
    {
        let path = standing.places.plans.path().display();
        return Err(
            failed(format!("there is no plan {plan} in {path}, or it is wrong")).with_hint(
                format!("`stillpoint plan list` says what is wrong; {again}"),
            ),
        );
    }
    Ok(ClientState::Activated)
}

/// Asks the vault who it is.
///
/// # Errors
/// It does not answer, or is another than that of the note.
fn ask(common: &Common, note: Option<&ClientNote>) -> Result<StandingVault> {
    let vault = context::open_vault_itself(common)?;
    let id = vault.info().id;
    if let Some(note) = note
        && note.vault_id != id
    {
        let what = format!(
            "{} is another vault than this host was activated for: its ID is {id}, and not {}",
            vault.location(),
            note.vault_id
        );
        return Err(Error::new(ErrorKind::Failed, what).with_hint(
            "is another disk mounted there? If the vault was made anew: `stillpoint client \
             deactivate`, then activate by a token of the new one",
        ));
    }
    Ok(StandingVault {
        name: common.vault.clone(),
        url: vault.location(),
        id,
    })
}
