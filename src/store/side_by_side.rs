//! Gets several objects at once and hands them out in order, so that what is far away costs one
//! wait for many. Never more of them are in memory than are got at once.

use super::name::ObjectName;
use super::object_store::{Blob, ObjectStore};
use crate::error::{Error, ErrorKind, Result};

/// Most objects that are got at once.
const MOST: usize = 8;

/// What is got, and how.
pub(super) struct WantedObjects<'a> {
    /// Names, in the order in which they are handed out.
    pub(super) names: &'a [ObjectName],
    /// Most bytes that one may have.
    pub(super) limit: u64,
}

/// Gets all that is wanted; `take` is given each, or why it could not be had. Its error ends it.
/// Which requests are made does not depend on which of them is faster.
pub(super) fn get_in_order(
    store: &dyn ObjectStore,
    wanted: &WantedObjects<'_>,
    take: &mut dyn FnMut(Result<Blob>) -> Result<()>,
) -> Result<()> {
    let at_once = store.capabilities().gets.clamp(1, MOST);
    let get = |name| store.get(name, wanted.limit);
    let lost = |_| {
        Err(Error::new(
            ErrorKind::Failed,
            "a reading thread ended early",
        ))
    };
    for some in wanted.names.chunks(at_once) {
        let [first, rest @ ..] = some else { continue };
        let got: Vec<Result<Blob>> = std::thread::scope(|scope| {
            let start = |name| {
                let thread = std::thread::Builder::new().name("get".into());
                (name, thread.spawn_scoped(scope, move || get(name)).ok())
            };
            let threads: Vec<_> = rest.iter().map(start).collect();
            let mut got = vec![get(first)];
            got.extend(threads.into_iter().map(|(name, thread)| match thread {
                Some(thread) => thread.join().unwrap_or_else(lost),
                // A host without a thread left can still read, one after another.
                None => get(name),
            }));
            got
        });
        got.into_iter().try_for_each(&mut *take)?;
    }
    Ok(())
}
