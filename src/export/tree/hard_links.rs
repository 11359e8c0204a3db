//! Which files of the source were copied under which names, so that further names of them become
//! hard links. A name in the target is believed only if it still leads to what was made there.

use super::walk::NodeId;
use crate::sys::handle::look;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
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
    left: u64,
}

impl HardLinks {
    /// The directory in which all copies are.
    pub fn begin_in(&mut self, top: Arc<OwnedFd>) {
        self.top = Some(top);
    }

    /// The copy of a file that was copied before.
    pub fn find(&mut self, stat: &FileStat) -> Option<OwnedFd> {
        let id = id_of(stat);
        let known = self.known.get_mut(&id)?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        let found = openat2(self.top.as_ref()?, &known.name, how).ok()?;
        let is_it = id_of(&look(&found).ok()?) == known.id;
        known.left = known.left.saturating_sub(1);
        if known.left == 0
            && let Some(known) = self.known.remove(&id)
        {
            self.names -= known.name.as_os_str().len() + EACH;
        }
        is_it.then_some(found)
    }

    /// Notes a copy, if the file has more names and there is room.
    pub fn note(&mut self, stat: &FileStat, copy: impl AsFd, name: &Path) {
        let size = name.as_os_str().len() + EACH;
        if stat.st_nlink < 2 || self.top.is_none() || self.names + size > MOST_NAMES {
            return;
        }
        let Ok(made) = look(copy) else {
            return;
        };
        let known = KnownCopy {
            name: name.to_owned(),
            id: id_of(&made),
            left: stat.st_nlink - 1,
        };
        match self.known.insert(id_of(stat), known) {
            None => self.names += size,
            Some(old) => {
                self.names = self.names + size - old.name.as_os_str().len() - EACH;
            }
        }
    }
}

fn id_of(stat: &FileStat) -> NodeId {
    NodeId {
        device: stat.st_dev,
        inode: stat.st_ino,
    }
}
