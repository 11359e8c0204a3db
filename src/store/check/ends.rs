//! How a check begins and ends: what is at the place already, and that nothing is left behind.

use super::found::{RowState, StoreCheck};
use super::trial::Trial;
use crate::error::{ErrorKind, Result};
use crate::store::object_store::ObjectStore;
use crate::store::vault::Vault;
use std::sync::Arc;

/// Deletes what was put; names what is left, in what was found or in the error.
pub(super) fn conclude(
    mut trial: Trial,
    tried: Result<()>,
    mut found: StoreCheck,
) -> Result<StoreCheck> {
    found.left_behind = trial.clean();
    let left = found.left_behind.join(", ");
    let place = found.location.clone();
    if let Err(error) = tried {
        return Err(match found.left_behind.is_empty() {
            true => error.and_said("nothing was left behind"),
            false => {
                let hint = format!("delete what is left below {place}: {left}");
                error
                    .and_said("not all that was put could be deleted")
                    .with_hint(hint)
            }
        });
    }
    if !found.left_behind.is_empty() {
        let what = format!("left behind, as it could not be deleted: {left}");
        found.row("left_behind", RowState::Warning, what);
        found.remedy(format!("delete it below {place}: nothing needs it"));
    }
    found.requests = trial.store().requests();
    Ok(found)
}

/// What is at the place already. False: things that are not a vault's, among which nothing is put.
pub(super) fn look(
    store: &Arc<dyn ObjectStore>,
    is_empty: Result<bool>,
    found: &mut StoreCheck,
) -> bool {
    let vault = Vault::open(Arc::clone(store));
    match (vault, is_empty) {
        (Ok(vault), _) => {
            let info = vault.info();
            let what = format!("the vault {:?}, of format {}", info.name, info.format);
            found.good("place", what);
        }
        (Err(error), Ok(true)) if error.kind() == ErrorKind::NotFound => {
            let place = &found.location;
            let what = format!("nothing yet: stillpoint init {place} makes a vault");
            found.good("place", what);
        }
        (Err(error), Ok(false)) if error.kind() == ErrorKind::NotFound => {
            let what = "it is not empty, and is no vault: init makes none there";
            found.row("place", RowState::Bad, what);
            found.remedy("name an empty place, or one that is not there yet");
            return false;
        }
        (Err(error), Ok(_)) if error.kind() == ErrorKind::Damaged => {
            found.failed("place", RowState::Bad, &error);
        }
        // What cannot be got or listed is told by the rows of these.
        (Err(error), _) => found.failed("place", RowState::Unknown, &error),
    }
    true
}
