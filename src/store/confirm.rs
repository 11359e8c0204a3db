//! Whether a store has kept what it said it had put.

use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// How often a store is asked for what it does not show.
const TRIES: usize = 3;
/// The pause between.
const BETWEEN: Duration = Duration::from_secs(1);

/// Asks for the length of an object that was put, where the store is of a sort that says "done" of
/// what it has not kept. An error when it has another length, or is missing for two seconds.
pub(super) fn confirm_kept(store: &dyn ObjectStore, name: &ObjectName, length: u64) -> Result<()> {
    if !store.capabilities().confirms {
        return Ok(());
    }
    let mut tries = 1..TRIES;
    let what = loop {
        match store.size(name) {
            Ok(size) if size == length => return Ok(()),
            Ok(size) => break format!("has kept {size} of the {length} bytes of {name}"),
            // What was just put may not be seen for a moment.
            Err(error) if error.kind() == ErrorKind::NotFound && tries.next().is_some() => {
                std::thread::sleep(BETWEEN);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                break format!("has not kept {name}");
            }
            Err(error) => return Err(error),
        }
    };
    let what = format!("the store said that it had put everything, and {what}");
    Err(Error::new(ErrorKind::Failed, what)
        .with_hint("run it again; if that happens often, another store is needed"))
}
