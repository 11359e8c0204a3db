//! `init`: makes a vault.

use super::args::{Common, InitArgs};
use super::context;
use crate::error::{ErrorKind, Result};
use crate::report::{self, Report};
use crate::store::{self, VaultOptions};

pub fn run(args: &InitArgs, common: &Common) -> Result<Report> {
    let place = context::vault_named(common, Some(&args.place))?;
    let options = VaultOptions {
        name: args.name.clone(),
        description: args.description.clone(),
        compression: args.compression.resolve(&place),
    };
    let vault = store::create(&place, options);
    let vault = vault.map_err(|error| match error.kind() {
        ErrorKind::NotFound if !place.is_s3() => {
            error.with_hint("make the directory above it first: mkdir -p")
        }
        _ => error,
    })?;
    Ok(report::vault::created(&vault))
}
