//! What a copy of a tree has come to: what was copied, what was not, and why.

use crate::error::{Error, ErrorKind};
use crate::model::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most failures, and most places, that are named; more are counted.
pub const MAX_NAMED: usize = 1000;

/// What a failure is laid to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// It could not be read from the snapshot.
    Source,
    /// It could not be made where it was to be copied to.
    Target,
    /// It is in a filesystem that cannot be opened on this host: encrypted, in a RAID, rare.
    Unopened,
}

impl FailureCause {
    /// Why something of the snapshot cannot be looked at.
    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Unsupported => Self::Unopened,
            _ => Self::Source,
        }
    }
}

/// Something that was not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFailure {
    /// Where it is in the snapshot.
    pub place: PathBuf,
    /// Why.
    pub what: String,
    /// What that is laid to.
    pub cause: FailureCause,
}

/// A place whose contents the snapshot does not have, as something else was mounted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutPlace {
    /// Where.
    pub place: PathBuf,
    /// Of which type that was.
    pub fstype: String,
}

/// Something about files that the target did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostAttribute {
    /// Of how many files.
    pub count: u64,
    /// The first one.
    pub first: PathBuf,
    /// Why of that.
    pub why: String,
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeCopyOutcome {
    /// Plain files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Device nodes, FIFOs and sockets.
    pub specials: u64,
    /// Further names of files that were copied.
    pub hard_links: u64,
    /// Files copied once more that were further names of a file.
    pub unlinked: u64,
    /// Bytes in files, without holes.
    pub data: Bytes,
    /// Places whose contents the snapshot does not have; the first ones.
    pub left_out: Vec<LeftOutPlace>,
    /// How many there are.
    pub left_out_count: u64,
    /// What was not copied; the first ones.
    pub failures: Vec<TreeFailure>,
    /// How many could not be read.
    pub unread: u64,
    /// How many could not be made.
    pub unmade: u64,
    /// How many are filesystems that cannot be opened here.
    pub unopened: u64,
    /// What the target did not take, by what it is.
    pub lost: BTreeMap<String, LostAttribute>,
}

impl TreeCopyOutcome {
    /// Notes what was not copied.
    pub(super) fn fail(&mut self, place: &Path, what: String, cause: FailureCause) {
        match cause {
            FailureCause::Source => self.unread += 1,
            FailureCause::Target => self.unmade += 1,
            FailureCause::Unopened => self.unopened += 1,
        }
        if self.failures.len() < MAX_NAMED {
            self.failures.push(TreeFailure {
                place: place.to_owned(),
                what,
                cause,
            });
        }
    }

    /// Notes a place whose contents are not there.
    pub(super) fn leave_out(&mut self, place: &Path, fstype: &str) {
        self.left_out_count += 1;
        if self.left_out.len() < MAX_NAMED {
            self.left_out.push(LeftOutPlace {
                place: place.to_owned(),
                fstype: fstype.to_owned(),
            });
        }
    }

    /// Notes that the target did not take something.
    pub(super) fn lose(&mut self, what: &str, place: &Path, why: &str) {
        if let Some(lost) = self.lost.get_mut(what) {
            lost.count += 1;
            return;
        }
        if self.lost.len() < MAX_NAMED {
            let lost = LostAttribute {
                count: 1,
                first: place.to_owned(),
                why: why.to_owned(),
            };
            self.lost.insert(what.to_owned(), lost);
        }
    }

    /// Adds another copy's.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.symlinks += other.symlinks;
        self.specials += other.specials;
        self.hard_links += other.hard_links;
        self.unlinked += other.unlinked;
        self.data += other.data;
        self.left_out_count += other.left_out_count;
        self.unread += other.unread;
        self.unmade += other.unmade;
        self.unopened += other.unopened;
        let room = MAX_NAMED.saturating_sub(self.left_out.len());
        self.left_out.extend(other.left_out.into_iter().take(room));
        let room = MAX_NAMED.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
        for (what, lost) in other.lost {
            match self.lost.get_mut(&what) {
                Some(known) => known.count += lost.count,
                None => drop(self.lost.insert(what, lost)),
            }
        }
    }

    /// Whether something is missing that was to be copied, or is not as it was.
    pub fn is_below(&self) -> bool {
        self.unread + self.unmade + self.unopened + self.unlinked > 0 || !self.lost.is_empty()
    }
}
