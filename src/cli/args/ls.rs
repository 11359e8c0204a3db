//! The arguments of `ls`.

use super::snapshot_path::{SnapshotPath, snapshot_path};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint ls latest\n  stillpoint ls latest:/etc -l\n  \
    stillpoint ls 01KA:/srv/data -R\n  stillpoint ls latest:/boot --disk vda --partition 2\n\n\
    Paths are those of the host. Symlinks on the way are followed within the snapshot alone. \
    Without a path it lists what was mounted, and where. The kernel's own drivers read the \
    filesystems, in a place that nothing else sees."
)]
pub struct LsArgs {
    /// A snapshot, and a path as it was on the host
    #[arg(value_name = "ID[:PATH]")]
    #[arg(value_parser = OsStringValueParser::new().try_map(snapshot_path))]
    pub what: SnapshotPath,
    /// Show mode, links, owner, group, size and time too, and where symlinks lead to
    #[arg(short, long)]
    pub long: bool,
    /// List what is in directories, too, to any depth
    #[arg(short = 'R', long)]
    pub recursive: bool,
    #[command(flatten)]
    pub inside: InsideArgs,
}

/// What was not mounted.
#[derive(Args, Clone, Debug)]
pub struct InsideArgs {
    /// Take the path as one in the filesystem on this disk, mounted or not
    #[arg(long)]
    pub disk: Option<String>,
    /// The same in a partition of that disk, by its number
    #[arg(long, value_name = "N", requires = "disk")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub partition: Option<u32>,
}
