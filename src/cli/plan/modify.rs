//! `plan modify`, `plan suspend`, `plan resume`: the file of a plan is written anew.

use super::super::args::{Common, PlanModifyArgs, PlanNameArgs};
use super::super::context;
use super::create::{check_here, named_vault};
use super::look::look;
use super::places::PlanPlaces;
use super::set_keys::set_keys;
use super::systemd::write_units;
use super::whose_vault::vault_of;
use crate::error::Result;
use crate::model::counted;
use crate::plan::{PlanEdit, PlanName, PlanRecord, PlanRetention};
use crate::report::{self, Report};

pub fn run(args: &PlanModifyArgs, common: &Common) -> Result<Report> {
    context::need_root_to("change plans")?;
    let mut places = PlanPlaces::of(common);
    let name: PlanName = args.name.parse()?;
    let mut edit = PlanEdit::of(name.clone(), places.folder.settings(&name)?);
    // One that is wrong may be put right.
    let before = edit.plan(places.now).ok().and_then(|plan| plan.retention);
    set_keys(&mut edit, &args.keys, places.now)?;
    if let Some(vault) = named_vault(common)?.filter(|_| super::run::vault_is_a_flag()) {
        edit.set_text("vault", &vault);
    }
    let plan = edit.plan(places.now)?;
    // Who changes neither disks nor vaults need not reach them.
    let mut warnings = match args.keys.names_what_is_there() || super::run::vault_is_a_flag() {
        true => check_here(&plan, &places, common)?,
        false => Vec::new(),
    };
    places.folder.replace(&name, &edit.render()?)?;
    places.look_at_the_clock();
    // Whoever names the vault has said that it is the plan's, and it was looked at just now.
    let own = || vault_of(&plan, common).ok().map(|found| found.vault);
    if super::run::vault_is_a_flag() && !note(&places, &name, |record| record.vault = own())? {
        warnings.push(
            "it is being run: once it has ended, the same again, or nothing is deleted there"
                .into(),
        );
    }
    warnings.extend(replaced(before, plan.retention));
    warnings.extend(write_units(&plan, &places, common));
    told(&places, &name, "changed", &warnings, common)
}

/// What to say where days take the place of rules, or rules that of days: all of what was there is
/// gone, and the next run deletes by what is there now.
fn replaced(before: Option<PlanRetention>, now: Option<PlanRetention>) -> Option<String> {
    let what = match (before?, now?) {
        (PlanRetention::Days(days), PlanRetention::Rules(_)) => {
            format!("retention = \"{days}d\" is gone: the rules alone keep snapshots now")
        }
        (PlanRetention::Rules(_), PlanRetention::Days(days)) => {
            let days = counted(days, "day");
            format!("the rules of [retention] are gone: snapshots stay for {days} now")
        }
        _ => return None,
    };
    Some(format!(
        "{what}; the next run deletes by that (`stillpoint prune --dry-run` shows what would go)"
    ))
}

pub fn suspend(args: &PlanNameArgs, common: &Common) -> Result<Report> {
    set_suspended(args, common, true)
}

pub fn resume(args: &PlanNameArgs, common: &Common) -> Result<Report> {
    set_suspended(args, common, false)
}

fn set_suspended(args: &PlanNameArgs, common: &Common, suspended: bool) -> Result<Report> {
    context::need_root_to("change plans")?;
    let mut places = PlanPlaces::of(common);
    let name: PlanName = args.name.parse()?;
    let before = places.folder.plan(&name)?;
    let done = if suspended { "held back" } else { "let go on" };
    if before.suspended != suspended {
        let mut edit = PlanEdit::of(name.clone(), places.folder.settings(&name)?);
        edit.set_flag("suspended", suspended);
        edit.plan(places.now)?;
        places.folder.replace(&name, &edit.render()?)?;
        places.look_at_the_clock();
        note(&places, &name, |_| ())?;
    }
    told(&places, &name, done, &[], common)
}

/// Notes that a plan is another one now. That it is held back, or goes on: what passes meanwhile is
/// owed to nobody, also where nothing looks at the plan before it goes on. Who runs it notes that
/// by himself: then it returns `false`.
fn note(places: &PlanPlaces, name: &PlanName, set: impl FnOnce(&mut PlanRecord)) -> Result<bool> {
    let Some(_lock) = places.notes.lock(name)? else {
        return Ok(false);
    };
    let plan = places.folder.plan(name)?;
    // Of what is not known nothing is owed from before the file was written.
    if let Ok(Some(record)) = places.notes.noted(name) {
        let mut record = record.for_plan(&plan, places.now);
        set(&mut record);
        places.notes.write(name, &record)?;
    }
    Ok(true)
}

fn told(
    places: &PlanPlaces,
    name: &PlanName,
    done: &str,
    warnings: &[String],
    common: &Common,
) -> Result<Report> {
    let seen = look(places, name, common)?;
    let mut report = report::plan::changed(&seen, done);
    warnings.iter().for_each(|warning| report.warn(warning));
    Ok(report)
}
