//! Whether a store has kept what it said it had put.

use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use crate::error::{Error, ErrorKind, Result};

/// Asks for the length of an object that was put, where the store is of a sort that says "done" of
/// what it has not kept. An error when it is missing or has another length.
pub(super) fn confirm_kept(store: &dyn ObjectStore, name: &ObjectName, length: u64) -> Result<()> {
    if !store.capabilities().confirms {
        return Ok(());
    }
    let what = match store.size(name) {
        Ok(size) if size == length => return Ok(()),
        Ok(size) => format!("has kept {size} of the {length} bytes of {name}"),
        Err(error) if error.kind() == ErrorKind::NotFound => format!("has not kept {name}"),
        Err(error) => return Err(error),
    };
    let what = format!("the store said that it had put everything, and {what}");
    Err(Error::new(ErrorKind::Failed, what)
        .with_hint("run it again; if that happens often, another store is needed"))
}
