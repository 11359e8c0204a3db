//! `key`: which passphrases and key files open an encrypted vault, and a key for hosts that only
//! write. It must never print a key.

use super::args::{Common, KeyAction, KeyArgs, KeyExportArgs, KeyRemoveArgs, NewKeyArgs};
use super::{context, prompt};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::KeyCost;
use crate::model::SnapshotId;
use crate::report::key::KeyChange;
use crate::report::{self, Report};
use crate::store::{self, KeyFound, KeyRemoved, KeySource, Location, NewKey, Vault};
use crate::sys::secret::SecretBytes;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

pub fn run(args: &KeyArgs, common: &Common) -> Result<Report> {
    let place = context::vault_named(common, common.vault.as_deref())?;
    match &args.action {
        KeyAction::List => list(&place),
        KeyAction::Add(args) => add(args, &place),
        KeyAction::Remove(args) => remove(args, &place),
        KeyAction::Change(args) => change(args, &place),
        KeyAction::Export(args) => export(args, &place),
    }
}

fn list(place: &Location) -> Result<Report> {
    let (info, keys) = store::look_at_keys(place)?;
    if info.encryption.is_none() {
        return Err(not_encrypted());
    }
    Ok(report::key::report(&keys, &KeyChange::default()))
}

fn not_encrypted() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the vault is not encrypted: it has no keys",
    )
    .with_hint("a vault is encrypted from its first day on: stillpoint init --encrypt")
}

/// The vault, and the passphrase that has opened it.
fn opened(place: &Location) -> Result<(Vault, NewKey)> {
    let (info, _) = store::look_at_keys(place)?;
    if info.encryption.is_none() {
        return Err(not_encrypted());
    }
    let shown = place.shown();
    let secret = place.key().read(&shown)?;
    let what = "the passphrase or key of the vault";
    let secret = secret.ok_or_else(|| no_passphrase(what, "--password-file"))?;
    let given = KeySource::Given(Arc::clone(&secret));
    let vault = store::open(&place.clone().with_key(given))?;
    let used = NewKey {
        secret,
        label: "key".into(),
        cost: KeyCost::USUAL,
    };
    Ok((vault, used))
}

/// Nobody gave `what`, which the file of this option could have held.
fn no_passphrase(what: &str, option: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} was not given")).with_hint(format!(
        "name a file with {option}, or run it on a terminal"
    ))
}

/// A new passphrase: out of a file, or of whoever is at the terminal.
pub fn new_key(file: Option<&Path>, label: &str) -> Result<NewKey> {
    made_key(file, label, "--new-password-file")
}

/// The first one of a vault: of whoever is at the terminal.
pub fn first_key(label: &str) -> Result<NewKey> {
    made_key(None, label, "--password-file")
}

fn made_key(file: Option<&Path>, label: &str, option: &str) -> Result<NewKey> {
    let source = match file {
        Some(file) => Some(KeySource::File(file.into())),
        None => prompt::ask_new()?,
    };
    let secret = source.map(|source| source.read("the vault")).transpose()?;
    Ok(NewKey {
        secret: secret
            .flatten()
            .ok_or_else(|| no_passphrase("the new passphrase or key", option))?,
        label: label.into(),
        cost: KeyCost::USUAL,
    })
}

fn add(args: &NewKeyArgs, place: &Location) -> Result<Report> {
    let (vault, _) = opened(place)?;
    vault.keys()?.need_to_make_keys()?;
    let new = new_key(args.new_password_file.as_deref(), &args.label)?;
    let change = KeyChange {
        added: Some(vault.add_key(&new)?),
        ..KeyChange::default()
    };
    Ok(report::key::report(&vault.key_entries()?, &change))
}

fn remove(args: &KeyRemoveArgs, place: &Location) -> Result<Report> {
    let (vault, used) = opened(place)?;
    vault.keys()?.need_to_make_keys()?;
    let id = find(&vault.key_entries()?, &args.key)?;
    let removed = vault.remove_key(id, &used)?;
    let mut change = KeyChange {
        removed: Some(id),
        ..KeyChange::default()
    };
    if let KeyRemoved::PutBack(again) = removed {
        change.added = Some(again);
    }
    let mut report = report::key::report(&vault.key_entries()?, &change);
    let meanwhile = "the key that was given had been taken away meanwhile";
    match removed {
        KeyRemoved::Gone => {}
        KeyRemoved::OwnGone => report.warn(&format!("{meanwhile}: use another from here on")),
        KeyRemoved::PutBack(_) => report.warn(&format!("{meanwhile}: it is there again")),
    }
    Ok(report)
}

fn change(args: &NewKeyArgs, place: &Location) -> Result<Report> {
    let (vault, _) = opened(place)?;
    vault.keys()?.need_to_make_keys()?;
    let new = new_key(args.new_password_file.as_deref(), &args.label)?;
    let change = KeyChange {
        added: Some(vault.change_key(&new)?),
        changed: true,
        ..KeyChange::default()
    };
    Ok(report::key::report(&vault.key_entries()?, &change))
}

fn export(args: &KeyExportArgs, place: &Location) -> Result<Report> {
    let (vault, _) = opened(place)?;
    let text = vault.keys()?.writer_text()?;
    write_new(&args.writer, &text)?;
    let change = KeyChange {
        file: Some(args.writer.clone()),
        ..KeyChange::default()
    };
    Ok(report::key::report(&vault.key_entries()?, &change))
}

/// A new file that its owner alone can read.
fn write_new(path: &Path, text: &SecretBytes) -> Result<()> {
    let mut options = File::options();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.io_context("make", path)?;
    let written = file.write_all(text.bytes()).and_then(|()| file.sync_all());
    written
        .inspect_err(|_| drop(std::fs::remove_file(path)))
        .io_context("write", path)
}

/// The key that `text` names: an ID, or the start of just one.
fn find(keys: &[KeyFound], text: &str) -> Result<SnapshotId> {
    let wanted = text.to_ascii_uppercase();
    let mut matching = keys
        .iter()
        .map(|key| key.id)
        .filter(|id| !wanted.is_empty() && id.to_string().starts_with(&wanted));
    let wrong = |kind, what: String| {
        Error::new(kind, what).with_hint("see which there are with: stillpoint key list")
    };
    match (matching.next(), matching.next()) {
        (None, _) => Err(wrong(
            ErrorKind::NotFound,
            format!("the vault has no key {text:?}"),
        )),
        (Some(only), None) => Ok(only),
        (Some(one), Some(two)) => Err(wrong(
            ErrorKind::Usage,
            format!("{text:?} could be {one} or {two}, and maybe others"),
        )),
    }
}
