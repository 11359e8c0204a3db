//! `status`: how this host's snapshots stand, on one screen, for people and monitors. What it could
//! not find out is told, and never called fine.

use super::args::{Common, StatusArgs};
use super::notify::{Notifier, Untold};
use super::progress::ProgressDisplay;
use super::{context, plan};
use crate::device::{Disk, HostLayout};
use crate::engine::{
    DrilledDisks, NewestCopies, VaultPlace, WantedDisks, newest_drills, newest_good, select,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::DevNumber;
use crate::plan::PlanDisks;
use crate::report::Report;
use crate::report::plan::SeenPlan;
use crate::report::status::{AskedVault, ByPlan, HostStatus, StatusDisk, StatusLimits, report};
use crate::store::Vault;
use crate::sys::machine::host_name;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most vaults that are asked.
const MOST_VAULTS: usize = 16;

pub fn run(args: &StatusArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    look(args, common, progress).map(|status| report(&status))
}

/// How this host's snapshots stand.
pub fn look(args: &StatusArgs, common: &Common, progress: &ProgressDisplay) -> Result<HostStatus> {
    let notifier = Notifier::of(common);
    if args.notify || args.notify_test {
        context::need_root_to("tell how plans stand")?;
    }
    let untold = match (args.notify, args.notify_test) {
        (true, _) => notifier.look(),
        (_, true) => notifier.test(),
        _ => Untold::default(),
    };
    let now = Timestamp::now();
    let plans = plan::look_at_plans(common)?;
    let vaults = vaults_of(&plans, common)?;
    let layout = HostLayout::scan()?;
    let excluded = layout.resolve(&args.exclude)?;
    let excluded: BTreeSet<DevNumber> = excluded.iter().map(Disk::dev).collect();
    // What `--all` takes; a vault's own disk is none of them.
    let mut taken: BTreeSet<DevNumber> = taken_without_vault(&layout, &excluded);
    let named = named_by_plans(&plans, &layout);
    let [active, held] = [false, true].map(|held| PlansDisks::of(&plans, held, &layout));
    let disks = layout.topology.disks();
    let disks = disks.filter(|disk| taken.contains(&disk.dev()) || named.contains(&disk.dev()));
    let disks: Vec<Disk> = disks.cloned().collect();
    let host = host_name();
    let wanted = WantedDisks {
        host: &host,
        topology: &layout.topology,
        disks: &disks,
        now,
    };
    let mut asked = Vec::new();
    let mut lost_notes = Vec::new();
    for (at, vault) in vaults.into_iter().enumerate() {
        let opened = open(vault.as_deref(), common);
        let own = plans_into(&plans, vault.clone(), at == 0);
        if let Ok(vault) = &opened
            && let Ok(place) = VaultPlace::find(vault, &layout)
        {
            taken.retain(|dev| !place.disks.contains(dev));
        }
        let found = opened.and_then(|vault| {
            let found = look_into(&vault, &wanted, progress)?;
            lost_notes.extend(plan::lost_notes(own, &vault, common, progress)?);
            Ok(found)
        });
        asked.push(asked_vault(vault, found));
    }
    let expected =
        |dev: DevNumber| !excluded.contains(&dev) && (taken.contains(&dev) || named.contains(&dev));
    let rows = disks.iter().enumerate().map(|(at, disk)| StatusDisk {
        name: disk.name().to_owned(),
        device: disk.path.display().to_string(),
        expected: expected(disk.dev()),
        by_plan: active.with(&held, disk.dev()),
        copy: AskedVault::newest(&asked, at),
        drills: AskedVault::drills(&asked, at),
    });
    let span = |age| SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    let max_age = args.max_age.map(span);
    Ok(HostStatus {
        disks: rows.collect(),
        vaults: asked,
        plans: plans.seen,
        unread: plans.unread,
        lost_notes,
        notify: notifier.seen(untold),
        limits: StatusLimits { now, max_age },
    })
}

/// The plans whose vault was asked by this name, or as the first one: that of who names none.
fn plans_into(
    plans: &plan::PlansFound,
    vault: Option<String>,
    is_first: bool,
) -> impl Iterator<Item = &SeenPlan> {
    plans
        .seen
        .iter()
        .filter(move |seen| match &seen.plan.vault {
            None => is_first,
            meant => *meant == vault,
        })
}

/// What a vault has.
struct VaultFound {
    location: String,
    copies: NewestCopies,
    drilled: DrilledDisks,
}

fn look_into(
    vault: &Vault,
    wanted: &WantedDisks<'_>,
    progress: &ProgressDisplay,
) -> Result<VaultFound> {
    let copies = newest_good(vault, wanted, progress)?;
    let drilled = newest_drills(vault, wanted, &copies, progress)?;
    Ok(VaultFound {
        location: vault.location(),
        copies,
        drilled,
    })
}

fn asked_vault(named: Option<String>, found: Result<VaultFound>) -> AskedVault {
    match found {
        Ok(found) => AskedVault {
            vault: named.unwrap_or(found.location),
            found: Ok(found.copies),
            drilled: found.drilled,
        },
        Err(error) => AskedVault {
            vault: named.unwrap_or_else(|| "the vault of the configuration".into()),
            found: Err(error),
            drilled: DrilledDisks::default(),
        },
    }
}

/// What the store itself has: a cache on this host says nothing of what is there.
fn open(vault: Option<&str>, common: &Common) -> Result<Arc<Vault>> {
    let common = Common {
        vault: vault.map(str::to_owned).or_else(|| common.vault.clone()),
        ..common.clone()
    };
    context::open_vault_itself(&common)
}

/// Each vault that is meant: by flag, environment or configuration, and by plans.
fn vaults_of(plans: &plan::PlansFound, common: &Common) -> Result<Vec<Option<String>>> {
    let mut vaults = Vec::new();
    if context::has_vault(common) {
        vaults.push(common.vault.clone().filter(|vault| !vault.is_empty()));
    }
    for seen in &plans.seen {
        let vault = seen.plan.vault.clone();
        if !vaults.contains(&vault) && (vault.is_some() || vaults.is_empty()) {
            vaults.push(vault);
        }
    }
    if vaults.is_empty() && plans.unread.is_empty() {
        let what = "no vault was named, and there is no plan: nothing is known of this host";
        return Err(Error::new(ErrorKind::Usage, what).with_hint(
            "give --vault, set STILLPOINT_VAULT, or make a plan: `stillpoint plan create --help`",
        ));
    }
    if vaults.len() > MOST_VAULTS {
        let what = format!(
            "{} vaults, and {MOST_VAULTS} are asked at most",
            vaults.len()
        );
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint("have the plans name fewer; or ask one by one with --vault"));
    }
    Ok(vaults)
}

/// What the plans take that are held back, or those that are not.
struct PlansDisks {
    /// The disks that they name.
    named: BTreeSet<DevNumber>,
    /// Of each that takes all disks, those that it leaves out.
    all_but: Vec<BTreeSet<DevNumber>>,
}

impl PlansDisks {
    fn of(plans: &plan::PlansFound, held: bool, layout: &HostLayout) -> Self {
        let found = |names: &[String]| -> BTreeSet<DevNumber> {
            let each = names.iter().map(std::slice::from_ref);
            let each = each.filter_map(|name| layout.resolve(name).ok());
            each.flatten().map(|disk| disk.dev()).collect()
        };
        let mut active = Self {
            named: BTreeSet::new(),
            all_but: Vec::new(),
        };
        for seen in plans.seen.iter().filter(|seen| seen.plan.suspended == held) {
            match &seen.plan.disks {
                PlanDisks::These(disks) => active.named.extend(found(disks)),
                PlanDisks::AllBut(out) => active.all_but.push(found(out)),
            }
        }
        active
    }

    /// What these do with a disk, and `held`, which are held back.
    fn with(&self, held: &Self, disk: DevNumber) -> ByPlan {
        match (self.take(disk), held.take(disk)) {
            (ByPlan::NotMeant, ByPlan::Taken) => ByPlan::HeldBack,
            (by_plan, _) => by_plan,
        }
    }

    /// Whether one of them takes this disk, or leaves it out by its name.
    fn take(&self, disk: DevNumber) -> ByPlan {
        let taken = self.all_but.iter().any(|out| !out.contains(&disk));
        match (taken || self.named.contains(&disk), self.all_but.is_empty()) {
            (true, _) => ByPlan::Taken,
            (false, false) => ByPlan::LeftOut,
            (false, true) => ByPlan::NotMeant,
        }
    }
}

/// The disks that plans name, as far as they are here. A plan whose disk is gone fails by itself.
fn named_by_plans(plans: &plan::PlansFound, layout: &HostLayout) -> BTreeSet<DevNumber> {
    let names = plans.seen.iter().filter_map(|seen| match &seen.plan.disks {
        PlanDisks::These(disks) => Some(disks),
        PlanDisks::AllBut(_) => None,
    });
    let names = names.flatten();
    let found = names.filter_map(|name| layout.resolve(std::slice::from_ref(name)).ok());
    found.flatten().map(|disk| disk.dev()).collect()
}

fn taken_without_vault(layout: &HostLayout, excluded: &BTreeSet<DevNumber>) -> BTreeSet<DevNumber> {
    let choice = select(layout, excluded, &VaultPlace::default());
    let unexpected = choice.left_out.into_iter().filter(|one| one.unexpected);
    let unexpected: BTreeSet<String> = unexpected.map(|one| one.disk).collect();
    let mut taken: BTreeSet<DevNumber> = choice.disks.iter().map(Disk::dev).collect();
    // A disk that somebody would expect to be taken, and is not, has no snapshot: that is told.
    let all = layout.topology.disks();
    taken.extend(
        all.filter(|disk| unexpected.contains(disk.name()))
            .map(Disk::dev),
    );
    taken
}
