//! `client activate`: this host snapshots itself into the vault of a token from here on. All that
//! can be wrong is looked at before anything is written; what fails afterwards is taken back.

use super::super::args::{ClientActivateArgs, Common, PlanAction, PlanArgs, PlanRunArgs};
use super::super::context;
use super::super::plan::{self, Dispatch};
use super::super::progress::ProgressDisplay;
use super::activation::{Activation, for_vault};
use super::places::ClientPlaces;
use super::plan_words;
use super::read_token::read_token;
use super::trial::{clear_drafts, try_vault};
use super::undo::{UndoContext, take_back};
use crate::client::{ClientNote, ClientStage, ClientToken, standing};
use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::model::exit::DONE;
use crate::report::client::{ActivationTold, ClientStep, StepWord};
use crate::report::{self, Report};
use crate::sys::machine::host_name;
use crate::track::obstacles;
use jiff::Timestamp;

pub fn run(
    args: &ClientActivateArgs,
    common: &Common,
    progress: &ProgressDisplay,
    dispatch: Dispatch,
) -> Result<Report> {
    context::need_root_to("activate a host")?;
    if plan::vault_is_a_flag() {
        let what = "--vault: the token says which vault is meant; nothing was done";
        return Err(Error::new(ErrorKind::Usage, what).with_hint("leave --vault out"));
    }
    let places = ClientPlaces::of(common)?;
    places.check_folder()?;
    let token = read_token(&args.token_file)?;
    token.check_host(&host_name())?;
    if args.snapshot_now && token.plan.is_none() {
        let what = "--snapshot-now: the token has no plan that could be run; nothing was done";
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint("activate without it; then `stillpoint snapshot --all`"));
    }
    let _lock = places.lock()?;
    clear_drafts(&places);
    let noted = NotedBefore::read(&places)?;
    refuse_other(&token, noted.note.as_ref())?;
    let mut activation = Activation {
        token: &token,
        places: &places,
        common,
        dispatch,
        before: noted.note,
        runs: false,
        done: Vec::new(),
        steps: Vec::new(),
        warnings: noted.warning.into_iter().collect(),
        notes: Vec::new(),
    };
    let already = bring_about(&mut activation, noted.bytes.as_deref(), progress)?;
    let snapshot = match args.snapshot_now {
        true => snapshot_now(&mut activation),
        false => None,
    };
    Ok(report::client::activated(&ActivationTold {
        host: host_name(),
        vault: &token.vault,
        plan: token.plan.as_ref().map(|plan| plan.name.clone()),
        already,
        runs: activation.runs,
        snapshot,
        steps: activation.steps,
        warnings: activation.warnings,
        notes: activation.notes,
    }))
}

/// The note of an earlier activation.
struct NotedBefore {
    note: Option<ClientNote>,
    /// What stands there, be it understood or not.
    bytes: Option<Vec<u8>>,
    /// Why it is not understood.
    warning: Option<String>,
}

impl NotedBefore {
    fn read(places: &ClientPlaces) -> Result<Self> {
        let bytes = standing(&places.note).ok().flatten();
        let (note, warning) = match ClientNote::read(&places.note) {
            // What another version has noted is not lost for it.
            Err(error) if error.kind() == ErrorKind::Format => return Err(untouched(error)),
            Err(error) => (None, Some(format!("{error}: it is written anew"))),
            Ok(note) => (note, None),
        };
        Ok(Self {
            note,
            bytes: bytes.map(|bytes| bytes.to_vec()),
            warning,
        })
    }
}

/// Has all stand that the token says; returns whether it stood already.
fn bring_about(
    activation: &mut Activation<'_>,
    noted: Option<&[u8]>,
    progress: &ProgressDisplay,
) -> Result<bool> {
    let stands = activation.stands().map_err(untouched)?;
    match activation.token.check_times(Timestamp::now()) {
        Ok(()) => {
            let found = look_first(activation, progress)?;
            // What was told of the vault when it was activated is no news.
            match stands {
                true => activation.notes.extend(found),
                false => activation.warnings.extend(found),
            }
            write_all(activation, noted)?;
            Ok(stands)
        }
        Err(_) if stands && is_its_own(activation) => {
            activation.steps.push(ClientStep {
                step: "token",
                word: StepWord::Kept,
                said: "it has done its work here, and has expired since".into(),
            });
            activation.look_again()?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn untouched(error: Error) -> Error {
    error.and_said("nothing was changed")
}

/// Whether the token is the one that has activated this host.
fn is_its_own(activation: &Activation<'_>) -> bool {
    let before = activation.before.as_ref();
    before.is_some_and(|note| note.nonce == activation.token.nonce)
}

/// A host is activated for one vault, by one name.
fn refuse_other(token: &ClientToken, before: Option<&ClientNote>) -> Result<()> {
    let Some(before) = before else {
        return Ok(());
    };
    if before.stage == ClientStage::Deactivating {
        let what = "a deactivation of this host was cut off; nothing was done";
        return Err(Error::new(ErrorKind::Exists, what)
            .with_hint("`stillpoint client deactivate` goes on with it; then activate again"));
    }
    if before.vault_id != token.vault.id {
        let what = format!(
            "this host is activated for another vault, {} ({}); nothing was done",
            before.vault, before.url
        );
        return Err(Error::new(ErrorKind::Exists, what)
            .with_hint("`stillpoint client deactivate` first: that vault keeps all that it has"));
    }
    if before.vault != token.vault.name {
        let what = format!(
            "this host calls the vault {}, and the token {}; nothing was done",
            before.vault, token.vault.name
        );
        return Err(Error::new(ErrorKind::Exists, what).with_hint(format!(
            "make a token with --name {}, or `stillpoint client deactivate` first",
            before.vault
        )));
    }
    Ok(())
}

/// Looks at this host and at the vault, before anything is written; returns what is the worse for
/// the vault.
fn look_first(activation: &mut Activation<'_>, progress: &ProgressDisplay) -> Result<Vec<String>> {
    let mut told = |step, said: String| {
        activation.steps.push(ClientStep {
            step,
            word: StepWord::Done,
            said,
        });
    };
    let token = activation.token;
    token
        .plan
        .as_ref()
        .map(plan_words::arguments)
        .transpose()
        .map_err(untouched)?;
    told("token", format!("good until {:.0}", token.expires));
    if let Some(fatal) = obstacles().into_iter().find(|one| one.fatal) {
        let what = format!("this host cannot be snapshotted: {}", fatal.what);
        return Err(untouched(
            Error::new(ErrorKind::Unsupported, what).with_hint(fatal.remedy),
        ));
    }
    told("host", "disks can be read, frozen and tracked".into());
    progress.tell(Event::Note(format!("trying {}", token.vault.settings.url)));
    let found = try_vault(token, activation.places, activation.common).map_err(untouched)?;
    let place = &token.vault.settings.url;
    let said = format!("{place} is vault {}, and can be written to", token.vault.id);
    told("vault", said);
    Ok(found)
}

/// Writes what the token says, or leaves the host as it was.
fn write_all(activation: &mut Activation<'_>, noted: Option<&[u8]>) -> Result<()> {
    let written = activation.write();
    written.map_err(|error| {
        let context = UndoContext {
            common: activation.common,
            dispatch: activation.dispatch,
            places: activation.places,
            before: noted,
        };
        let done = std::mem::take(&mut activation.done);
        let folder = activation.places.folder.display();
        let error = match (error.kind(), error.hint()) {
            (ErrorKind::Io | ErrorKind::NoSpace, None) => error.with_hint(format!(
                "may it be written to, and is there room? `findmnt -T {folder}`, `df {folder}`"
            )),
            _ => error,
        };
        error.and_said(take_back(done, &context))
    })
}

/// Runs the plan; the host stays activated, whatever becomes of it. Returns its snapshot.
fn snapshot_now(activation: &mut Activation<'_>) -> Option<String> {
    let name = activation.token.plan.as_ref()?.name.clone();
    let common = for_vault(activation.common, &activation.token.vault.name);
    let run = PlanArgs {
        action: PlanAction::Run(PlanRunArgs {
            name: Some(name.clone()),
            due: false,
            clock_is_right: false,
            distrust_clock: false,
        }),
    };
    let (word, said, snapshot) = match plan::run(&run, &common, activation.dispatch) {
        Ok(report) => {
            let outcome = &report.json["plans"][0]["snapshot"];
            let snapshot = outcome["snapshot"].as_str().map(str::to_owned);
            let said = outcome["said"].as_str().unwrap_or_default().to_owned();
            let word = if snapshot.is_some() {
                StepWord::Done
            } else {
                StepWord::Failed
            };
            if report.code != DONE {
                let told = format!("plan {name} was run, exit code {}: {said}", report.code);
                activation.warnings.push(told);
            }
            (word, said, snapshot)
        }
        Err(error) => {
            activation
                .warnings
                .push(format!("plan {name} was not run: {error}"));
            (StepWord::Failed, error.to_string(), None)
        }
    };
    activation.steps.push(ClientStep {
        step: "snapshot",
        word,
        said,
    });
    snapshot
}
