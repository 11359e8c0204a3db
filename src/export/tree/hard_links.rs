//! Which files of the source were copied under which names, so that further names of them become
//! hard links. A name in the target is believed only if it still leads to what was made there.

use super::walk::NodeId;
use crate::sys::handle::{look, target_handle_at};
use nix::sys::stat::FileStat;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of names that are remembered; beyond that, files are copied once more.
const MOST_NAMES: usize = 64 << 20;
/// Bytes that a file takes beside its name.
const EACH: usize = 128;

/// Files with several names.
#[derive(Default)]
pub(super) struct HardLinks {
    /// The directory that the names are in.
    top: Option<Arc<OwnedFd>>,
    known: HashMap<NodeId, KnownCopy>,
    names: usize,
}

struct KnownCopy {
    /// Below the top.
    name: PathBuf,
    /// The copy.
    id: NodeId,
    /// How many more names there are to come.
    left: nix::libc::nlink_t,
}

impl HardLinks {
    /// The directory in which all copies are.
    pub fn begin_in(&mut self, top: Arc<OwnedFd>) {
        self.top = Some(top);
    }

    /// The copy of a file that was copied before.
    pub fn find(&mut self, stat: &FileStat) -> KnownLink {
        let id = NodeId::of_stat(stat);
        let Some(known) = self.known.get_mut(&id) else {
            return KnownLink::New;
        };
        let found = self
            .top
            .as_ref()
            .and_then(|top| open_below(top, &known.name));
        let found =
            found.filter(|found| look(found).is_ok_and(|stat| NodeId::of_stat(&stat) == known.id));
        known.left = known.left.saturating_sub(1);
        if known.left == 0
            && let Some(known) = self.known.remove(&id)
        {
            self.names -= known.name.as_os_str().len() + EACH;
        }
        found.map_or(KnownLink::Lost, KnownLink::Copied)
    }

    /// Notes a copy, if the file has more names. `false`: there is no room to remember it.
    pub fn note(&mut self, stat: &FileStat, copy: impl AsFd, name: &Path) -> bool {
        let size = name.as_os_str().len() + EACH;
        if stat.st_nlink < 2 || self.top.is_none() {
            return true;
        }
        let Ok(made) = look(copy) else {
            return false;
        };
        if self.names + size > MOST_NAMES {
            return false;
        }
        let known = KnownCopy {
            name: name.to_owned(),
            id: NodeId::of_stat(&made),
            left: stat.st_nlink - 1,
        };
        match self.known.insert(NodeId::of_stat(stat), known) {
            None => self.names += size,
            Some(old) => {
                self.names = self.names + size - old.name.as_os_str().len() - EACH;
            }
        }
        true
    }
}

/// Whether a file was copied before.
pub(super) enum KnownLink {
    /// It was not.
    New,
    /// It was: this is the copy.
    Copied(OwnedFd),
    /// It was, and the copy is not where it was made.
    Lost,
}

/// A path of any length, in steps; no symlink is followed.
fn open_below(top: &OwnedFd, path: &Path) -> Option<OwnedFd> {
    let mut at = None;
    for name in path {
        let from = at.as_ref().unwrap_or(top);
        at = Some(target_handle_at(from, name).ok()?);
    }
    at
}
