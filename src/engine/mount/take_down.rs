//! Taking down a mount of a snapshot: one that is served, when nobody uses it; one whose process is
//! dead, at once, as nothing can be read of it any more. What others have mounted on it is never
//! touched: it keeps the rest from being unmounted.

use super::note::{FoundNote, Liveness, MountNote, notes, take_turn};
use super::standing::{StandingTree, TreeName, all_standing};
use super::users::{MountUser, in_words, users_of};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::mounting::Unmount;
use nix::errno::Errno;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the process that serves a mount may take to end when all is unmounted.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How long a dead process's last threads may take to end: one may be about to mount something.
const THREADS_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a mount is taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeDown {
    /// If nobody uses it.
    Unused,
    /// In any case; who uses it keeps what is open, until it is closed.
    Lazy,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct TakenDown {
    /// The folder.
    pub dir: PathBuf,
    /// What it was; none: no note of it was there.
    pub note: Option<MountNote>,
    /// Whether its process was dead.
    pub was_dead: bool,
    /// Who still had something of it open.
    pub users: Vec<MountUser>,
    /// Whether it is served on, as somebody still has something of it open.
    pub is_served: bool,
}

/// How a tree was unmounted.
pub(super) struct Unmounted {
    pub(super) users: Vec<MountUser>,
    /// It was in use, and is out of sight all the same.
    pub(super) lazily: bool,
}

/// Takes down what a dead process left, at once.
///
/// # Errors
/// `Busy`: something of others is mounted on it, or its process is not all gone. The note stays.
pub(super) fn take_down_dead(found: &FoundNote) -> Result<()> {
    let note = &found.note;
    if !note.process.await_threads(THREADS_WITHIN) {
        let what = format!("a thread of process {} is still there", note.process.pid);
        return Err(Error::new(ErrorKind::Busy, what));
    }
    StandingTree::of(&note.tree)?.detach()?;
    match fs::remove_file(&found.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.io_context("remove", &found.path),
    }
}

/// Takes down all that dead processes left. What fails is returned, and keeps nothing else.
pub fn take_down_all_dead(run_dir: &Path) -> Vec<Error> {
    let (found, mut failures) = match notes(run_dir) {
        Ok(found) => found,
        Err(error) => return vec![error],
    };
    let is_dead = |found: &&FoundNote| found.note.liveness() == Liveness::Dead;
    if !found.iter().any(|found| is_dead(&found)) {
        return failures;
    }
    let turn = take_turn(run_dir);
    let Ok(_turn) = turn else {
        failures.extend(turn.err());
        return failures;
    };
    let dead = found.iter().filter(is_dead);
    failures.extend(dead.filter_map(|found| take_down_dead(found).err()));
    failures
}

/// The tree of that name is unmounted, in this process's namespace.
///
/// # Errors
/// `Busy`: it is used, and stands as before; the error says by whom. With `Lazy`: something of
/// others is mounted on it.
pub(super) fn unmount_tree(name: &TreeName, how: TakeDown) -> Result<Unmounted> {
    let tree = StandingTree::of(name)?;
    tree.refuse_foreign()?;
    let ids: HashSet<u64> = tree.ids().into_iter().collect();
    let users = users_of(&ids);
    if how == TakeDown::Lazy {
        tree.detach()?;
        let lazily = !users.is_empty();
        return Ok(Unmounted { users, lazily });
    }
    let dir = tree.dir().cloned().unwrap_or_default();
    let busy = |users: &[MountUser]| {
        let what = format!("{} is used by {}", dir.display(), in_words(users));
        Err(Error::new(ErrorKind::Busy, what).with_hint(
            "end these, or let them leave it; --lazy takes it out of sight at once, and it is \
             served on until they have",
        ))
    };
    if !users.is_empty() || tree.ours.iter().any(|one| one.is_leaf && one.is_used()) {
        return busy(&users);
    }
    let mut has_begun = false;
    for one in tree.ours.iter().rev() {
        match one.unmount_patiently(Unmount::Unused) {
            Ok(()) => has_begun = true,
            // By somebody else.
            Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(Errno::EBUSY) if !has_begun => return busy(&users_of(&ids)),
            Err(_) if has_begun => {
                // A part of a tree would look like the whole of it.
                StandingTree::of(name)?.detach()?;
                let users = users_of(&ids);
                return Ok(Unmounted {
                    users,
                    lazily: true,
                });
            }
            Err(errno) => return Err(Error::io("unmount", &one.target, errno.into())),
        }
    }
    Ok(Unmounted {
        users: Vec::new(),
        lazily: false,
    })
}

/// The note of what is mounted on a folder, by where it stands, or where it was put.
fn find(found: Vec<FoundNote>, dir: &Path) -> Result<Option<FoundNote>> {
    let mut gone = None;
    for one in found {
        let tree = StandingTree::of(&one.note.tree)?;
        match tree.dir() {
            Some(stands) if stands == dir => return Ok(Some(one)),
            None if one.note.dir() == dir => gone = Some(one),
            _ => {}
        }
    }
    Ok(gone)
}

/// Unmounts the snapshot that is mounted on a folder, and waits until all is gone.
///
/// # Errors
/// `NotFound`: none is mounted there. `Busy`: it is used.
pub fn unmount_snapshot(run_dir: &Path, dir: &Path, how: TakeDown) -> Result<TakenDown> {
    let meant = std::path::absolute(dir).io_context("name", dir)?;
    let dir = fs::canonicalize(dir).unwrap_or(meant);
    let (found, failures) = notes(run_dir)?;
    let turn = take_turn(run_dir)?;
    let Some(found) = find(found, &dir)? else {
        return unmount_unnoted(run_dir, &dir, how, failures);
    };
    let taken = |users, is_served| TakenDown {
        dir: dir.clone(),
        note: Some(found.note.clone()),
        was_dead: false,
        users,
        is_served,
    };
    match found.note.liveness() {
        Liveness::Alive => {}
        Liveness::Elsewhere => {
            let what = format!(
                "the snapshot on {} is served in another namespace than this one's",
                dir.display()
            );
            return Err(Error::new(ErrorKind::Busy, what)
                .with_hint("unmount it where it was mounted: outside of this container"));
        }
        Liveness::Dead => {
            take_down_dead(&found)?;
            return Ok(TakenDown {
                was_dead: true,
                ..taken(Vec::new(), false)
            });
        }
    }
    if StandingTree::of(&found.note.tree)?.ours.is_empty() {
        if found.note.is_mounted() {
            return Ok(taken(Vec::new(), true));
        }
        let what = format!("it is being mounted on {}", dir.display());
        return Err(Error::new(ErrorKind::Busy, what).with_hint("wait a moment; then again"));
    }
    let done = unmount_tree(&found.note.tree, how)?;
    drop(turn);
    let until = Instant::now() + END_WITHIN;
    let is_served = || found.note.liveness() == Liveness::Alive;
    // Who uses it lets go when they like.
    while !done.lazily && is_served() && Instant::now() < until {
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(taken(done.users, is_served()))
}

/// Unmounts a tree of which no note is left.
fn unmount_unnoted(
    run_dir: &Path,
    dir: &Path,
    how: TakeDown,
    failures: Vec<Error>,
) -> Result<TakenDown> {
    for name in all_standing(run_dir)? {
        if StandingTree::of(&name)?.dir().is_some_and(|top| top == dir) {
            let done = unmount_tree(&name, how)?;
            return Ok(TakenDown {
                dir: dir.to_owned(),
                note: None,
                was_dead: false,
                users: done.users,
                is_served: done.lazily,
            });
        }
    }
    let what = format!("no snapshot is mounted on {}", dir.display());
    let error = Error::new(ErrorKind::NotFound, what).with_hint("stillpoint mount list");
    Err(match failures.into_iter().next() {
        Some(failure) => error.and_said(format!("a note could not be read: {failure}")),
        None => error,
    })
}
