//! How a host's snapshots stand: each disk, each plan, and what must be looked at.

use super::Report;
use super::notify::NotifySeen;
use super::plan::{SeenPlan, UnreadPlan, table as plan_table, unread_document};
use super::status_drills::VaultDrills;
use super::text::{cells, counted, listed, table_text};
use crate::engine::{DrilledDisks, GoodCopy, NewestCopies};
use crate::error::Result;
use crate::model::printable::one_line;
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Most bytes of what must be looked at: the verdict comes after it.
const MOST_PROBLEMS: usize = 4000;
/// The same of what drills have found.
const MOST_DRILLS: usize = 3000;

/// How a host's snapshots stand.
pub struct HostStatus {
    /// Each disk that is taken by `--all`, or named by a plan.
    pub disks: Vec<StatusDisk>,
    /// The vaults that were asked.
    pub vaults: Vec<AskedVault>,
    /// The plans.
    pub plans: Vec<SeenPlan>,
    /// Files that hold none.
    pub unread: Vec<UnreadPlan>,
    /// What of plans' snapshots no note says any more whose it is, a sentence each.
    pub lost_notes: Vec<String>,
    /// Who is told when it does not go well.
    pub notify: NotifySeen,
    /// What is called late.
    pub limits: StatusLimits,
}

/// What is called late.
#[derive(Clone, Copy, Debug)]
pub struct StatusLimits {
    /// When it was asked.
    pub now: Timestamp,
    /// How old a disk's last good snapshot may be; `None`: plans know.
    pub max_age: Option<SignedDuration>,
}

/// A disk.
pub struct StatusDisk {
    /// Its name.
    pub name: String,
    /// Its path.
    pub device: String,
    /// Whether a plan names it, or `--all` would take it, or leave it out with a warning.
    pub expected: bool,
    /// Whether a plan takes it that is not held back.
    pub by_plan: ByPlan,
    /// Its newest good copy.
    pub copy: Option<FoundCopy>,
    /// What each vault that has a copy has of drills.
    pub drills: Vec<VaultDrills>,
}

/// What the plans that are not held back do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByPlan {
    /// One takes it.
    Taken,
    /// One leaves it out by its name, and none takes it.
    LeftOut,
    /// None does, and one that is held back would take it.
    HeldBack,
    /// None takes it, and none says that it is not to be taken.
    NotMeant,
}

/// A copy, and in which vault it is.
pub struct FoundCopy {
    /// The vault.
    pub vault: String,
    /// The copy.
    pub copy: GoodCopy,
}

/// A vault that was asked.
pub struct AskedVault {
    /// As it was named.
    pub vault: String,
    /// What it has, or why that is not known.
    pub found: Result<NewestCopies>,
    /// What drills of it say.
    pub drilled: DrilledDisks,
}

impl AskedVault {
    /// The newest copy of the disk at `at` in any of these.
    pub fn newest(asked: &[Self], at: usize) -> Option<FoundCopy> {
        let copies = asked.iter().filter_map(|one| {
            let copies = &one.found.as_ref().ok()?.copies;
            let copy = copies.get(at)?.clone()?;
            let vault = one.vault.clone();
            Some(FoundCopy { vault, copy })
        });
        copies.max_by_key(|found| found.copy.time)
    }

    /// What each of these has of drills of the disk at `at`.
    pub fn drills(asked: &[Self], at: usize) -> Vec<VaultDrills> {
        let each = asked.iter().filter_map(|one| {
            let copy = one.found.as_ref().ok()?.copies.get(at)?.as_ref()?;
            Some(VaultDrills {
                vault: one.vault.clone(),
                copy: copy.snapshot,
                drills: one.drilled.of.get(at)?.clone(),
            })
        });
        each.collect()
    }

    fn problems(&self, problems: &mut Vec<String>) {
        let vault = &self.vault;
        let found = match &self.found {
            Ok(found) => found,
            Err(error) => {
                problems.push(format!(
                    "vault {vault} COULD NOT BE ASKED, so what it has is not known: {error}"
                ));
                return;
            }
        };
        if found.noted_damage {
            problems.push(format!(
                "vault {vault}: damage is noted: `stillpoint verify --all` and `stillpoint repair`"
            ));
        }
        for error in &found.unread {
            problems.push(format!("vault {vault}: {error}"));
        }
        if let Some(error) = &self.drilled.error {
            problems.push(format!(
                "vault {vault}: whether drills have failed COULD NOT BE ASKED: {error}"
            ));
        }
        for copy in &found.ahead {
            problems.push(format!(
                "vault {vault}: snapshot {} is from {:.0}, which is after now: its age says \
                 nothing; which clock is wrong?",
                copy.snapshot, copy.time
            ));
        }
    }

    fn document(&self) -> Value {
        let found = self.found.as_ref().ok();
        json!({
            "vault": self.vault,
            "error": self.found.as_ref().err().map(super::error::document),
            "noted_damage": found.map(|found| found.noted_damage),
            "unread": found.map(|found| found.unread.len()),
            "ahead": found.map(|found| found.ahead.len()),
            "left_out": found.map(|found| found.left_out),
            "drills_error": self.drilled.error.as_ref().map(super::error::document),
            "drills_lack": self.drilled.lacks,
        })
    }
}

impl StatusDisk {
    fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        let age = now.duration_since(self.copy.as_ref()?.copy.time);
        Some(age.max(SignedDuration::ZERO))
    }

    /// What looked like encryption at work.
    fn alarm(&self) -> Option<String> {
        let found = self.copy.as_ref()?;
        let alarm = found.copy.alarm?;
        Some(format!(
            "{}: snapshot {} saw what looks like ENCRYPTION AT WORK; the last one before is {} \
             (vault {}): see `stillpoint help alarm`",
            self.name, alarm.told, alarm.clean, found.vault
        ))
    }

    fn overdue(&self, limits: StatusLimits) -> bool {
        let late = |max: SignedDuration| self.age(limits.now).is_none_or(|age| age > max);
        self.expected && limits.max_age.is_some_and(late)
    }

    /// Whether there is no good snapshot of it, and no plan will take one.
    fn is_forgotten(&self) -> bool {
        self.expected && self.copy.is_none() && self.by_plan == ByPlan::HeldBack
    }

    fn document(&self, limits: StatusLimits) -> Value {
        let copy = self.copy.as_ref();
        json!({
            "disk": self.name,
            "device": self.device,
            "expected": self.expected,
            "by_plan": match self.by_plan {
                ByPlan::Taken => "taken",
                ByPlan::LeftOut => "left_out",
                ByPlan::HeldBack => "held_back",
                ByPlan::NotMeant => "not_meant",
            },
            "overdue": limits.max_age.map(|_| self.overdue(limits)),
            "snapshot": copy.map(|found| found.copy.snapshot.to_string()),
            "time": copy.map(|found| format!("{:.0}", found.copy.time)),
            "age_seconds": self.age(limits.now).map(|age| age.as_secs()),
            "level": copy.map(|found| found.copy.level.to_string()),
            "alarm": copy.and_then(|found| found.copy.alarm),
            "vault": copy.map(|found| found.vault.as_str()),
            "drills": self.drills.iter().flat_map(VaultDrills::documents).collect::<Vec<_>>(),
        })
    }
}

/// What `status` reports.
pub fn report(status: &HostStatus) -> Report {
    let limits = status.limits;
    let problems = problems(status);
    let document = json!({
        "disks": status.disks.iter().map(|one| one.document(limits)).collect::<Vec<_>>(),
        "vaults": status.vaults.iter().map(AskedVault::document).collect::<Vec<_>>(),
        "plans": status.plans.iter().map(SeenPlan::document).collect::<Vec<_>>(),
        "unreadable": status.unread.iter().map(unread_document).collect::<Vec<_>>(),
        "notifications": status.notify.document(),
        "max_age_seconds": limits.max_age.map(|age| age.as_secs()),
        "problems": problems,
    });
    let mut text = disk_table(status);
    text.push_str(&listed(
        drill_lines(status),
        MOST_DRILLS,
        "stillpoint status --json",
    ));
    text.push_str(&plan_table(&status.plans));
    let lines = problems.iter().map(|problem| format!("!! {problem}"));
    text.push_str(&listed(lines, MOST_PROBLEMS, "stillpoint status --json"));
    let disks = counted(status.disks.len(), "disk");
    let held = status.plans.iter().filter(|seen| seen.plan.suspended);
    let plans = match (counted(status.plans.len(), "plan"), held.count()) {
        (plans, 0) => plans,
        (plans, held) => format!("{plans} ({held} held back)"),
    };
    text.push_str(&match problems.len() {
        0 => format!("nothing is overdue and nothing has failed: {disks}, {plans}"),
        count => format!(
            "LOOK AT THIS: {}; {disks}, {plans}",
            counted(count, "problem")
        ),
    });
    Report::done(document, text).below(!problems.is_empty())
}

/// What must be looked at, a sentence each.
pub(super) fn problems(status: &HostStatus) -> Vec<String> {
    let mut problems = Vec::new();
    for vault in &status.vaults {
        vault.problems(&mut problems);
    }
    for one in &status.unread {
        problems.push(one.error.to_string());
    }
    for plan in &status.plans {
        if plan.health().is_bad() {
            problems.push(plan.verdict());
        }
        problems.extend(plan.unread.as_ref().map(ToString::to_string));
        problems.extend(plan.not_run());
        problems.extend(plan.noted_ahead());
    }
    problems.extend(status.lost_notes.iter().cloned());
    problems.extend(status.notify.told(status.limits.now));
    problems.extend(nobody_snapshots(status));
    problems.extend(status.disks.iter().filter_map(StatusDisk::alarm));
    for disk in &status.disks {
        problems.extend(disk_problem(status, disk));
        problems.extend(disk.drills.iter().flat_map(|one| one.problems(&disk.name)));
    }
    problems
        .iter()
        .map(|line| one_line(line).into_owned())
        .collect()
}

/// That nothing is snapshotted by itself, where nothing else says what is late.
fn nobody_snapshots(status: &HostStatus) -> Option<String> {
    if !status.unread.is_empty() || status.limits.max_age.is_some() {
        return None;
    }
    let plans = &status.plans;
    if plans.is_empty() {
        return Some(
            "there is no plan, and no --max-age was given: nothing says what is late".into(),
        );
    }
    plans.iter().all(|seen| seen.plan.suspended).then(|| {
        format!(
            "nothing is snapshotted by itself: {} held back; `stillpoint plan resume NAME`",
            match plans.len() {
                1 => "the one plan is".to_owned(),
                count => format!("all {count} plans are"),
            }
        )
    })
}

/// That a disk has no good snapshot, or an old one, and what should have taken one.
fn disk_problem(status: &HostStatus, disk: &StatusDisk) -> Option<String> {
    let name = &disk.name;
    let (limits, plans) = (status.limits, &status.plans);
    let left_out: usize = status.vaults.iter().map(AskedVault::left_out).sum();
    let none = match left_out {
        0 => "there is no good snapshot of it",
        _ => "no good snapshot of it is among the newest that were looked at",
    };
    if disk.overdue(limits) {
        return Some(match &disk.copy {
            Some(found) => format!(
                "{name} is OVERDUE: its last good snapshot is {} old",
                shown_age(disk.age(limits.now).unwrap_or_default(), found)
            ),
            None => format!("{name} is OVERDUE: {none}"),
        });
    }
    // What a vault has that could not be asked is not known; that is told.
    let all_asked = status.vaults.iter().all(|one| one.found.is_ok());
    // Where all plans are held back, that is told.
    let some_run = plans.iter().any(|seen| !seen.plan.suspended);
    let forgotten = disk.is_forgotten() && all_asked && some_run;
    forgotten.then(|| {
        format!(
            "{name} is NOT TAKEN: {none}, and no plan that is not held back takes it (`stillpoint \
             plan create --disk {name}`, or if it is not to be taken `status --exclude {name}`)"
        )
    })
}

impl AskedVault {
    fn left_out(&self) -> usize {
        self.found.as_ref().map_or(0, |found| found.left_out)
    }
}

fn shown_age(age: SignedDuration, found: &FoundCopy) -> String {
    format!("{} ({:.0})", rounded(age), found.copy.time)
}

/// About how long: two units at most.
fn rounded(age: SignedDuration) -> String {
    let minutes = age.as_secs() / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// What drills have found, a line each, and where there may be others.
fn drill_lines(status: &HostStatus) -> Vec<String> {
    let disks = status.disks.iter();
    let lines = disks.flat_map(|disk| disk.drills.iter().flat_map(|one| one.lines(&disk.name)));
    let lacks = status.vaults.iter().filter_map(|one| {
        let lacks = one.drilled.lacks.as_ref()?;
        Some(format!("drilled: vault {}: {lacks}", one.vault))
    });
    lines.chain(lacks).collect()
}

fn disk_table(status: &HostStatus) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["DISK", "LAST GOOD SNAPSHOT", "AGE", "LEVEL", "VAULT"]);
    // What was not asked is not known.
    let unknown = status.vaults.iter().any(|one| one.found.is_err());
    let none = if unknown { "?" } else { "none" };
    for disk in &status.disks {
        let copy = disk.copy.as_ref();
        let of = |text: Option<String>| text.unwrap_or_else(|| none.into());
        table.add_row(cells([
            disk.name.clone(),
            of(copy.map(|found| found.copy.snapshot.to_string())),
            of(disk.age(status.limits.now).map(rounded)),
            of(copy.map(|found| found.copy.level.to_string())),
            of(copy.map(|found| found.vault.clone())),
        ]));
    }
    match status.disks.is_empty() {
        true => String::new(),
        false => table_text(&table) + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_two_units() {
        for (seconds, text) in [
            (59, "0 min"),
            (3599, "59 min"),
            (3600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(rounded(SignedDuration::from_secs(seconds)), text);
        }
    }
}
