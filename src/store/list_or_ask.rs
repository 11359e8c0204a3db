//! Whether to list objects, or to ask for those that are wanted one by one, whichever costs less. A
//! page of a listing knows of 1000 objects, of whichever host. So a vault of few objects is listed,
//! and in one of many is asked for those that are wanted.

use super::object_name::ObjectName;
use super::object_store::{ObjectInfo, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Cancel;

/// Objects on a page of a listing.
const PAGE: usize = 1000;
/// As many questions for one size cost as much as a page (list prices of AWS, 2026: 5 and 0.4
/// dollars a million).
const PAGE_COSTS: usize = 12;

/// How much may be listed in place of so many questions.
#[derive(Clone, Copy)]
pub(super) struct ListingBudget {
    /// How many objects are wanted.
    pub(super) wanted: usize,
    /// Most pages, whatever that saves.
    pub(super) pages: usize,
}

/// Lists below `prefix` as long as that costs less than to ask for what is wanted. Returns whether
/// all was listed; what was not is to be asked for, also where the listing broke. `cancel` is asked
/// now and then, and its error is returned.
pub(super) fn list_while_cheaper(
    store: &dyn ObjectStore,
    prefix: &ObjectName,
    budget: ListingBudget,
    cancel: &dyn Cancel,
    each: &mut dyn FnMut(ObjectInfo),
) -> Result<bool> {
    let most = (budget.wanted / PAGE_COSTS).min(budget.pages) * PAGE;
    if most == 0 {
        return Ok(false);
    }
    let mut listed = 0;
    let all = store.list(prefix, &mut |object| {
        each(object);
        listed += 1;
        match listed < most {
            true => cancel.check(),
            false => Err(Error::new(ErrorKind::Failed, "enough was listed")),
        }
    });
    match all {
        Ok(()) => Ok(true),
        Err(error) if listed < most && error.kind() != ErrorKind::Io => Err(error),
        Err(_) => Ok(false),
    }
}
