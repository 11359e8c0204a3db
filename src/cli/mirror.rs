//! `mirror`: the same vault in a second place.

use super::args::{Common, MirrorArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use crate::engine::{MirrorReport, mirror, mirror_sealed, plan_mirror};
use crate::error::{Error, ErrorKind, Result};
use crate::report::mirror::Mirrored;
use crate::report::{self, Report};
use crate::store::{self, KeySource, Location, Vault};

pub fn run(args: &MirrorArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let place = second_place(args, common)?;
    let from = source_place(args, common)?;
    let source = store::open(&from.with_cache(&common.cache_dir))?;
    if source.is_without_key() {
        return context::asking(&source, progress, || {
            mirror_as_it_is(&source, &place, args, progress)
        });
    }
    context::asking(&source, progress, || {
        mirror_to(&source, &place, args, progress)
    })
}

/// Where the vault is. Without a key all of one that is encrypted can be carried, as it is.
pub fn source_place(args: &MirrorArgs, common: &Common) -> Result<Location> {
    let place = context::vault_named(common, common.vault.as_deref())?;
    let wants_key = !args.ids.is_empty() || place.key().is_named();
    Ok(match wants_key {
        true => place,
        false => place.with_key(KeySource::NotWanted),
    })
}

fn mirror_as_it_is(
    source: &Vault,
    place: &Location,
    args: &MirrorArgs,
    progress: &ProgressDisplay,
) -> Result<Report> {
    let found = store::open_second(place, source)?;
    if found.is_none() && !args.init {
        return Err(is_no_vault(&args.to));
    }
    let there = match args.dry_run {
        true => found,
        false => Some(store::make_second(place, source)?),
    };
    let done = mirror_sealed(source, there.as_ref(), args.dry_run, progress)?;
    Ok(told(source, there.as_ref(), &done, args))
}

fn mirror_to(
    source: &Vault,
    place: &Location,
    args: &MirrorArgs,
    progress: &ProgressDisplay,
) -> Result<Report> {
    // Find all of them before anything is put: a wrong name puts nothing.
    let snapshots = match args.ids.as_slice() {
        [] => source.snapshots()?,
        ids => ids
            .iter()
            .map(|id| find_snapshot(source, id, &[], progress))
            .collect::<Result<Vec<_>>>()
            .map_err(|error| error.context("nothing was mirrored"))?,
    };
    let found = store::open_second(place, source)?;
    if found.is_none() && !args.init {
        return Err(is_no_vault(&args.to));
    }
    // What is in the second place is asked of itself: this host's cache is not used.
    let (done, there) = if args.dry_run {
        let done = plan_mirror(source, found.as_ref(), &snapshots, progress)?;
        (done, found)
    } else {
        let target = match found {
            Some(target) => target,
            None => store::make_second(place, source)?,
        };
        let done = mirror(source, &target, &snapshots, progress)?;
        (done, Some(target))
    };
    Ok(told(source, there.as_ref(), &done, args))
}

fn told(source: &Vault, there: Option<&Vault>, done: &MirrorReport, args: &MirrorArgs) -> Report {
    report::mirror::report(&Mirrored {
        done,
        from: source.location(),
        to: there.map_or_else(|| args.to.clone(), Vault::location),
        asked_there: there.and_then(Vault::requests),
        dry_run: args.dry_run,
        named: !args.ids.is_empty(),
    })
}

/// A place that is no vault may be a disk that is not mounted, or a name with a slip in it.
fn is_no_vault(place: &str) -> Error {
    let what = format!("{place} is no vault yet: nothing was put there");
    Error::new(ErrorKind::Usage, what)
        .with_hint("is its disk mounted, and the name right? --init makes it the second place")
}

/// Refuses what can be refused without asking any store.
pub fn second_place(args: &MirrorArgs, common: &Common) -> Result<Location> {
    let place = context::vault_named(common, Some(&args.to))?;
    let source = context::vault_named(common, common.vault.as_deref())?;
    if place.meets(&source) {
        let what = format!(
            "{} is the vault itself, or within it, or around it: a second copy there is lost with \
             the first",
            args.to
        );
        return Err(Error::new(ErrorKind::Usage, what).with_hint("name another place with --to"));
    }
    Ok(place)
}
