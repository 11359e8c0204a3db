//! `ls`: what is at a path, one thing at a time, however many there are.

use super::attach::{BrowseOptions, browse};
use crate::engine::monitor::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{NodeKind, NodeSeen, TreeNode, TreeStep, TreeWalk, WalkOrder};
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What is to be listed.
pub struct ListRequest<'a> {
    /// The path in the snapshot.
    pub path: &'a Path,
    /// All that is below it, too.
    pub recursive: bool,
}

/// Something that is there.
#[derive(Clone, Debug)]
pub struct ListedEntry {
    /// Its path from what was named on; empty: it is that itself.
    pub path: PathBuf,
    /// What it is; `None`: nothing that Linux knows.
    pub kind: Option<NodeKind>,
    /// All about it; `None`: it only stands for a place on the way to a mount.
    pub stat: Option<FileStat>,
    /// Where a symlink leads to.
    pub link: Option<PathBuf>,
    /// What was mounted there that the snapshot does not have.
    pub elsewhere: Option<String>,
}

/// Something that cannot be listed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// Where it is in the snapshot.
    pub place: PathBuf,
    /// Why not.
    pub why: String,
    /// It is in a filesystem that cannot be opened on this host.
    pub unopened: bool,
}

impl Unlisted {
    fn new(place: PathBuf, error: &Error) -> Self {
        Self {
            place,
            why: error.to_string(),
            unopened: error.kind() == ErrorKind::Unsupported,
        }
    }
}

/// Tells `each` what is in a directory, or of a file itself. What cannot be listed is returned, at
/// most the first `most_unlisted`, and how many they are.
///
/// # Errors
/// The path leads nowhere; `each` said so.
pub fn list_tree(
    options: &BrowseOptions<'_>,
    request: &ListRequest<'_>,
    monitor: &dyn Monitor,
    each: &mut (dyn FnMut(ListedEntry) -> Result<()> + Send),
) -> Result<Vec<Unlisted>> {
    let each = Mutex::new(each);
    browse(options, &[request.path.to_owned()], monitor, |browsed| {
        let source = browsed.source();
        // As ls(1) has it: a symlink that was named is followed to a directory only.
        let mut node = source.resolve(request.path, false)?;
        if node.seen.kind() == Some(NodeKind::Link)
            && let Ok(behind) = source.resolve(request.path, true)
            && behind.seen.kind() == Some(NodeKind::Directory)
        {
            node = behind;
        }
        match request.recursive {
            true => browsed.need_all_below(&node.place)?,
            // Right below it something may be mounted.
            false => {
                for name in browsed.places.names_below(&node.place) {
                    browsed.need_at(&node.place.join(name))?;
                }
            }
        }
        let mut each = each.lock().unwrap_or_else(|poison| poison.into_inner());
        let base = node.place.clone();
        if node.seen.kind() != Some(NodeKind::Directory) {
            each(entry(&node, &base))?;
            return Ok(Vec::new());
        }
        let mut walk = TreeWalk::new(source, WalkOrder::ByName);
        walk.enter(node)?;
        let mut unlisted = Vec::new();
        while let Some(step) = walk.step()? {
            monitor.check()?;
            match step {
                TreeStep::Found(node) => {
                    each(entry(&node, &base))?;
                    let place = node.place.clone();
                    if request.recursive
                        && node.seen.kind() == Some(NodeKind::Directory)
                        && let Err(error) = walk.enter(node)
                    {
                        note(&mut unlisted, Unlisted::new(place, &error));
                    }
                }
                TreeStep::Unseen { place, error } => {
                    note(&mut unlisted, Unlisted::new(place, &error));
                }
                TreeStep::Unlisted(error) => {
                    note(
                        &mut unlisted,
                        Unlisted::new(walk.place().to_owned(), &error),
                    );
                }
                TreeStep::Left { .. } => {}
            }
        }
        Ok(unlisted)
    })
}

/// Most that are noted; one more says that there are more.
const MOST_UNLISTED: usize = 1000;

fn note(unlisted: &mut Vec<Unlisted>, one: Unlisted) {
    match unlisted.len() {
        0..MOST_UNLISTED => unlisted.push(one),
        MOST_UNLISTED => unlisted.push(Unlisted {
            why: "this and others".to_owned(),
            ..one
        }),
        _ => {}
    }
}

fn entry(node: &TreeNode, base: &Path) -> ListedEntry {
    let kind = node.seen.kind();
    let path = node.place.strip_prefix(base).unwrap_or(&node.place);
    let (stat, elsewhere) = match &node.seen {
        NodeSeen::File { stat, .. } => (Some(*stat), None),
        NodeSeen::Between => (None, None),
        NodeSeen::Elsewhere { fstype, under } => {
            (under.as_ref().map(|(_, stat)| *stat), Some(fstype.clone()))
        }
    };
    let link = match &node.seen {
        NodeSeen::File { handle, .. } if kind == Some(NodeKind::Link) => {
            readlinkat(handle, "").ok().map(PathBuf::from)
        }
        _ => None,
    };
    ListedEntry {
        path: path.to_owned(),
        kind,
        stat,
        link,
        elsewhere,
    }
}
