//! `plan create`: makes a plan, if this host can carry it out.

use super::super::args::{Command, CommandLine, Common, PlanCreateArgs};
use super::super::context;
use super::super::drill::machine;
use super::look::{look, look_at_all};
use super::places::PlanPlaces;
use super::set_keys::set_keys;
use super::systemd::write_units;
use super::words::{self, FollowedRun, PlanLabels};
use crate::config::Config;
use crate::device::HostLayout;
use crate::engine::can_boot;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::qualify_check;
use crate::plan::{DRILL, HostClock, PlanDisks, PlanEdit, PlanId, PlanName, SnapshotPlan};
use crate::report::{self, Report};
use crate::store::{self, Location, Vault};
use clap::Parser;
use jiff::SignedDuration;
use std::path::Path;

/// So many of two plans' next times are compared.
const TIMES: usize = 64;
/// Two runs that begin within this are told.
const TOGETHER: SignedDuration = SignedDuration::from_mins(1);

pub fn run(args: &PlanCreateArgs, common: &Common) -> Result<Report> {
    context::need_root_to("make plans")?;
    let mut places = PlanPlaces::of(common);
    let name = match &args.name {
        Some(name) => name.parse()?,
        None => made_up(args, &places)?,
    };
    let mut edit = PlanEdit::new(name.clone(), &places.folder.file(&name));
    // What an earlier plan of this name has taken is not this one's to delete.
    edit.set_text("id", &PlanId::generate().to_string());
    set_keys(&mut edit, &args.keys, places.now)?;
    // The one that is checked now, wherever its name came from, is the one that is meant.
    if let Some(vault) = named_or_usual_vault(common)? {
        edit.set_text("vault", &vault);
    }
    let plan = edit.plan(places.now)?;
    let mut warnings = check_here(&plan, &places, common)?;
    if common.password_command.is_some() {
        warnings.push(
            "the plan does not know the command for the passphrase that was named: name it with \
             the vault in config.toml (password_command)"
                .into(),
        );
    }
    places.folder.create(&name, &edit.render()?)?;
    places.look_at_the_clock();
    warnings.extend(write_units(&plan, &places, common));
    let seen = look(&places, &name, common)?;
    let mut report = report::plan::changed(&seen, "made");
    warnings.iter().for_each(|warning| report.warn(warning));
    Ok(report)
}

/// A name that no plan has.
fn made_up(args: &PlanCreateArgs, places: &PlanPlaces) -> Result<PlanName> {
    let every = args.keys.every.as_deref().unwrap_or("plan");
    let base = format!("every-{every}");
    let is_free = |name: &PlanName| places.folder.settings_path(name).is_err();
    let numbered = (2..1000).map(|number| format!("{base}-{number}"));
    let names = [base.clone()].into_iter().chain(numbered);
    // An interval that is none is told with all else that is wrong.
    let mut names = names.map(|name| name.parse().or_else(|_| "plan".parse()));
    let free = names.find(|name| name.as_ref().map_or(true, is_free));
    free.unwrap_or_else(|| "plan".parse())
}

/// The vault that was named, or else the one of the configuration.
fn named_or_usual_vault(common: &Common) -> Result<Option<String>> {
    if let Some(named) = named_vault(common)? {
        return Ok(Some(named));
    }
    let config = Config::read(&common.config_place())?;
    Ok(config.usual_vault().map(str::to_owned))
}

/// The vault that was named, so that the plan means the same from everywhere.
pub fn named_vault(common: &Common) -> Result<Option<String>> {
    let given = common.vault.as_deref().filter(|vault| !vault.is_empty());
    let Some(given) = given else { return Ok(None) };
    if given.contains("://") || !Location::is_place(given) {
        return Ok(Some(given.into()));
    }
    let path = std::path::absolute(given);
    let path = path.map_err(|error| Error::io("name the vault", Path::new(given), error))?;
    let text = path.to_str().map(str::to_owned);
    text.map(Some).ok_or_else(|| {
        let what = format!("{}: a plan names its vault in UTF-8", path.display());
        Error::new(ErrorKind::Usage, what).with_hint("give the vault a name in config.toml")
    })
}

/// Whether this host has what the plan names; returns what the user should know.
pub fn check_here(
    plan: &SnapshotPlan,
    places: &PlanPlaces,
    common: &Common,
) -> Result<Vec<String>> {
    let not_written = |error: Error| error.and_said("the plan was not written");
    let layout = HostLayout::scan()?;
    let named = match &plan.disks {
        PlanDisks::These(disks) | PlanDisks::AllBut(disks) => disks,
    };
    layout.resolve(named).map_err(not_written)?;
    let common = Common {
        vault: plan.vault.clone().or_else(|| common.vault.clone()),
        ..common.clone()
    };
    // It has to be there, and its key too.
    let vault = context::open_vault(&common).map_err(|error| {
        let error = match error.kind() {
            ErrorKind::NotFound => error.with_kind(ErrorKind::Usage),
            _ => error,
        };
        not_written(error)
    })?;
    let mut told = overlaps(plan, places, &common)?;
    told.extend(check_drill(plan, &vault).map_err(not_written)?);
    told.extend(credentials_of_here(plan, &common)?);
    if let Some(mirror) = &plan.mirror {
        let place = context::vault_named(&common, Some(&mirror.to)).map_err(not_written)?;
        let second = store::open_second(&place, &vault)
            .map_err(|error| not_written(error.with_hint("name another place with --mirror")))?;
        if second.is_none() {
            told.push(format!(
                "{0} is no vault yet, and the plan does not make it one: `stillpoint mirror --to \
                 {0} --init` does",
                mirror.to
            ));
        }
    }
    Ok(told)
}

/// Refuses a script that no drill would run, and a key that reads nothing; returns what to say
/// where this host can boot nothing.
fn check_drill(plan: &SnapshotPlan, vault: &Vault) -> Result<Option<String>> {
    let Some(drill) = &plan.drill else {
        return Ok(None);
    };
    drill.check.as_deref().map_or(Ok(()), qualify_check)?;
    vault.need_to_read()?;
    let run = FollowedRun {
        labels: PlanLabels {
            machine: "",
            id: None,
        },
        snapshot: Some("latest"),
    };
    let words = words::follow_up(plan, DRILL, run).unwrap_or_default();
    let line = ["stillpoint".to_owned()].into_iter().chain(words);
    let line = CommandLine::try_parse_from(line).ok();
    let boots = match line.map(|line| line.command) {
        Some(Command::Drill(args)) if drill.boot => can_boot(vault, &machine(&args.machine)),
        _ => Ok(()),
    };
    Ok(boots
        .err()
        .map(|error| format!("its drills can boot nothing here now: {error}")))
}

/// What to say of a bucket whose credentials are in the environment: what starts the plan has none.
fn credentials_of_here(plan: &SnapshotPlan, common: &Common) -> Result<Option<String>> {
    let mut is_s3 = context::vault_named(common, common.vault.as_deref())?.is_s3();
    if let Some(mirror) = &plan.mirror {
        is_s3 |= context::vault_named(common, Some(&mirror.to))?.is_s3();
    }
    let leads_there = |name: &String| {
        name.starts_with("AWS_") || ["HTTPS_PROXY", "https_proxy"].contains(&name.as_str())
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut set: Vec<String> = names.filter(leads_there).collect();
    set.sort();
    Ok((is_s3 && !set.is_empty()).then(|| {
        format!(
            "what runs the plan does not know the environment of here ({}): name what is needed in \
             config.toml (`stillpoint help s3`)",
            set.join(", ")
        )
    }))
}

/// What to say of other plans that take the same disks at the same times.
fn overlaps(plan: &SnapshotPlan, places: &PlanPlaces, common: &Common) -> Result<Vec<String>> {
    let own = HostClock::of(plan, &places.host);
    let mut told = Vec::new();
    for other in look_at_all(places, common)?.seen {
        if other.plan.name == plan.name || other.plan.suspended || plan.suspended {
            continue;
        }
        let shares = match (&plan.disks, &other.plan.disks) {
            (PlanDisks::These(own), PlanDisks::These(theirs)) => {
                own.iter().any(|disk| theirs.contains(disk))
            }
            _ => true,
        };
        let theirs: Vec<_> = other.clock.following(places.now).take(TIMES).collect();
        let near = |time: &jiff::Timestamp| {
            let mut theirs = theirs.iter();
            theirs.any(|other| time.duration_since(*other).abs() < TOGETHER)
        };
        let together = own.following(places.now).take(TIMES).find(near);
        if let Some(time) = together.filter(|_| shares) {
            told.push(format!(
                "plan {} runs at the same time ({time:.0}) and may take the same disks: the later \
                 one tries again after a pause",
                other.plan.name
            ));
        }
    }
    Ok(told)
}
