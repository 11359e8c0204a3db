//! `init`: makes a vault.

use super::args::InitArgs;
use super::context;
use super::outcome::Outcome;
use crate::error::{ErrorKind, Result};
use crate::model::printable::one_line;
use crate::store::{Vault, VaultOptions};
use serde_json::json;
use std::path::Path;

pub fn run(args: &InitArgs) -> Result<Outcome> {
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
    let info = vault.info();
    let json = json!({
        "vault": info.id.to_string(),
        "location": vault.location(),
        "name": info.name,
        "description": info.description,
        "format": info.format,
        "created": info.created,
    });
    Ok(Outcome::done(
        json,
        format!(
            "made the vault {:?} in {}",
            info.name,
            one_line(&vault.location())
        ),
    ))
}
