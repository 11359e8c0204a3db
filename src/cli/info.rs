//! `info`: what a vault holds, and what would be free again if parts of it were gone.

use super::args::Common;
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::look_at_holdings;
use crate::error::Result;
use crate::report::info::HoldingsReport;
use crate::report::{self, Report};

pub fn run(common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    // It judges what is damaged: it believes the store itself, and no cache.
    let vault = context::open_vault_itself(common)?;
    context::asking(&vault, progress, || {
        let found = look_at_holdings(&vault, progress)?;
        Ok(report::info::report(&HoldingsReport {
            found: &found,
            location: &vault.location(),
            vault: vault.info(),
        }))
    })
}
