//! `init`: makes a vault.

use super::args::{Common, InitArgs};
use super::{context, key};
use crate::error::{Error, ErrorKind, Result};
use crate::format::KeyCost;
use crate::report::{self, Report};
use crate::store::{self, Location, NewKey, VaultOptions};

pub fn run(args: &InitArgs, common: &Common) -> Result<Report> {
    let place = context::vault_named(common, Some(&args.place))?;
    if place.key().is_named() && !args.encrypt {
        let what = "a passphrase or key was given, and the vault would not be encrypted";
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint("add --encrypt, or leave the passphrase out"));
    }
    let place = match args.lock {
        Some(rule) => place.with_lock(rule),
        None => place,
    };
    let first = args.encrypt.then(|| first_key(&place, &args.label));
    let options = VaultOptions {
        name: args.name.clone(),
        description: args.description.clone(),
        compression: args.compression.resolve(&place),
        dedup: args.dedup.into(),
        encrypt: first.transpose()?,
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

/// The first passphrase or key of an encrypted vault: what was named, or who is there says twice.
fn first_key(place: &Location, label: &str) -> Result<NewKey> {
    if !place.key().is_named() {
        return key::first_key(label);
    }
    let secret = place.key().read(&place.shown())?;
    let secret = secret.ok_or_else(|| Error::new(ErrorKind::Usage, "there is no passphrase"))?;
    Ok(NewKey {
        secret,
        label: label.into(),
        cost: KeyCost::USUAL,
    })
}
