//! `check`: what the store of a vault can and cannot do, tried out.

use super::args::Common;
use super::{context, signals};
use crate::engine::check;
use crate::error::Result;
use crate::report::{self, Report};
use crate::store::CheckOptions;

pub fn run(common: &Common) -> Result<Report> {
    let place = context::vault_named(common, common.vault.as_deref())?;
    let found = check(
        &place,
        &common.places()?,
        CheckOptions::until(signals::check),
    )?;
    Ok(report::check::report(&found))
}
