//! Why a place without a good `vault.json` is not opened: it is empty, or a vault that has lost
//! that file. It only looks.

use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use crate::error::{Error, ErrorKind};
use crate::format::{ObjectKind, Sealer, VaultInfo};

/// Most manifests that are read to find the vault's own name.
const MAX_ASKED: usize = 16;

/// Why a vault without `vault.json` is not opened.
pub(super) fn no_info(store: &dyn ObjectStore) -> Error {
    let place = store.location();
    // A store may say of an object that it is not there, and mean the bucket.
    if store.directory().is_none()
        && let Err(error) = store.list_some(&ObjectName::snapshots(), 1)
    {
        return error;
    }
    if was_vault(store) {
        let what = format!("{place} was a vault: all but its vault.json is there");
        return how_to_put_back(store, Error::new(ErrorKind::Damaged, what));
    }
    let what = format!("{place} is not a vault: it has no vault.json");
    let hint = match store.directory() {
        Some(_) => "make one in an empty directory with: stillpoint init DIRECTORY".to_owned(),
        None => format!("make one there with: stillpoint init {place}"),
    };
    Error::new(ErrorKind::NotFound, what).with_hint(hint)
}

/// The same for a vault whose `vault.json` cannot be read. An error that is no damage stays as it
/// is.
pub(super) fn bad_info(store: &dyn ObjectStore, error: Error) -> Error {
    let error = error.context(store.location());
    match error.kind() {
        ErrorKind::Damaged if was_vault(store) => how_to_put_back(store, error),
        _ => error,
    }
}

/// Whether something of a vault is there.
pub(super) fn was_vault(store: &dyn ObjectStore) -> bool {
    has(store, &ObjectName::snapshots()) || has(store, &ObjectName::segments())
}

fn has(store: &dyn ObjectStore, folder: &ObjectName) -> bool {
    store
        .list_some(folder, 1)
        .is_ok_and(|found| !found.is_empty())
}

fn how_to_put_back(store: &dyn ObjectStore, error: Error) -> Error {
    let hint = "put vault.json back from a copy of the vault, it never changes; what is there of \
                the vault is untouched";
    if has(store, &ObjectName::keys()) {
        return error.with_hint(format!(
            "{hint}. It was encrypted, as keys lie there: no new vault.json can stand for it"
        ));
    }
    match rebuilt(store) {
        None => error.with_hint(hint),
        Some(line) => error.with_hint(format!(
            "{hint}; without a copy, a vault.json of this one line does: {line}"
        )),
    }
}

/// The line of a `vault.json` that fits the snapshots that are there.
fn rebuilt(store: &dyn ObjectStore) -> Option<String> {
    let snapshots = store.list_some(&ObjectName::snapshots(), MAX_ASKED).ok()?;
    let info = snapshots.iter().find_map(|manifest| {
        let bytes = store
            .get(&manifest.name, ObjectKind::Manifest.most_stored())
            .ok()?;
        VaultInfo::from_manifest(&bytes, &Sealer::without_keys()).ok()
    })?;
    let line = String::from_utf8(info.encode().ok()?).ok()?;
    Some(line.trim_end().to_owned())
}
