//! The arguments of `drill`.

use crate::config::parse_rate;
use crate::engine::{BootDiskBus, BootFirmware};
use crate::model::Bytes;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint drill latest\n  \
    stillpoint drill latest --check /etc/stillpoint/drill.sh --timeout 30m\n  \
    stillpoint drill latest --boot --memory 2GiB\n  \
    stillpoint drill latest --boot --check /etc/stillpoint/drill.sh --timeout 30m\n\n\
    Each filesystem is opened by this kernel's drivers and checked (e2fsck, xfs_repair, btrfs, \
    fsck.fat, where they are installed), with what they write kept in memory; then the host's \
    tree is put together, read-only, where nobody else sees it. The script finds it in \
    STILLPOINT_TREE, has no network, and must be root's, mode 0700, as a hook. It runs on this \
    host's root: begin each path with $STILLPOINT_TREE. Symlinks in the tree are not followed, as \
    an absolute one would lead to this host's own files: readlink tells where to look. All that \
    it starts ends with it.\n\nWith --boot and --check both are done, the files first, then the \
    machine, whatever became of the files, each with a result of its own in the vault; what the \
    files take of --timeout the machine lacks.\n\nWith --boot a machine without a network is made \
    of the snapshot's disks, straight from the vault, by QEMU as a user without rights. It passes \
    once it asks for a login or reaches its target, as its serial console or its screen says, or \
    powers itself off when its power button is pressed. What it writes is thrown away. A picture \
    of its screen and its console's log are kept (--keep). That it cannot be had here is no \
    failure of the snapshot: no QEMU, no memory (exit code 5), no time, no room (3).\n\nExit \
    codes: 0 all passed, 1 something is wrong, 3 something could not be tried, also for want of \
    time. What came of it is kept in the vault; show, list and status tell it.")]
pub struct DrillArgs {
    /// A snapshot: its ID, the start of it, or latest
    pub id: String,
    /// A script that is run against the tree; it fails the drill unless it exits with 0
    #[arg(long, value_name = "SCRIPT")]
    pub check: Option<PathBuf>,
    /// Boot a machine from the snapshot; its filesystems are opened here only with --check
    #[arg(long)]
    pub boot: bool,
    #[command(flatten)]
    pub machine: BootArgs,
    /// How long all of it may take
    #[arg(long, value_name = "TIME", default_value = "10m")]
    #[arg(value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// The machine that is booted.
#[derive(Args, Debug)]
pub struct BootArgs {
    /// What starts it: bios or uefi [default: uefi where the disk has an EFI system partition]
    #[arg(long, value_name = "FIRMWARE", requires = "boot")]
    pub firmware: Option<BootFirmware>,
    /// How it sees its disks: virtio, scsi, sata or nvme
    #[arg(long, value_name = "BUS", default_value = "virtio", requires = "boot")]
    pub disk_bus: BootDiskBus,
    /// Its memory, which this host must have to spare
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "boot")]
    #[arg(value_parser = parse_rate)]
    pub memory: Bytes,
    /// Do not have the processor run its code, also where it can
    #[arg(long, requires = "boot")]
    pub no_kvm: bool,
    /// The folder in which a picture and a log of the newest 16 drills are kept
    #[arg(long, value_name = "DIRECTORY", requires = "boot")]
    #[arg(default_value = "/var/lib/stillpoint/drills")]
    pub keep: PathBuf,
    /// The folder for what it writes, in files without a name
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/tmp",
        requires = "boot"
    )]
    pub work: PathBuf,
    /// The most that it may write to each of its disks
    #[arg(long, value_name = "SIZE", default_value = "4GiB", requires = "boot")]
    #[arg(value_parser = parse_rate)]
    pub room: Bytes,
}
