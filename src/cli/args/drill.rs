//! The arguments of `drill`.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint drill latest\n  \
    stillpoint drill latest --check /etc/stillpoint/drill.sh --timeout 30m\n\n\
    Each filesystem is opened by this kernel's drivers and checked (e2fsck, xfs_repair, btrfs, \
    fsck.fat, where they are installed), with what they write kept in memory; then the host's \
    tree is put together, read-only, where nobody else sees it. The script finds it in \
    STILLPOINT_TREE, has no network, and must be root's, mode 0700, as a hook. It runs on this \
    host's root: begin each path with $STILLPOINT_TREE. Symlinks in the tree are not followed, as \
    an absolute one would lead to this host's own files: readlink tells where to look. All that \
    it starts ends with it.\n\nExit codes: 0 all passed, 1 something is wrong, 3 something could \
    not be tried, also for want of time. What came of it is kept in the vault; show and list tell \
    it.")]
pub struct DrillArgs {
    /// A snapshot: its ID, the start of it, or latest
    pub id: String,
    /// A script that is run against the tree; it fails the drill unless it exits with 0
    #[arg(long, value_name = "SCRIPT")]
    pub check: Option<PathBuf>,
    /// How long all of it may take
    #[arg(long, value_name = "TIME", default_value = "10m")]
    #[arg(value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}
