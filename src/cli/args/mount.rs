//! The arguments of `mount` and `unmount`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Example:\n  stillpoint mount latest /mnt/then\n  \
    cp -a /mnt/then/fs/srv/data/report.pdf .\n  \
    stillpoint unmount /mnt/then\n\n\
    DIR/fs is the host's tree as it was, read-only, each filesystem at its place. DIR/raw/NAME.img \
    is each disk. Only what is read is fetched from the vault.")]
pub struct MountArgs {
    #[command(subcommand)]
    pub action: Option<MountAction>,
    /// A snapshot: its ID, the start of it, or latest
    #[arg(required = true)]
    pub id: Option<String>,
    /// The folder to mount it on: an empty one
    #[arg(required = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// This disk alone: its name in the snapshot, or its serial number
    #[arg(long)]
    pub disk: Option<String>,
    /// Serve it from this process, until it is unmounted or a signal comes
    #[arg(long)]
    pub foreground: bool,
}

#[derive(Subcommand, Debug)]
pub enum MountAction {
    /// List the snapshots that are mounted on this host
    #[command(after_help = "Example:\n  stillpoint mount list")]
    List,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint unmount /mnt/then\n\n\
    What a process that died has left is taken down, too.")]
pub struct UnmountArgs {
    /// The folder that a snapshot is mounted on
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Also if it is used: it is out of sight at once, and served on until nobody uses it
    #[arg(long)]
    pub lazy: bool,
}
