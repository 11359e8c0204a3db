//! A walk through a tree, without recursion: a directory's entries come before what is in them. It
//! holds few descriptors and names at once, however deep the tree and large its directories are.

use super::source::{NodeKind, NodeSeen, TreeNode, TreeSource, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::model::printable;
use crate::sys::dirents::NameReader;
use crate::sys::handle::open_handle;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Deepest directories that are entered, counted from where the walk begins.
pub const MOST_DEEP: usize = 1024;
/// Directories of which a descriptor is kept, the innermost ones.
const OPEN: usize = 64;
/// Most names that are sorted at once, those of all directories on the way together.
const MOST_SORTED: usize = 1 << 18;

/// In which order a directory's entries come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkOrder {
    /// By their names, as long as they are not too many.
    ByName,
    /// As the filesystem has them.
    AsTheyAre,
}

/// What a walk comes to.
#[derive(Debug)]
pub enum TreeStep {
    /// Something in the directory that was entered last.
    Found(TreeNode),
    /// Something there that cannot be looked at.
    Unseen {
        /// Where.
        place: PathBuf,
        /// Why not.
        error: Error,
    },
    /// The list of the directory that was entered last cannot be read to its end. It is soon left.
    Unlisted(Error),
    /// All of the directory that was entered last has been seen: it is left.
    Left {
        /// Where it is.
        place: PathBuf,
        /// It.
        seen: NodeSeen,
    },
}

/// A directory on the way.
struct WalkLevel {
    /// `None`: it is found again when it is needed.
    seen: Option<NodeSeen>,
    /// Its device and inode, where it is in a filesystem.
    id: Option<NodeId>,
    names: NamesLeft,
    /// Where reading of its list goes on.
    next: i64,
    /// NamesLeft that have not been in the list: what was mounted there.
    mounted: BTreeSet<OsString>,
}

/// What is to come of a directory's names.
enum NamesLeft {
    /// Sorted, the last one first.
    Held(Vec<OsString>),
    /// Read as they are needed.
    Read(NameReader),
    /// The same, to be opened again.
    ReadOn,
    /// No more.
    Done,
}

/// A device and an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl NodeId {
    /// Of a file.
    pub fn of_stat(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    /// Of what is seen, where it is in a filesystem.
    pub fn of(seen: &NodeSeen) -> Option<Self> {
        match seen {
            NodeSeen::File { stat, .. } => Some(Self::of_stat(stat)),
            NodeSeen::Between | NodeSeen::Elsewhere { .. } => None,
        }
    }
}

/// A walk.
pub struct TreeWalk<'a> {
    source: TreeSource<'a>,
    order: WalkOrder,
    levels: Vec<WalkLevel>,
    /// Where the innermost of them is.
    place: PathBuf,
    /// NamesLeft that are held.
    held: usize,
}

impl<'a> TreeWalk<'a> {
    /// A walk that has entered nothing yet.
    pub fn new(source: TreeSource<'a>, order: WalkOrder) -> Self {
        Self {
            source,
            order,
            levels: Vec::new(),
            place: PathBuf::new(),
            held: 0,
        }
    }

    /// How many directories it is in.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The directory that was entered last.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Enters a directory: the first one, or what the last step has found.
    ///
    /// # Errors
    /// When it cannot be opened; `Unsupported` when it is too deep, or it is the one that it lies
    /// in.
    pub fn enter(&mut self, node: TreeNode) -> Result<()> {
        let TreeNode { place, seen } = node;
        let id = NodeId::of(&seen);
        let is_above = |level: &WalkLevel| id.is_some() && level.id == id;
        let refused = |why: &str| {
            let what = format!("{} {why}", printable::path(&place));
            Err(Error::new(ErrorKind::Unsupported, what))
        };
        if self.levels.iter().any(is_above) {
            return refused("leads back to a directory that it lies in");
        }
        if self.levels.len() >= MOST_DEEP {
            return refused("is deeper than is gone into");
        }
        let mounted = self.source.tree.names_below(&place);
        let names = match &seen {
            NodeSeen::File { handle, .. } => {
                let open = open_handle(handle, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
                NamesLeft::Read(NameReader::new(
                    open.map_err(|error| unreadable(&place, error))?,
                ))
            }
            NodeSeen::Between | NodeSeen::Elsewhere { .. } => NamesLeft::Done,
        };
        self.let_go();
        self.place = place;
        self.levels.push(WalkLevel {
            seen: Some(seen),
            id,
            names,
            next: 0,
            mounted,
        });
        if self.order == WalkOrder::ByName {
            self.sort()?;
        }
        Ok(())
    }

    /// Lets go of the descriptors of what is far out.
    fn let_go(&mut self) {
        let far = self.levels.len().checked_sub(OPEN);
        if let Some(level) = far.and_then(|far| self.levels.get_mut(far)) {
            level.seen = None;
            if let NamesLeft::Read(_) = level.names {
                level.names = NamesLeft::ReadOn;
            }
        }
    }

    /// Reads and sorts the names of the innermost directory, unless they are too many.
    fn sort(&mut self) -> Result<()> {
        let room = MOST_SORTED.saturating_sub(self.held);
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        let NamesLeft::Read(reader) = &mut level.names else {
            let mut names: Vec<OsString> = std::mem::take(&mut level.mounted).into_iter().collect();
            names.reverse();
            self.held += names.len();
            level.names = NamesLeft::Held(names);
            return Ok(());
        };
        let mut names = Vec::new();
        loop {
            match reader.next_name() {
                Ok(Some(name)) if names.len() < room => names.push(name.name),
                Ok(None) => break,
                // Too many, or an error that comes again when it is read in its turn.
                Ok(Some(_)) | Err(_) => {
                    level.names = NamesLeft::ReadOn;
                    return Ok(());
                }
            }
        }
        names.extend(std::mem::take(&mut level.mounted));
        names.sort_unstable_by(|one, other| other.cmp(one));
        names.dedup();
        self.held += names.len();
        level.names = NamesLeft::Held(names);
        Ok(())
    }

    /// The next step; `None` when what was entered first has been left.
    ///
    /// # Errors
    /// When a directory on the way cannot be found again: the tree is not what it was.
    pub fn step(&mut self) -> Result<Option<TreeStep>> {
        if self.levels.is_empty() {
            return Ok(None);
        }
        self.find_again()?;
        let Some(level) = self.levels.last_mut() else {
            return Ok(None);
        };
        let name = match level.next_name() {
            Ok(name) => name,
            Err(error) => {
                level.names = NamesLeft::Done;
                return Ok(Some(TreeStep::Unlisted(unreadable(&self.place, error))));
            }
        };
        let Some(name) = name else {
            return Ok(self.leave());
        };
        if let NamesLeft::Held(_) = level.names {
            self.held -= 1;
        }
        let Some(seen) = &level.seen else {
            return Ok(None);
        };
        Ok(Some(match self.source.child_of(seen, &self.place, &name) {
            Ok(node) => TreeStep::Found(node),
            Err(error) => TreeStep::Unseen {
                place: self.place.join(&name),
                error,
            },
        }))
    }

    fn leave(&mut self) -> Option<TreeStep> {
        let level = self.levels.pop()?;
        let place = self.place.clone();
        self.place.pop();
        Some(TreeStep::Left {
            place,
            seen: level.seen?,
        })
    }

    /// Opens the innermost directory again where that was let go of.
    fn find_again(&mut self) -> Result<()> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        if level.seen.is_none() {
            let found = self.source.walk_down(&self.place)?;
            if NodeId::of(&found.seen) != level.id || found.seen.kind() != Some(NodeKind::Directory)
            {
                let what = format!("{} has become another", printable::path(&self.place));
                return Err(Error::new(ErrorKind::Io, what));
            }
            level.seen = Some(found.seen);
        }
        let (NamesLeft::ReadOn, Some(NodeSeen::File { handle, .. })) = (&level.names, &level.seen)
        else {
            return Ok(());
        };
        let next = level.next;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let reader = open_handle(handle, flags).and_then(|open| NameReader::from(open, next));
        let reader = reader.map_err(|error| unreadable(&self.place, error))?;
        level.names = NamesLeft::Read(reader);
        Ok(())
    }
}

impl WalkLevel {
    fn next_name(&mut self) -> io::Result<Option<OsString>> {
        match &mut self.names {
            NamesLeft::Held(names) => return Ok(names.pop()),
            NamesLeft::Read(reader) => {
                if let Some(found) = reader.next_name()? {
                    self.next = found.next;
                    self.mounted.remove(&found.name);
                    return Ok(Some(found.name));
                }
                self.names = NamesLeft::Done;
            }
            NamesLeft::ReadOn | NamesLeft::Done => {}
        }
        // What was mounted where the list has nothing.
        Ok(self.mounted.pop_first())
    }
}
