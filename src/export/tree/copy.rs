//! A tree of the snapshot, or a file of it, copied to a directory. What cannot be copied is named,
//! the rest goes on; what was begun never stands under its name. It stops where the target is full.

use super::attributes::copy_attributes;
use super::data::{DataFailure, copy_data};
use super::hard_links::{HardLinks, KnownLink};
use super::outcome::{FailureCause, TreeCopyOutcome};
use super::remove;
use super::slot::{Made, Placement, Slot};
use super::source::{NodeKind, NodeSeen, TreeNode, TreeSource};
use super::target::{FilledDirectory, TargetDirectories};
use super::trouble::{Trouble, is_fatal, unread, with_rest};
use super::walk::{TreeStep, TreeWalk, WalkOrder};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Cancel, counted, printable};
use crate::sys::handle::{open_handle, set_mode};
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, mknodat};
use nix::unistd::{fsync, symlinkat, syncfs};
use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where to copy to, and who watches.
#[derive(Clone, Copy)]
pub struct TreeCopyOptions<'a> {
    /// The tree.
    pub source: TreeSource<'a>,
    /// Asked before each file and each MiB.
    pub cancel: &'a dyn Cancel,
    /// Told of bytes that were copied.
    pub progress: &'a (dyn Fn(Bytes) + Sync),
}

/// The name that a copy gets.
pub struct TreeTarget {
    /// The directory it is in.
    pub directory: Arc<OwnedFd>,
    /// The name.
    pub name: OsString,
    /// Replace a file that stands there, and what stands in a directory under names of the copy.
    pub replace: bool,
    /// The path of the copy, for people.
    pub shown: PathBuf,
}

/// Copies something of the tree with all that is in it.
///
/// # Errors
/// Nothing was copied, or what was begun was taken away: the target is full or cannot be written,
/// it was stopped, a directory of the tree or the target is not what it was. What a file by itself
/// fails of is in the outcome.
pub fn copy_tree(
    node: TreeNode,
    to: &TreeTarget,
    options: TreeCopyOptions<'_>,
) -> Result<TreeCopyOutcome> {
    let mut copier = TreeCopier {
        walk: TreeWalk::new(options.source, WalkOrder::AsTheyAre),
        targets: TargetDirectories::in_base(Arc::clone(&to.directory)),
        links: HardLinks::default(),
        outcome: TreeCopyOutcome::default(),
        base: node.place.clone(),
        shown: to.shown.clone(),
        options,
        refusal: Cell::new(ErrorKind::Failed),
    };
    let slot = Slot {
        directory: Arc::clone(&to.directory),
        name: to.name.clone(),
        placement: match to.replace {
            true => Placement::Replacing,
            false => Placement::Staged,
        },
    };
    match copier.run(node, &slot) {
        Ok(()) => Ok(copier.outcome),
        Err(error) => Err(copier.take_away(error)),
    }
}

struct TreeCopier<'a> {
    options: TreeCopyOptions<'a>,
    walk: TreeWalk<'a>,
    targets: TargetDirectories,
    links: HardLinks,
    outcome: TreeCopyOutcome,
    /// Where the copy begins in the tree.
    base: PathBuf,
    /// The target, for people.
    shown: PathBuf,
    /// What sort of failure the target's last one was.
    refusal: Cell<ErrorKind>,
}

impl TreeCopier<'_> {
    fn run(&mut self, node: TreeNode, slot: &Slot) -> Result<()> {
        let place = node.place.clone();
        self.one(node, slot, &place)?;
        if self.walk.depth() == 0 && self.outcome.unmade > 0 {
            let what = self.outcome.failures.pop().map(|one| one.what);
            return Err(self.refused(&place, &what.unwrap_or_default()));
        }
        while let Some(step) = self.walk.step()? {
            self.options.cancel.check()?;
            match step {
                TreeStep::Found(node) => {
                    let (directory, placement) = self.targets.innermost();
                    let name = node.place.file_name().unwrap_or_default().to_owned();
                    let slot = Slot {
                        directory,
                        name,
                        placement,
                    };
                    let place = node.place.clone();
                    self.one(node, &slot, &place)?;
                }
                TreeStep::Unseen { place, error } => {
                    let cause = FailureCause::of(&error);
                    self.outcome.fail(&place, error.to_string(), cause);
                }
                TreeStep::Unlisted(error) => {
                    let what = format!("not all names in it could be read: {error}");
                    let place = self.walk.place().to_owned();
                    self.outcome.fail(&place, what, FailureCause::Source);
                }
                TreeStep::Left { place, seen } => self.leave(&place, &seen)?,
            }
        }
        Ok(())
    }

    /// Copies one thing; a directory is entered.
    fn one(&mut self, node: TreeNode, slot: &Slot, place: &Path) -> Result<()> {
        match self.copy(node, slot) {
            Ok(()) => Ok(()),
            Err(Trouble::Here(cause, what)) => {
                self.outcome.fail(place, what, cause);
                Ok(())
            }
            Err(Trouble::Stop(error)) => Err(error),
        }
    }

    fn copy(&mut self, node: TreeNode, slot: &Slot) -> Result<(), Trouble> {
        let kind = node.seen.kind();
        let (handle, stat) = match &node.seen {
            NodeSeen::File { handle, stat } if kind != Some(NodeKind::Directory) => {
                (Arc::clone(handle), *stat)
            }
            _ => return self.enter(node, slot),
        };
        let Some(kind) = kind else {
            let what = "it is nothing that Linux knows".into();
            return Err(Trouble::Here(FailureCause::Source, what));
        };
        if stat.st_nlink > 1 && self.link(&node.place, &stat, slot)? {
            return Ok(());
        }
        match kind {
            NodeKind::File => self.file(&node.place, &handle, &stat, slot),
            _ => self.special(&node.place, &handle, &stat, slot),
        }
    }

    fn enter(&mut self, node: TreeNode, slot: &Slot) -> Result<(), Trouble> {
        if let NodeSeen::Elsewhere { fstype, .. } = &node.seen {
            self.outcome.leave_out(&node.place, fstype);
        }
        let place = node.place.clone();
        let made = self.targets.enter(slot);
        made.map_err(|error| self.target_trouble("make", &place, error))?;
        if let Some(top) = self.targets.top().filter(|_| self.walk.depth() == 0) {
            self.links.begin_in(Arc::clone(top));
        }
        if let Err(error) = self.walk.enter(node) {
            let left = self.targets.leave();
            let left = left.map_err(|error| self.target_trouble("leave", &place, error))?;
            if let Some(FilledDirectory {
                slot,
                made: Some(made),
                ..
            }) = left
            {
                let gone = slot.discard(&made);
                gone.map_err(|error| self.target_trouble("remove", &place, error))?;
            }
            return Err(Trouble::Here(FailureCause::of(&error), error.to_string()));
        }
        Ok(())
    }

    /// All that is in a directory has been copied.
    fn leave(&mut self, place: &Path, seen: &NodeSeen) -> Result<()> {
        let left = self.targets.leave();
        let left = left.map_err(|error| self.failed("leave", place, error))?;
        let Some(FilledDirectory {
            directory,
            slot,
            made,
        }) = left
        else {
            return Ok(());
        };
        let whole = self.walk.depth() == 0;
        // Its owner may enter it only when it is about to get its name.
        let named = match whole {
            true => syncfs(&directory)
                .map_err(|errno| self.target_trouble("write out", place, errno.into())),
            false => Ok(()),
        };
        let named = named.and_then(|()| {
            match seen {
                NodeSeen::File { handle, stat }
                | NodeSeen::Elsewhere {
                    under: Some((handle, stat)),
                    ..
                } => self.attributes(place, handle, stat, &directory),
                NodeSeen::Between | NodeSeen::Elsewhere { under: None, .. } => {
                    set_mode(&directory, 0o755)
                        .map_err(|error| self.target_trouble("set the mode of", place, error))?;
                }
            }
            let Some(made) = &made else { return Ok(()) };
            let named = slot.commit(made);
            named.map_err(|error| self.target_trouble("name", place, error))
        });
        let Err(trouble) = named else {
            self.outcome.directories += 1;
            return Ok(());
        };
        let removed = match &made {
            Some(made) => self.remove(&directory, &slot, made),
            None => None,
        };
        match trouble {
            Trouble::Here(cause, what) if !whole => {
                self.outcome.fail(place, what, cause);
                Ok(())
            }
            Trouble::Here(_, what) => Err(with_rest(self.refused(place, &what), removed)),
            Trouble::Stop(error) => Err(with_rest(error, removed)),
        }
    }

    /// One more name for what was copied before; `false`: it is to be copied.
    fn link(&mut self, place: &Path, stat: &FileStat, slot: &Slot) -> Result<bool, Trouble> {
        let copy = match self.links.find(stat) {
            KnownLink::Copied(copy) => copy,
            KnownLink::New => return Ok(false),
            KnownLink::Lost => {
                self.outcome.unlinked += 1;
                return Ok(false);
            }
        };
        let made = match slot.make_link(&copy) {
            Err(error) if is_fatal(&error) || error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.target_trouble("link", place, error));
            }
            // Too many names, another filesystem, or one that has no further names.
            Err(_) => {
                self.outcome.unlinked += 1;
                return Ok(false);
            }
            Ok(made) => made,
        };
        self.commit(place, slot, &made)?;
        self.outcome.hard_links += 1;
        Ok(true)
    }

    fn file(
        &mut self,
        place: &Path,
        handle: &OwnedFd,
        stat: &FileStat,
        slot: &Slot,
    ) -> Result<(), Trouble> {
        let from = open_handle(handle, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        let from = File::from(from.map_err(|error| unread("open", &error))?);
        let new = slot.create_file();
        let new = new.map_err(|error| self.target_trouble("make", place, error))?;
        let (cancel, progress) = (self.options.cancel, self.options.progress);
        let mut moved = Bytes(0);
        let length = Bytes(u64::try_from(stat.st_size).unwrap_or(0));
        let copied = copy_data(&from, &new.file, length, &mut |bytes| {
            moved += bytes;
            progress(bytes);
            cancel.check()
        });
        let filled = match copied {
            Ok(()) => {
                self.attributes(place, handle, stat, &new.file);
                Ok(())
            }
            Err(DataFailure::Read(error)) => Err(unread("read", &error)),
            Err(DataFailure::Write(error)) => Err(self.target_trouble("write", place, error)),
            Err(DataFailure::Stop(error)) => Err(Trouble::Stop(error)),
        };
        // A file by itself, or in place of another: a full disk is known before it has the name.
        let at_once = self.walk.depth() == 0 || slot.placement == Placement::Replacing;
        let filled = filled.and_then(|()| match at_once {
            true => fsync(&new.file)
                .map_err(|errno| self.target_trouble("write out", place, errno.into())),
            false => Ok(()),
        });
        let named = filled.and_then(|()| {
            let named = slot.commit_file(&new);
            named.map_err(|error| self.target_trouble("name", place, error))
        });
        if let Err(trouble) = named {
            slot.discard_file(&new);
            return Err(trouble);
        }
        self.outcome.files += 1;
        self.outcome.data += moved;
        self.remember(place, stat, &new.file);
        Ok(())
    }

    /// A symlink, a device node, a FIFO or a socket.
    fn special(
        &mut self,
        place: &Path,
        handle: &OwnedFd,
        stat: &FileStat,
        slot: &Slot,
    ) -> Result<(), Trouble> {
        let kind = stat.st_mode & libc::S_IFMT;
        let is_link = kind == libc::S_IFLNK;
        let made = match is_link {
            true => {
                let to = readlinkat(handle, "").map_err(|errno| unread("read", &errno.into()))?;
                slot.make(kind, |at, name| symlinkat(to.as_os_str(), at, name))
            }
            false => {
                let node = SFlag::from_bits_truncate(kind);
                let private = Mode::S_IRUSR | Mode::S_IWUSR;
                slot.make(kind, |at, name| {
                    mknodat(at, name, node, private, stat.st_rdev)
                })
            }
        };
        let made = made.map_err(|error| self.target_trouble("make", place, error));
        let (made, new) = made?;
        self.attributes(place, handle, stat, &new);
        self.commit(place, slot, &made)?;
        self.remember(place, stat, &new);
        match is_link {
            true => self.outcome.symlinks += 1,
            false => self.outcome.specials += 1,
        }
        Ok(())
    }

    fn commit(&self, place: &Path, slot: &Slot, made: &Made) -> Result<(), Trouble> {
        slot.commit(made).map_err(|error| {
            // What failed before is what is reported.
            let _ = slot.discard(made);
            self.target_trouble("name", place, error)
        })
    }

    fn remember(&mut self, place: &Path, stat: &FileStat, copy: impl AsFd) {
        if let Ok(name) = place.strip_prefix(&self.base)
            && !self.links.note(stat, copy, name)
        {
            self.outcome.unlinked += 1;
        }
    }

    /// Gives a file all that the source's has. What cannot be read or given is noted.
    fn attributes(&mut self, place: &Path, from: &OwnedFd, stat: &FileStat, to: impl AsFd) {
        let outcome = &mut self.outcome;
        // An attribute that is too long for ext4 is ENOSPC, too: none of these ends all.
        let copied = copy_attributes(from, stat, to, &mut |what, why| {
            outcome.lose(what, place, &why.to_string());
        });
        if let Err(error) = copied {
            let what = format!("it was copied, but not all of its attributes can be read: {error}");
            self.outcome.fail(place, what, FailureCause::Source);
        }
    }

    /// What the target does not take: of one file, or at all.
    fn target_trouble(&self, action: &str, place: &Path, error: io::Error) -> Trouble {
        if is_fatal(&error) {
            return Trouble::Stop(self.failed(action, place, error));
        }
        let copy = self.target_of(place);
        let known = error.raw_os_error().map(io::Error::from_raw_os_error);
        self.refusal.set(known.map_or(ErrorKind::Failed, |error| {
            Error::io(action, &copy, error).kind()
        }));
        let what = match error.raw_os_error() {
            Some(libc::EEXIST) => "something of that name is there already".into(),
            _ => format!("cannot {action} it in the target: {error}"),
        };
        Trouble::Here(FailureCause::Target, what)
    }

    fn refused(&self, place: &Path, what: &str) -> Error {
        let what = format!("{}: {what}", printable::path(&self.target_of(place)));
        Error::new(self.refusal.get(), what)
    }

    fn failed(&self, action: &str, place: &Path, error: io::Error) -> Error {
        let target = printable::path(&self.target_of(place));
        Error::io(action, Path::new(&target), error)
    }

    /// What is made of a place, for people.
    fn target_of(&self, place: &Path) -> PathBuf {
        let below = place.strip_prefix(&self.base).unwrap_or(place);
        match below.as_os_str().is_empty() {
            true => self.shown.clone(),
            false => self.shown.join(below),
        }
    }

    /// Takes away what was begun and does not stand under its name yet, and says what stays.
    fn take_away(&mut self, error: Error) -> Error {
        let mut made = None;
        let mut in_place = false;
        loop {
            match self.targets.leave() {
                Ok(None) => break,
                // The outermost that is not whole holds the others.
                Ok(Some(left)) => {
                    in_place |= left.made.is_none();
                    made = left
                        .made
                        .map(|one| (left.directory, left.slot, one))
                        .or(made);
                }
                Err(_) => {}
            }
        }
        let removed =
            made.and_then(|(directory, slot, made)| self.remove(&directory, &slot, &made));
        match (in_place, removed) {
            (_, Some(why)) => with_rest(error, Some(why)),
            (true, None) => {
                let files = self.outcome.files + self.outcome.hard_links;
                error.and_said(format!(
                    "what was put there before stays: {}",
                    counted(files, "file")
                ))
            }
            (false, None) => error.and_said("nothing of it stays there"),
        }
    }

    /// Removes a directory that was made, with all that is in it; says what stays, if anything.
    fn remove(&self, directory: &OwnedFd, slot: &Slot, made: &Made) -> Option<String> {
        let name = made.staged.as_ref().unwrap_or(&slot.name);
        let gone = remove::empty(directory).and_then(|()| slot.discard(made));
        let why = gone.err()?;
        let name = printable::path(name);
        Some(format!(
            "{name} stays in the target, as it could not be removed: {why}"
        ))
    }
}
