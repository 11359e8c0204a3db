//! Asks a store many small questions, several at once, so that what is far away costs few waits.

use super::object_store::ObjectStore;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Cancel;
use crate::sys::locked::LockExt;
use std::sync::Mutex;

/// Most questions at once.
const MOST: usize = 16;
/// The same of questions whose answers have no bodies.
const MOST_BODILESS: usize = 32;

/// Asks two questions at once; the first one's error goes before.
pub(super) fn ask_both(
    one: impl FnOnce() -> Result<()> + Send,
    other: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let one = Mutex::new(Some(one));
    // A host without a thread left asks one after the other.
    let ask_one = || one.locked().take().map(|one| one());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ask".into());
        let thread = thread.spawn_scoped(scope, ask_one).ok();
        let other = other();
        let one = match thread {
            Some(thread) => thread.join().unwrap_or_else(|_| Some(lost())),
            None => ask_one(),
        };
        one.unwrap_or(Ok(())).and(other)
    })
}

fn lost<T>() -> Result<T> {
    let what = "an asking thread ended early";
    Err(Error::new(ErrorKind::Failed, what))
}

/// Asks `question` of each item, as many at once as the store is good for, and gives each answer to
/// `take`, in order; its error ends it. `cancel` is asked now and then.
pub(super) fn ask_of_each<T: Sync, A: Send>(
    store: &dyn ObjectStore,
    items: &[T],
    cancel: &dyn Cancel,
    question: impl Fn(&T) -> Result<A> + Sync,
    take: impl FnMut(&T, Result<A>) -> Result<()>,
) -> Result<()> {
    let at_once = store.capabilities().gets.clamp(1, MOST);
    ask_so_many(at_once, items, cancel, question, take)
}

/// The same with a question whose answer has no body, as a size: what is far away answers more of
/// them in the same time.
pub(super) fn ask_size_of_each<T: Sync, A: Send>(
    store: &dyn ObjectStore,
    items: &[T],
    cancel: &dyn Cancel,
    question: impl Fn(&T) -> Result<A> + Sync,
    take: impl FnMut(&T, Result<A>) -> Result<()>,
) -> Result<()> {
    let at_once = (4 * store.capabilities().gets).clamp(1, MOST_BODILESS);
    ask_so_many(at_once, items, cancel, question, take)
}

fn ask_so_many<T: Sync, A: Send>(
    at_once: usize,
    items: &[T],
    cancel: &dyn Cancel,
    question: impl Fn(&T) -> Result<A> + Sync,
    mut take: impl FnMut(&T, Result<A>) -> Result<()>,
) -> Result<()> {
    let question = &question;
    for some in items.chunks(at_once) {
        cancel.check()?;
        let [first, rest @ ..] = some else { continue };
        let answers: Vec<Result<A>> = std::thread::scope(|scope| {
            let start = |item| {
                let thread = std::thread::Builder::new().name("ask".into());
                (
                    item,
                    thread.spawn_scoped(scope, move || question(item)).ok(),
                )
            };
            let threads: Vec<_> = rest.iter().map(start).collect();
            let mut answers = vec![question(first)];
            answers.extend(threads.into_iter().map(|(item, thread)| match thread {
                Some(thread) => thread.join().unwrap_or_else(|_| lost()),
                // A host without a thread left can still ask, one after another.
                None => question(item),
            }));
            answers
        });
        for (item, answer) in some.iter().zip(answers) {
            take(item, answer)?;
        }
    }
    Ok(())
}
