//! The mounts of a tree that was put on a folder, told from those that others have put into it
//! since: those are nobody's to unmount but their own.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::mountinfo::{self, MountLine, mount_id, read_table};
use crate::sys::mounting::{Unmount, folder, unmount, unmount_handle};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long what is in use is tried again, and the pause between.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);
/// Most mounts of one tree.
const MOST: usize = 4096;
/// How the source of a tree begins in the table of mounts; hexadecimal digits follow: 8 that stand
/// for the run directory, and 16 that nobody else has.
const SOURCE: &str = "stillpoint-";

/// What a tree is known by in the table of mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeName {
    /// The source of its top: nobody else's.
    pub source: String,
    /// The numbers of its mounts; empty: they are not known yet, and their kinds tell.
    pub mounts: Vec<u64>,
}

impl TreeName {
    /// A name that nobody else has.
    pub fn new(run_dir: &Path) -> Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        let digits = format!("{}{}", digits_of(run_dir), hex::encode(random));
        Ok(Self::of(&digits))
    }

    fn of(digits: &str) -> Self {
        Self {
            source: format!("{SOURCE}{digits}"),
            mounts: Vec::new(),
        }
    }

    fn is_top(&self, line: &MountLine<'_>) -> bool {
        line.fstype == b"tmpfs"
            && mountinfo::unescape(line.source) == self.source.as_bytes()
            && self.has(line.id)
    }

    fn has(&self, id: u64) -> bool {
        self.mounts.is_empty() || self.mounts.contains(&id)
    }

    fn has_below(&self, line: &MountLine<'_>) -> bool {
        let kind = line.fstype == b"fuse.stillpoint" || line.source.starts_with(b"/dev/loop");
        kind && self.has(line.id)
    }
}

/// One mount of a tree.
#[derive(Clone, Debug)]
pub struct StandingMount {
    pub id: u64,
    pub target: PathBuf,
    /// Whether nothing of the tree is mounted on it.
    pub is_leaf: bool,
}

/// What stands of a tree, in this process's namespace.
#[derive(Debug, Default)]
pub struct StandingTree {
    /// Its mounts, the top first; none: it does not stand here.
    pub ours: Vec<StandingMount>,
    /// Where others have mounted something on it.
    pub foreign: Vec<PathBuf>,
}

impl StandingTree {
    /// Looks at the table of mounts.
    pub fn of(name: &TreeName) -> Result<Self> {
        let table = read_table(None)?;
        let lines: Vec<MountLine<'_>> = mountinfo::lines(&table).collect();
        let Some(top) = lines.iter().find(|line| name.is_top(line)) else {
            return Ok(Self::default());
        };
        let mut ids = HashSet::from([top.id]);
        let mut tree = Self::default();
        tree.add(top);
        // A mount stands behind the one it is mounted on, but for those that were moved.
        loop {
            let before = ids.len();
            for line in &lines {
                let fits = ids.contains(&line.parent) && name.has_below(line);
                if fits && ids.len() < MOST && ids.insert(line.id) {
                    tree.ours
                        .iter_mut()
                        .filter(|one| one.id == line.parent)
                        .for_each(|one| one.is_leaf = false);
                    tree.add(line);
                }
            }
            if ids.len() == before {
                break;
            }
        }
        let foreign = lines
            .iter()
            .filter(|line| ids.contains(&line.parent) && !ids.contains(&line.id));
        tree.foreign = foreign.map(|line| mountinfo::path(line.target)).collect();
        Ok(tree)
    }

    fn add(&mut self, line: &MountLine<'_>) {
        self.ours.push(StandingMount {
            id: line.id,
            target: mountinfo::path(line.target),
            is_leaf: true,
        });
    }

    /// Where its top is.
    pub fn dir(&self) -> Option<&PathBuf> {
        self.ours.first().map(|top| &top.target)
    }

    /// The numbers of its mounts.
    pub fn ids(&self) -> Vec<u64> {
        self.ours.iter().map(|one| one.id).collect()
    }

    /// Refuses to take down what others have mounted something on.
    pub fn refuse_foreign(&self) -> Result<()> {
        let Some(first) = self.foreign.first() else {
            return Ok(());
        };
        let what = format!(
            "something is mounted on {}, which is not of this snapshot; nothing was unmounted",
            first.display()
        );
        let hint = format!("umount {}; then again", first.display());
        Err(Error::new(ErrorKind::Busy, what).with_hint(hint))
    }

    /// Takes all of it out of sight, at once.
    ///
    /// # Errors
    /// `Busy`: something of others is mounted on it.
    pub fn detach(&self) -> Result<()> {
        self.refuse_foreign()?;
        match self.ours.first() {
            Some(top) => top
                .unmount(Unmount::Detach)
                .io_context("unmount", &top.target),
            None => Ok(()),
        }
    }
}

impl StandingMount {
    /// Unmounts this mount, and no other that stands where it does.
    pub fn unmount(&self, how: Unmount) -> nix::Result<()> {
        match folder(&self.target) {
            Ok(handle) => match mount_id(&handle) {
                Ok(Some(id)) if id == self.id && how == Unmount::Detach => {
                    unmount_handle(&handle, how)
                }
                Ok(Some(id)) if id == self.id => {
                    // An open handle would be a use of it.
                    drop(handle);
                    unmount(&self.target, how)
                }
                _ => Err(Errno::EBUSY),
            },
            // Of a server that is gone nothing can be opened.
            Err(Errno::ENOTCONN | Errno::EIO) => unmount(&self.target, how),
            Err(errno) => Err(errno),
        }
    }

    /// The same, and tries it again for a while if it is in use: whoever looks at all mounts uses
    /// each for an instant.
    pub fn unmount_patiently(&self, how: Unmount) -> nix::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.unmount(how) {
                Err(Errno::EBUSY) if Instant::now() < until => std::thread::sleep(PAUSE),
                other => return other,
            }
        }
    }

    /// Whether somebody uses it, whoever that is. Only for one on which nothing is mounted.
    pub fn is_used(&self) -> bool {
        let used = self.unmount_patiently(Unmount::Probe) == Err(Errno::EBUSY);
        // A second probe would unmount it, had nobody looked at it in between.
        drop(folder(&self.target));
        used
    }
}

/// What stands for a run directory: whose notes are in another one, are others' to look for.
fn digits_of(run_dir: &Path) -> String {
    let real = std::fs::canonicalize(run_dir).unwrap_or_else(|_| run_dir.to_owned());
    let hash = blake3::hash(real.as_os_str().as_bytes());
    hex::encode(hash.as_bytes().first_chunk::<4>().unwrap_or(&[0; 4]))
}

/// The trees of this run directory that stand here, whoever knows of them.
pub fn all_standing(run_dir: &Path) -> Result<Vec<TreeName>> {
    let own = digits_of(run_dir);
    let table = read_table(None)?;
    let lines = mountinfo::lines(&table).filter(|line| line.fstype == b"tmpfs");
    let names = lines.filter_map(|line| {
        let source = String::from_utf8(mountinfo::unescape(line.source)).ok()?;
        let digits = source.strip_prefix(SOURCE)?;
        let is_ours = digits.len() == 24
            && digits.starts_with(&own)
            && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        is_ours.then(|| TreeName::of(digits))
    });
    Ok(names.collect())
}
