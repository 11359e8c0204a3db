//! Whether the steps of a plan that delete may be run, and what is said where they may not. It
//! looks once after the snapshot, and again at the clocks before each of them.

use super::super::args::Common;
use super::whose_vault::{FoundVault, VaultCase, vault_of, whose};
use crate::error::Result;
use crate::model::exit::{BELOW, DONE};
use crate::plan::{
    GC, HoldReason, NotedVault, PRUNE, PlanRecord, STEADY_RUNS, SnapshotPlan, StepOutcome,
};
use jiff::SignedDuration;

/// Whether a step deletes.
pub fn deletes(step: &str) -> bool {
    [PRUNE, GC].contains(&step)
}

/// What a run knows of itself.
pub struct DeleteAsk<'a> {
    pub plan: &'a SnapshotPlan,
    /// The vault of the runs before.
    pub noted: Option<&'a NotedVault>,
    /// The label of the machine; empty: there is none.
    pub machine: &'a str,
    pub common: &'a Common,
}

/// What is not noted is not known for so long, and that is told from then on.
const LONG: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What was found after a snapshot.
pub struct MayDelete {
    vault: Result<(FoundVault, VaultCase)>,
    has_machine: bool,
}

impl MayDelete {
    /// Looks whose the vault is that the run went to.
    pub fn look(ask: &DeleteAsk<'_>) -> Self {
        Self {
            vault: vault_of(ask.plan, ask.common).map(|found| {
                let case = whose(ask.noted, &found);
                (found, case)
            }),
            has_machine: !ask.machine.is_empty(),
        }
    }

    /// The vault to note as the plan's.
    pub fn own_vault(&self) -> Option<NotedVault> {
        match self.vault.as_ref().ok()? {
            (_, VaultCase::Other(_) | VaultCase::ByEnvironment) => None,
            (found, VaultCase::Own | VaultCase::First) => Some(found.vault.clone()),
        }
    }

    /// What is to be told where the run went to another vault.
    pub fn other_vault(&self) -> Option<&str> {
        match &self.vault.as_ref().ok()?.1 {
            VaultCase::Other(why) => Some(why),
            _ => None,
        }
    }

    /// Why a step is not run; `None`: it may be.
    pub fn why_not(
        &self,
        step: &str,
        plan: &SnapshotPlan,
        record: &PlanRecord,
    ) -> Option<StepOutcome> {
        if !deletes(step) {
            return None;
        }
        if record.prune_held.is_some() {
            return Some(held_back(plan, record));
        }
        let name = &plan.name;
        match &self.vault {
            Ok((_, VaultCase::Own | VaultCase::First)) if step != PRUNE => None,
            _ if step == PRUNE && !self.has_machine => Some(unlabelled()),
            Ok((_, VaultCase::Own)) => None,
            Ok((_, VaultCase::First)) => Some(not_yet(
                "nothing is deleted by the first run that is noted: the next one knows whether it \
                 is in the same vault",
            )),
            Ok((found, VaultCase::ByEnvironment)) => Some(refused(
                format!(
                    "nothing is deleted: the environment alone names the vault ({}), and neither \
                     the plan nor the configuration says that it is the plan's",
                    found.vault.place
                ),
                format!(
                    "if it is, say so: `stillpoint plan modify {name} --vault ...`, or vault = \
                     \"...\" in the file"
                ),
            )),
            Ok((_, VaultCase::Other(why))) => Some(refused(
                format!("nothing is deleted: {why}"),
                format!(
                    "if that is the plan's vault now, say so: `stillpoint plan modify {name} \
                     --vault ...`"
                ),
            )),
            Err(error) => Some(refused(
                format!("nothing is deleted: whose vault it is could not be asked: {error}"),
                "it is asked again after the next snapshot".into(),
            )),
        }
    }
}

/// What is said in place of deleting where the clock may be wrong.
fn held_back(plan: &SnapshotPlan, record: &PlanRecord) -> StepOutcome {
    let since = record.prune_held.unwrap_or_default();
    let name = &plan.name;
    let ends = format!(
        "it ends by itself after {STEADY_RUNS} runs and three days on a steady clock, sooner where \
         a time service keeps it"
    );
    let clock = record.clock.as_ref().map(|clock| clock.wall);
    let lasts = clock.is_some_and(|now| now.duration_since(since) > LONG);
    match record.hold_reason {
        HoldReason::Unnoted if !lasts => not_yet(&format!(
            "nothing is deleted yet: of runs before {since:.0} nothing is known, and nobody says \
             that the clock is right; {ends}"
        )),
        HoldReason::Jumped | HoldReason::Unnoted => refused(
            format!(
                "nothing is deleted since {since:.0}: the clock has jumped, or was off for long, \
                 and nobody says that it is right"
            ),
            format!(
                "if the clock is right, `stillpoint plan run {name} --clock-is-right` once: then \
                 it goes on; {ends}"
            ),
        ),
        HoldReason::Disputed => refused(
            format!(
                "nothing is deleted since {since:.0}: the vault's own clock says another time than \
                 this host's"
            ),
            format!(
                "set the clock that is wrong (`timedatectl` shows this host's); if it is the \
                 vault's: `stillpoint plan run {name} --clock-is-right --distrust-clock`"
            ),
        ),
    }
}

/// What is said where nothing tells this machine from others.
fn unlabelled() -> StepOutcome {
    refused(
        "nothing is deleted: without /etc/machine-id, and without an ID of the firmware, \
         snapshots of this machine cannot be told from others' of its name"
            .into(),
        "systemd-machine-id-setup makes one".into(),
    )
}

fn refused(said: String, hint: String) -> StepOutcome {
    StepOutcome {
        exit_code: BELOW,
        job: None,
        snapshot: None,
        said,
        hint: Some(hint),
    }
}

/// Nothing is amiss.
fn not_yet(said: &str) -> StepOutcome {
    StepOutcome {
        exit_code: DONE,
        job: None,
        snapshot: None,
        said: said.to_owned(),
        hint: None,
    }
}
