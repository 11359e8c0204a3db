//! `ls`: what is at a path, one thing at a time, however many there are.

use super::attach::{BrowseOptions, Browsed, browse};
use super::told_once::ToldOnce;
use crate::engine::monitor::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{LeftOutPlace, NodeKind, NodeSeen, TreeNode, TreeStep, TreeWalk, WalkOrder};
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

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOutcome {
    /// What cannot be listed; the first ones, and one more where there are more.
    pub unlisted: Vec<Unlisted>,
    /// Places whose contents the snapshot does not have, and the type of what was there; the first
    /// ones.
    pub left_out: Vec<LeftOutPlace>,
    /// What is to be known of it.
    pub warnings: Vec<String>,
}

/// Tells `each` what is in a directory, or of a file itself.
///
/// # Errors
/// The path leads nowhere; `each` said so.
pub fn list_tree(
    options: &BrowseOptions<'_>,
    request: &ListRequest<'_>,
    monitor: &dyn Monitor,
    each: &mut (dyn FnMut(ListedEntry) -> Result<()> + Send),
) -> Result<ListOutcome> {
    let told = ToldOnce::new(monitor);
    let each = Mutex::new(each);
    let listed = browse(options, &[request.path.to_owned()], &told, |browsed| {
        let node = find(browsed, request)?;
        let mut each = each.lock().unwrap_or_else(|poison| poison.into_inner());
        walk(browsed, node, request.recursive, &told, &mut **each)
    });
    listed.map(|outcome| ListOutcome {
        warnings: told.warnings(),
        ..outcome
    })
}

/// What is listed. All disks that are needed for it are looked into.
fn find(browsed: &Browsed<'_>, request: &ListRequest<'_>) -> Result<TreeNode> {
    // As ls(1) has it: a symlink that was named is followed to a directory only.
    let mut node = browsed.find(request.path, false)?;
    if node.seen.kind() == Some(NodeKind::Link) {
        match browsed.find(request.path, true) {
            Ok(behind) if behind.seen.kind() == Some(NodeKind::Directory) => node = behind,
            Ok(_) => {}
            // It leads nowhere, or in a circle.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Usage) => {}
            Err(error) => return Err(error),
        }
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
    Ok(node)
}

fn walk(
    browsed: &Browsed<'_>,
    node: TreeNode,
    recursive: bool,
    monitor: &dyn Monitor,
    each: &mut (dyn FnMut(ListedEntry) -> Result<()> + Send),
) -> Result<ListOutcome> {
    let mut outcome = ListOutcome::default();
    let base = node.place.clone();
    outcome.note_left_out(&node);
    if node.seen.kind() != Some(NodeKind::Directory) {
        each(entry(&node, &base))?;
        return Ok(outcome);
    }
    let mut walk = TreeWalk::new(browsed.source(), WalkOrder::ByName);
    walk.enter(node)?;
    while let Some(step) = walk.step()? {
        monitor.check()?;
        match step {
            TreeStep::Found(node) => {
                each(entry(&node, &base))?;
                let is_directory = node.seen.kind() == Some(NodeKind::Directory);
                if recursive && is_directory {
                    outcome.note_left_out(&node);
                    let place = node.place.clone();
                    if let Err(error) = walk.enter(node) {
                        note(&mut outcome.unlisted, Unlisted::new(place, &error));
                    }
                }
            }
            TreeStep::Unseen { place, error } => {
                note(&mut outcome.unlisted, Unlisted::new(place, &error));
            }
            TreeStep::Unlisted(error) => {
                let place = walk.place().to_owned();
                note(&mut outcome.unlisted, Unlisted::new(place, &error));
            }
            TreeStep::Left { .. } => {}
        }
    }
    Ok(outcome)
}

impl ListOutcome {
    fn note_left_out(&mut self, node: &TreeNode) {
        if let NodeSeen::Elsewhere { fstype, .. } = &node.seen
            && self.left_out.len() < MOST_UNLISTED
        {
            self.left_out.push(LeftOutPlace {
                place: node.place.clone(),
                fstype: fstype.clone(),
            });
        }
    }
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
