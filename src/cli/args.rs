//! What can be said on the command line.

use super::hooks::HookArgs;
use super::job::JobArgs;
use crate::engine::{OnBusy, Places, Silent};
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::model::Level;
use crate::store::Vault;
use crate::track::PinDir;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Point-in-time snapshots of whole live disks, from inside a Linux instance.
#[derive(Parser, Debug)]
#[command(
    name = "stillpoint",
    version,
    propagate_version = true,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = super::help::after_commands()
)]
pub struct Line {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What can be said to every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// The vault: a directory
    #[arg(
        long,
        global = true,
        env = "STILLPOINT_VAULT",
        value_name = "DIRECTORY"
    )]
    pub vault: Option<String>,
    /// Print one JSON document on stdout and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell more of what is being done
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Where locks and records of freezes are kept: a folder in memory
    #[arg(
        long,
        global = true,
        env = "STILLPOINT_RUN_DIR",
        default_value = "/run/stillpoint"
    )]
    #[arg(value_name = "DIRECTORY", hide_env = true, hide_short_help = true)]
    pub run_dir: PathBuf,
    /// The configuration file [default: /etc/stillpoint/config.toml, if it is there]
    #[arg(long, global = true, env = "STILLPOINT_CONFIG")]
    #[arg(value_name = "FILE", hide_env = true, hide_short_help = true)]
    pub config: Option<PathBuf>,
    /// The name below /sys/fs/bpf under which tracking is pinned
    #[arg(
        long,
        global = true,
        env = "STILLPOINT_PIN_NAME",
        default_value = "stillpoint"
    )]
    #[arg(value_name = "NAME", hide_env = true, hide_short_help = true)]
    pub pin_name: String,
    /// Where the records of jobs are kept [usually: /var/lib/stillpoint/jobs]
    #[arg(long, global = true, env = "STILLPOINT_JOB_DIR")]
    #[arg(value_name = "DIRECTORY", hide_env = true, hide_short_help = true)]
    pub job_dir: Option<PathBuf>,
    /// Set by --detach for the process that it starts
    #[arg(long, global = true, hide = true, value_name = "ID")]
    pub as_job: Option<JobId>,
}

impl Common {
    /// Where runs keep what they need on the host.
    pub fn places(&self) -> Result<Places> {
        Ok(Places {
            run_dir: self.run_dir.clone(),
            pins: PinDir::named(&self.pin_name)?,
            program: "/proc/self/exe".into(),
        })
    }
}

/// Looks at a vault for what a command will need.
pub type Foresight = Box<dyn FnOnce(&Vault) -> Result<()> + Send>;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a vault in an empty directory
    Init(InitArgs),
    /// List the disks of this host
    #[command(after_help = "Example:\n  stillpoint disks")]
    Disks,
    /// Say what this host can and cannot do; freezes nothing unless asked to
    Doctor(DoctorArgs),
    /// Start, stop or show the tracking of changed blocks
    Track(TrackArgs),
    /// Take a snapshot of disks, all at one instant
    Snapshot(SnapshotArgs),
    /// List snapshots
    List(ListArgs),
    /// Show everything about one snapshot
    Show(ShowArgs),
    /// Show which places of a disk differ between two snapshots
    Diff(DiffArgs),
    /// Check that what the vault holds is whole
    Verify(VerifyArgs),
    /// Restore disks of a snapshot to block devices or image files
    Restore(RestoreArgs),
    /// Delete snapshots; other snapshots never need them
    Delete(DeleteArgs),
    /// Emergency: thaw what a run that died left frozen
    #[command(after_help = "Example:\n  stillpoint thaw")]
    Thaw,
    /// List, wait for, stop or show runs of snapshot, restore and verify
    Job(JobArgs),
    /// Print what the documents of --json look like, as JSON Schema
    Schema(super::schema::SchemaArgs),
    /// Show what a command takes, or a page: rescue, operators, levels, hooks and others
    Help(super::help::HelpArgs),
}

impl Command {
    /// The word of a command whose runs are jobs, and whether it shall go on without its starter.
    pub fn job(&self) -> Option<(&'static str, bool)> {
        match self {
            Self::Snapshot(args) => Some(("snapshot", args.detach)),
            Self::Verify(args) => Some(("verify", args.detach)),
            Self::Restore(args) => Some(("restore", args.detach)),
            _ => None,
        }
    }

    /// What can be told soon of a command that nobody will watch: what it names is there, and may
    /// be done.
    pub fn foresight(&self) -> Foresight {
        match self {
            Self::Restore(args) => {
                let args = args.clone();
                Box::new(move |vault| super::restore::foresee(&args, vault))
            }
            Self::Verify(args) => {
                let ids = args.ids.clone();
                Box::new(move |vault| {
                    let mut ids = ids.iter();
                    ids.try_for_each(|id| super::find(vault, id, &[], &Silent).map(drop))
                })
            }
            _ => Box::new(|_| Ok(())),
        }
    }

    /// What is wrong with the arguments and can be told without asking any disk.
    pub fn check(&self, common: &Common) -> Result<()> {
        match self {
            Self::Snapshot(args) => super::snapshot::check(args, common).map(drop),
            Self::Restore(args) => super::restore::check(args, common),
            _ => Ok(()),
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint init /backup/vault --name production")]
pub struct InitArgs {
    /// An empty directory, or one that is not there yet
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub directory: String,
    /// The vault's name, 1 to 64 characters
    #[arg(long, default_value = "vault")]
    pub name: String,
    /// What it is for
    #[arg(long)]
    pub description: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint doctor\n  stillpoint doctor --freeze-test vda")]
pub struct DoctorArgs {
    /// Freeze and thaw, for an instant, everything mounted from these disks
    #[arg(long, value_name = "DISK", num_args = 1..)]
    pub freeze_test: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint track start vda vdb\n  stillpoint track status")]
pub struct TrackArgs {
    pub action: TrackAction,
    /// Disks; none given: all that are tracked
    pub disks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrackAction {
    /// Begin to note what changes
    Start,
    /// Stop it; the next snapshot has to compare everything
    Stop,
    /// Show what is tracked
    Status,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint snapshot --vault /backup/vault vda vdb --tag why=upgrade"
)]
pub struct SnapshotArgs {
    /// Disks: /dev/vda, vda, a path below /dev/disk, or a serial number
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub disks: Vec<String>,
    /// All disks that can be snapshotted; those left out are named
    #[arg(long)]
    pub all: bool,
    /// With --all: leave this disk out
    #[arg(long, value_name = "DISK", requires = "all", conflicts_with = "disks")]
    pub exclude: Vec<String>,
    /// Go on with the rest when a disk cannot be snapshotted; those left out are named
    #[arg(long)]
    pub partial: bool,
    /// How consistent it shall be
    #[arg(long, value_enum, default_value = "filesystem")]
    pub level: LevelArg,
    /// Read and store everything anew
    #[arg(long)]
    pub full: bool,
    /// Copy the free space of filesystems too
    #[arg(long)]
    pub all_blocks: bool,
    /// A label, to find the snapshot by
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// How long filesystems may stand frozen
    #[arg(long, default_value = "2s", value_parser = freeze_time, value_name = "TIME")]
    pub max_freeze: Duration,
    /// What to do when the disks change faster than they can be copied
    #[arg(long, value_enum, default_value = "fail")]
    pub on_busy: OnBusyArg,
    /// Take a copy that is of no one instant when there is no other
    #[arg(long)]
    pub allow_fuzzy: bool,
    /// Answer with a job's ID at once and go on without the starter
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub hooks: HookArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LevelArg {
    /// One instant, nothing frozen; fails on a disk that is never quiet
    Crash,
    /// One instant, every filesystem frozen
    Filesystem,
    /// As filesystem, with hooks for the applications
    Application,
}

impl LevelArg {
    pub fn level(self) -> Level {
        match self {
            Self::Crash => Level::Crash,
            Self::Filesystem => Level::Filesystem,
            Self::Application => Level::Application,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnBusyArg {
    /// Give up
    Fail,
    /// Slow down what writes
    Throttle,
    /// Freeze with more left to read
    Freeze,
}

impl OnBusyArg {
    pub fn choice(self) -> OnBusy {
        match self {
            Self::Fail => OnBusy::Fail,
            Self::Freeze => OnBusy::Freeze,
            Self::Throttle => OnBusy::Throttle,
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint list --disk vda --tag why=upgrade")]
pub struct ListArgs {
    /// Only snapshots with this disk (name, or serial number)
    #[arg(long)]
    pub disk: Option<String>,
    /// Only snapshots of this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only snapshots with this label
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint show latest")]
pub struct ShowArgs {
    /// A snapshot: its ID, the start of it, or latest
    pub id: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint diff 01KA latest --disk vda")]
pub struct DiffArgs {
    /// The older snapshot
    pub one: String,
    /// The newer snapshot
    pub two: String,
    /// Which disk, if they have several
    #[arg(long)]
    pub disk: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint verify --all --sample 5%")]
pub struct VerifyArgs {
    /// Snapshots
    #[arg(required_unless_present_any = ["all", "against_disk"], conflicts_with = "all")]
    pub ids: Vec<String>,
    /// Every snapshot of the vault
    #[arg(long)]
    pub all: bool,
    /// Compare one snapshot (latest, if none is named) with the disks it was taken of, in use or
    /// not: what differs must have been written since, or be free space
    #[arg(long, conflicts_with_all = ["all", "sample"])]
    pub against_disk: bool,
    /// With --against-disk: this disk of the snapshot alone
    #[arg(long, requires = "against_disk", value_name = "DISK")]
    pub disk: Option<String>,
    /// Read only this part of the segments, chosen at random
    #[arg(long, default_value = "100%", value_parser = percent, value_name = "PERCENT")]
    pub sample: f64,
    /// Answer with a job's ID at once and go on without the starter
    #[arg(long)]
    pub detach: bool,
}

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
    /// Answer with a job's ID at once and go on without the starter
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

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint delete 01KA")]
pub struct DeleteArgs {
    /// Snapshots
    #[arg(required = true)]
    pub ids: Vec<String>,
}

fn freeze_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&time) {
        Ok(time)
    } else {
        Err("a freeze may last from 100ms to 60s".into())
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

fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|number| *number > 0.0 && *number <= 100.0)
        .ok_or_else(|| "give a percentage above 0% and up to 100%".into())
}

/// `KEY=VALUE` taken apart.
pub fn tag(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && text.len() <= 1024 => {
            Ok((key.into(), value.into()))
        }
        _ => Err(
            Error::new(ErrorKind::Usage, format!("{text:?} is not KEY=VALUE"))
                .with_hint("a label looks like this: --tag why=upgrade"),
        ),
    }
}
