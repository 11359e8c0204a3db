//! `init`: makes a vault.

use super::args::InitArgs;
use crate::error::{ErrorKind, Result};
use crate::report::{self, Report};
use crate::store::{self, Location, VaultOptions};

pub fn run(args: &InitArgs) -> Result<Report> {
    let place = Location::parse(&args.directory)?;
    let options = VaultOptions {
        name: args.name.clone(),
        description: args.description.clone(),
        compression: args.compression.resolve(&place),
    };
    let vault = store::create(&place, options);
    let vault = vault.map_err(|error| match error.kind() {
        ErrorKind::NotFound => error.with_hint("make the directory above it first: mkdir -p"),
        _ => error,
    })?;
    Ok(report::vault::created(&vault))
}
