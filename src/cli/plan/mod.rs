//! `plan`: what this host snapshots by itself. It must never take a snapshot in a way of its own:
//! what it runs are commands that anyone could type.

mod clock_word;
mod create;
mod delete;
mod here;
mod list;
mod look;
mod lost_notes;
mod may_delete;
mod modify;
mod places;
mod run;
mod set_keys;
mod show;
mod steps;
mod systemd;
mod whose_vault;
mod words;
mod work;

pub use look::{PlansFound, look_at_plans, look_without_timers};
pub use lost_notes::lost_notes;
pub use run::vault_is_a_flag;
pub use set_keys::set_keys;
pub use steps::Dispatch;

use super::args::{Common, PlanAction, PlanArgs};
use crate::error::Result;
use crate::report::Report;

/// Runs it; `dispatch` runs the commands of a plan.
pub fn run(args: &PlanArgs, common: &Common, dispatch: Dispatch) -> Result<Report> {
    match &args.action {
        PlanAction::Create(args) => create::run(args, common),
        PlanAction::List => list::run(common),
        PlanAction::Show(args) => show::run(args, common),
        PlanAction::Modify(args) => modify::run(args, common),
        PlanAction::Suspend(args) => modify::suspend(args, common),
        PlanAction::Resume(args) => modify::resume(args, common),
        PlanAction::Run(args) => run::run(args, common, dispatch),
        PlanAction::Delete(args) => delete::run(args, common),
    }
}
