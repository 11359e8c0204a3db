//! A vault that was made, and what was deleted from one.

use super::Report;
use crate::model::printable::one_line;
use crate::store::Vault;
use serde_json::json;

/// What `init` reports.
pub fn created(vault: &Vault) -> Report {
    let info = vault.info();
    let json = json!({
        "vault": info.id.to_string(),
        "location": vault.location(),
        "name": info.name,
        "description": info.description,
        "format": info.format,
        "compression": info.compression,
        "dedup": info.dedup,
        "created": info.created,
        "encrypted": info.encryption.is_some(),
        "lock": info.lock.map(|rule| rule.to_string()),
    });
    Report::done(
        json,
        format!(
            "made the vault {:?} in {}{}{}",
            info.name,
            one_line(&vault.location()),
            match info.encryption {
                None => "",
                Some(_) => ", encrypted: without a passphrase or key of it nobody reads it again",
            },
            match info.lock {
                None => String::new(),
                Some(rule) => format!(", locked by {rule}"),
            }
        ),
    )
}

/// What `delete` reports of the snapshots of these IDs.
pub fn deleted(deleted: &[String]) -> Report {
    let text = format!(
        "deleted {}; `stillpoint gc` frees the space of what nothing needs",
        deleted.join(", ")
    );
    let json = json!({"deleted": deleted, "dry_run": false, "reclaimed_bytes": 0});
    Report::done(json, text)
}

/// What `delete --dry-run` reports of them.
pub fn would_delete(deleted: &[String]) -> Report {
    let text = format!("would delete {}; nothing keeps them", deleted.join(", "));
    let json = json!({"deleted": deleted, "dry_run": true, "reclaimed_bytes": 0});
    Report::done(json, text)
}
