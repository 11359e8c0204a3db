//! How a check begins and ends: what is at the place already, and that nothing is left behind.

use super::found::{RowState, StoreCheck};
use super::objects::passed;
use super::trial::Trial;
use crate::error::{Error, ErrorKind, Result};
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
        return Err(found.stopped(error));
    }
    if !found.left_behind.is_empty() {
        let what = format!("left behind, as it could not be deleted: {left}");
        found.row("left_behind", RowState::Warning, what);
        found.remedy(format!("delete it below {place}: nothing needs it"));
    }
    found.requests = trial.store().requests();
    Ok(found)
}

/// What is at the place already. False: nothing is put there, as there are things that are not a
/// vault's, or as it hangs. An error says that it was stopped.
pub(super) fn look(trial: &Trial, is_empty: Result<bool>, found: &mut StoreCheck) -> Result<bool> {
    if let Err(error) = is_empty.as_ref().map_err(|error| error.retold())
        && trial.has_hung()
    {
        return Ok(hangs(found, &error));
    }
    let store = Arc::clone(trial.store());
    let small = trial.options().small;
    let vault = trial.within(small, move || Ok(Vault::open(store)?.info().clone()));
    match (passed(vault)?, is_empty) {
        (Ok(info), _) => {
            let what = format!("the vault {:?}, of format {}", info.name, info.format);
            found.good("place", what);
            found.lock = info.lock;
        }
        (Err(error), _) if trial.has_hung() => return Ok(hangs(found, &error)),
        (Err(error), Ok(true)) if error.kind() == ErrorKind::NotFound => {
            let place = &found.location;
            let what = format!("nothing yet: stillpoint init {place} makes a vault");
            found.good("place", what);
        }
        (Err(error), Ok(false)) if error.kind() == ErrorKind::NotFound => {
            let what = "it is not empty, and is no vault: init makes none there";
            found.row("place", RowState::Bad, what);
            found.remedy("name an empty place, or one that is not there yet");
            return Ok(false);
        }
        (Err(error), Ok(_)) if error.kind() == ErrorKind::Damaged => {
            found.failed("place", RowState::Bad, &error);
        }
        // What cannot be got or listed is told by the rows of these.
        (Err(error), _) => found.failed("place", RowState::Unknown, &error),
    }
    Ok(true)
}

/// What hangs is tried no further: each try would hang as long.
fn hangs(found: &mut StoreCheck, error: &Error) -> bool {
    found.failed("place", RowState::Bad, error);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::check::CheckOptions;
    use crate::store::{FaultStore, MemoryStore};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// A try of a store whose gets hang; counts them.
    fn hanging(gets: &Arc<AtomicU32>) -> Trial {
        let gets = Arc::clone(gets);
        let store = FaultStore::new(Arc::new(MemoryStore::new()), move |operation| {
            if operation.verb == "get" {
                gets.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(())
        });
        let options = CheckOptions {
            small: Duration::from_millis(200),
            ..CheckOptions::until(|| Ok(()))
        };
        Trial::new(Arc::new(store), options)
    }

    #[test]
    fn a_place_that_hangs_is_given_up_and_bad() {
        let gets = Arc::new(AtomicU32::new(0));
        let trial = hanging(&gets);
        let mut found = StoreCheck::default();
        assert!(!look(&trial, Ok(true), &mut found).unwrap());
        assert_eq!(found.worst(), RowState::Bad);
        assert!(found.rows[0].found.contains("did not answer"), "{found:?}");
        assert_eq!(gets.load(Ordering::SeqCst), 1);

        // What could not be listed in time is not asked for more.
        let trial = hanging(&gets);
        let small = trial.options().small;
        let is_empty = trial.within(small, || {
            std::thread::sleep(Duration::from_secs(3600));
            Ok(true)
        });
        let mut found = StoreCheck::default();
        assert!(!look(&trial, is_empty, &mut found).unwrap());
        assert_eq!(found.worst(), RowState::Bad);
        assert_eq!(gets.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_that_hangs_hears_that_it_is_to_stop() {
        let gets = Arc::new(AtomicU32::new(0));
        let stopped = CheckOptions::until(|| Err(Error::new(ErrorKind::Interrupted(2), "stop")));
        let trial = Trial::new(Arc::clone(hanging(&gets).store()), stopped);
        let error = look(&trial, Ok(true), &mut StoreCheck::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
    }
}
