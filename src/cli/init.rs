//! `init`: makes a vault.

use super::args::InitArgs;
use super::context;
use crate::error::{ErrorKind, Result};
use crate::report::{self, Report};
use crate::store::{Vault, VaultOptions};
use std::path::Path;

pub fn run(args: &InitArgs) -> Result<Report> {
    context::refuse_remote(&args.directory)?;
    let options = VaultOptions {
        name: args.name.clone(),
        description: args.description.clone(),
    };
    let vault = Vault::create_local(Path::new(&args.directory), options);
    let vault = vault.map_err(|error| match error.kind() {
        ErrorKind::NotFound => error.with_hint("make the directory above it first: mkdir -p"),
        _ => error,
    })?;
    Ok(report::vault::created(&vault))
}
