//! The arguments of `cp`.

use super::ls::InsideArgs;
use super::snapshot_path::{SnapshotPath, snapshot_path};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint cp latest:/srv/data/report.pdf .\n  \
    stillpoint cp 01KA:/etc 01KA:/home/me /root/from-backup\n  \
    stillpoint cp latest:/var/lib/app /var/lib/app.before\n  \
    stillpoint cp latest:/etc/fstab -\n  \
    stillpoint cp latest:/boot/grub . --disk vda --partition 2\n\n\
    Trees are copied with owners (by their numbers), modes, times, links, attributes, ACLs and \
    holes. Each copy appears under its name when it is whole. What cannot be read is named, and \
    the rest is copied. Only the blocks that are read are fetched from the vault."
)]
pub struct CpArgs {
    /// What to copy: snapshots, each with a path as it was on the host
    #[arg(required = true, value_name = "ID:PATH")]
    #[arg(value_parser = OsStringValueParser::new().try_map(snapshot_path))]
    pub from: Vec<SnapshotPath>,
    /// A directory to copy into, a new name, or - for standard output
    #[arg(value_name = "DEST")]
    pub dest: PathBuf,
    /// Replace files that are there, and copy into directories that are there
    #[arg(long)]
    pub overwrite: bool,
    /// Copy what a named symlink leads to, and not the symlink
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub inside: InsideArgs,
}
