//! The arguments of `restore`.

use crate::engine::ImageFormat;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  stillpoint restore latest /dev/vdb --disk vda\n  \
    stillpoint restore 01KA disk.qcow2\n  \
    stillpoint restore 01KA - --disk vda | zstd > vda.raw.zst\n  \
    stillpoint restore latest /images/empty-folder\n  \
    stillpoint restore latest --map vda=/dev/vdx,vdb=/dev/vdy --yes\n\n\
    A device that holds anything is overwritten only with --yes, or when you say so on a terminal. \
    While a restore to a device is not finished, the device has no partition table and its first \
    sector says that it is not whole; the same command again starts over. A file appears under its \
    name only when it is whole."
)]
pub struct RestoreArgs {
    /// A snapshot: its ID, the start of it, or latest
    pub id: String,
    /// A block device, a file that is made, an empty directory for all disks, or - for stdout
    #[arg(required_unless_present = "map", conflicts_with = "map")]
    pub target: Option<PathBuf>,
    /// Which disk, if the snapshot has several
    #[arg(long, conflicts_with = "map")]
    pub disk: Option<String>,
    /// Several disks, each to a device or file of its own
    #[arg(long, value_name = "DISK=TARGET", value_delimiter = ',', value_parser = assignment)]
    pub map: Vec<(String, PathBuf)>,
    /// The format of files [default: as their names end, raw where that says nothing]
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,
    /// Overwrite devices that hold something, without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
    /// Restore what can be restored of a damaged snapshot: what is damaged comes back as zeros
    #[arg(long)]
    pub keep_going: bool,
    /// Extend the last partition to the end of a larger device
    #[arg(long, conflicts_with = "no_move_gpt")]
    pub grow: bool,
    /// Leave the backup partition table where it was, also on a larger device
    #[arg(long)]
    pub no_move_gpt: bool,
    /// Return at once with a job's ID; the job goes on by itself
    #[arg(long)]
    pub detach: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// The disk's bytes, sparse
    Raw,
    /// A QEMU image
    Qcow2,
}

impl FormatArg {
    pub fn format(self) -> ImageFormat {
        match self {
            Self::Raw => ImageFormat::Raw,
            Self::Qcow2 => ImageFormat::Qcow2,
        }
    }
}

fn assignment(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((disk, target)) if !disk.is_empty() && !target.is_empty() => {
            Ok((disk.into(), target.into()))
        }
        _ => Err("give DISK=TARGET, as in vda=/dev/vdx".into()),
    }
}
