//! `repair`: puts right what has rotted in a vault, and says what is lost.

use super::args::{Common, RepairArgs};
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{RepairOptions, plan_repair, repair};
use crate::error::{Error, ErrorKind, Result};
use crate::report::repair::Repaired;
use crate::report::{self, Report};
use crate::store::{self, InfoStanding, Location, Vault};

pub fn run(args: &RepairArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let second = second_place(args, common)?;
    let place = context::vault_named(common, common.vault.as_deref())?;
    let info = match &second {
        // A lost vault.json keeps all else from being looked at.
        Some(second) => put_info_back(&place, second, args.dry_run)?,
        None => InfoStanding::Good,
    };
    if info == InfoStanding::CanBePutBack {
        return Ok(report::repair::only_info(&place_named(args)));
    }
    let vault = context::open_vault_itself(common)?;
    context::asking(&vault, progress, || {
        judge(args, &vault, second.as_ref(), info, progress)
    })
}

fn judge(
    args: &RepairArgs,
    vault: &Vault,
    second: Option<&Location>,
    info: InfoStanding,
    progress: &ProgressDisplay,
) -> Result<Report> {
    let second = match second {
        Some(place) => Some(store::open_second(place, vault)?.ok_or_else(|| is_none(args))?),
        None => None,
    };
    let options = RepairOptions {
        read_all: args.read_all,
        workers: context::workers(),
    };
    let done = match args.dry_run {
        true => plan_repair(vault, second.as_ref(), &options, progress)?,
        false => repair(vault, second.as_ref(), &options, progress)?,
    };
    Ok(report::repair::report(&Repaired {
        done: &done,
        from: second.as_ref().map(Vault::location),
        asked_there: second.as_ref().and_then(Vault::requests),
        dry_run: args.dry_run,
        read_all: args.read_all,
        info_was_put_back: info == InfoStanding::PutBack,
    }))
}

/// Puts a `vault.json` back that is lost or rotten, where the second place can be opened.
fn put_info_back(place: &Location, second: &Location, dry_run: bool) -> Result<InfoStanding> {
    match store::open(place) {
        Err(error) if error.kind() == ErrorKind::Damaged => {
            let from = store::open(second).map_err(|other| other.context("the second place"))?;
            store::put_info_back(place, &from, dry_run)
        }
        // What else is wrong is told by whoever opens it next.
        _ => Ok(InfoStanding::Good),
    }
}

fn place_named(args: &RepairArgs) -> String {
    args.from.clone().unwrap_or_default()
}

fn is_none(args: &RepairArgs) -> Error {
    let what = format!("{} is no vault: nothing was repaired", place_named(args));
    Error::new(ErrorKind::Usage, what).with_hint("is its disk mounted, and the name right?")
}

/// Refuses what can be refused without asking any store.
pub fn second_place(args: &RepairArgs, common: &Common) -> Result<Option<Location>> {
    let Some(from) = &args.from else {
        return Ok(None);
    };
    let place = context::vault_named(common, Some(from))?;
    let vault = context::vault_named(common, common.vault.as_deref())?;
    if place.meets(&vault) {
        let what = format!("{from} is the vault itself, or within it, or around it");
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint("name its second place with --from, what `mirror` has made"));
    }
    Ok(Some(place))
}
