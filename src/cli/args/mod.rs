//! The command line, as clap parses it: the options of every command here, and those of each
//! command in a file of its own.

mod client;
mod completions;
mod cp;
mod delete;
mod diff;
mod doctor;
mod drill;
mod fleet;
mod gc;
mod help;
mod hooks;
mod init;
mod job;
mod keep;
mod key;
mod list;
mod lock;
mod ls;
mod mirror;
mod mount;
mod plan;
mod prune;
mod recover;
mod repair;
mod restore;
mod schema;
mod serve;
mod show;
mod snapshot;
mod snapshot_path;
mod status;
mod tag;
mod time;
mod track;
mod verify;

pub use client::{ClientAction, ClientActivateArgs, ClientArgs, ClientTokenArgs, ClientUpdateArgs};
pub use completions::{CompletionsArgs, ShellArg};
pub use cp::CpArgs;
pub use delete::DeleteArgs;
pub use diff::DiffArgs;
pub use doctor::DoctorArgs;
pub use drill::{BootArgs, DrillArgs};
pub use fleet::{
    FleetAction, FleetApplyArgs, FleetArgs, FleetReachArgs, FleetStatusArgs, FleetTemplateArgs,
};
pub use gc::GcArgs;
pub use help::HelpArgs;
pub use init::InitArgs;
pub use job::{
    JobAction, JobArgs, JobCancelArgs, JobListArgs, JobLogsArgs, JobStatusArgs, JobWaitArgs,
};
pub use keep::KeepArgs;
pub use key::{KeyAction, KeyArgs, KeyExportArgs, KeyRemoveArgs, NewKeyArgs};
pub use list::ListArgs;
pub use lock::LockArgs;
pub use ls::{InsideArgs, LsArgs};
pub use mirror::MirrorArgs;
pub use mount::{MountAction, MountArgs, UnmountArgs};
pub use plan::{
    PlanAction, PlanArgs, PlanCreateArgs, PlanKeyArgs, PlanModifyArgs, PlanNameArgs, PlanRunArgs,
};
pub use prune::PruneArgs;
pub use recover::RecoverArgs;
pub use repair::RepairArgs;
pub use restore::{FormatArg, RestoreArgs};
pub use schema::SchemaArgs;
pub use serve::ServeArgs;
pub use show::ShowArgs;
pub use snapshot::{SnapshotArgs, SwitchArg};
pub use snapshot_path::SnapshotPath;
pub use status::StatusArgs;
pub use tag::tags;
pub use track::{TrackAction, TrackArgs};
pub use verify::VerifyArgs;

use crate::client::DEFAULT_CLIENT_NOTE;
use crate::config::ConfigPlace;
use crate::engine::Places;
use crate::error::Result;
use crate::job::JobId;
use crate::notify::DEFAULT_SOCKET;
use crate::plan::DEFAULT_NOTES;
use crate::track::PinDir;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Point-in-time snapshots of whole live disks, from inside a Linux instance.
#[derive(Parser, Debug)]
#[command(
    name = "stillpoint",
    version,
    propagate_version = true,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = help::after_commands()
)]
pub struct CommandLine {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// The options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// The vault: a directory, s3://bucket/prefix, or a name from the configuration
    #[arg(long, global = true, env = "STILLPOINT_VAULT", value_name = "VAULT")]
    pub vault: Option<String>,
    /// A file with the passphrase or key of an encrypted vault, which its owner alone can read
    #[arg(
        long,
        global = true,
        env = "STILLPOINT_PASSWORD_FILE",
        value_name = "FILE"
    )]
    #[arg(hide_env = true, hide_short_help = true)]
    pub password_file: Option<PathBuf>,
    /// A command of the shell that writes the passphrase or key to its standard output
    #[arg(long, global = true, value_name = "COMMAND", hide_short_help = true)]
    #[arg(conflicts_with = "password_file")]
    pub password_command: Option<String>,
    /// Print one JSON document on stdout and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more of what is being done
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
    /// The folder of the configuration [usually: /etc/stillpoint]
    #[arg(long, global = true, env = "STILLPOINT_CONFIG_DIR")]
    #[arg(value_name = "DIRECTORY", hide_env = true, hide_short_help = true)]
    pub config_dir: Option<PathBuf>,
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
    /// Where the runs of plans are noted
    #[arg(
        long,
        global = true,
        env = "STILLPOINT_PLAN_NOTES",
        default_value = DEFAULT_NOTES
    )]
    #[arg(value_name = "DIRECTORY", hide_env = true, hide_short_help = true)]
    pub plan_notes: PathBuf,
    /// The folder of the units of plans [usually: /etc/systemd/system]
    #[arg(long, global = true, env = "STILLPOINT_UNIT_DIR", hide = true)]
    #[arg(value_name = "DIRECTORY")]
    pub unit_dir: Option<PathBuf>,
    /// What talks to systemd
    #[arg(long, global = true, env = "STILLPOINT_SYSTEMCTL", hide = true)]
    #[arg(value_name = "PROGRAM")]
    pub systemctl: Option<PathBuf>,
    /// The note of what activation did
    #[arg(long, global = true, env = "STILLPOINT_CLIENT_NOTE", hide = true)]
    #[arg(value_name = "FILE", default_value = DEFAULT_CLIENT_NOTE)]
    pub client_note: PathBuf,
    /// Where the system's journal listens
    #[arg(long, global = true, env = "STILLPOINT_JOURNAL_SOCKET", hide = true)]
    #[arg(value_name = "SOCKET", default_value = DEFAULT_SOCKET)]
    pub journal_socket: PathBuf,
    /// Where small objects of distant vaults are kept, and notes of what runs have put
    #[arg(
        long,
        global = true,
        env = "STILLPOINT_CACHE_DIR",
        default_value = "/var/cache/stillpoint"
    )]
    #[arg(value_name = "DIRECTORY", hide_env = true, hide_short_help = true)]
    pub cache_dir: PathBuf,
    /// Set by --detach for the process that it starts
    #[arg(long, global = true, hide = true, value_name = "ID")]
    pub as_job: Option<JobId>,
    /// The words of a command that a plan runs, where they are not those of the process
    #[arg(skip)]
    pub words: Option<Vec<String>>,
}

impl Common {
    /// Where the configuration is.
    pub fn config_place(&self) -> ConfigPlace {
        ConfigPlace {
            file: self.config.clone(),
            folder: self.config_dir.clone(),
        }
    }

    /// Where runs keep what they need on the host.
    pub fn places(&self) -> Result<Places> {
        Ok(Places {
            run_dir: self.run_dir.clone(),
            pins: PinDir::named(&self.pin_name)?,
            notes: self.cache_dir.join("sent"),
            program: "/proc/self/exe".into(),
        })
    }
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a vault in an empty directory, or in a bucket of S3
    Init(InitArgs),
    /// Try what the place of a vault can and cannot do; leaves nothing behind
    #[command(after_help = "Example:\n  stillpoint check --vault /backup/vault\n  \
        stillpoint check --vault s3://bucket/prefix")]
    Check,
    /// Say what the vault holds, what deleting it would free, and when its disk will be full
    #[command(after_help = "Example:\n  stillpoint info\n  \
        stillpoint info --vault s3://bucket/prefix --json")]
    Info,
    /// List the disks of this host
    #[command(after_help = "Example:\n  stillpoint disks")]
    Disks,
    /// Say what this host can and cannot do; freezes nothing unless asked to
    Doctor(DoctorArgs),
    /// Say how old each disk's last good snapshot is, and how plans stand; for monitors too
    Status(StatusArgs),
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
    /// List files of a snapshot, by the paths that they had on the host
    Ls(LsArgs),
    /// Copy files and trees of a snapshot, by the paths that they had on the host
    Cp(CpArgs),
    /// Check that what the vault holds is whole
    Verify(VerifyArgs),
    /// Restore disks of a snapshot to block devices or image files
    Restore(RestoreArgs),
    /// Serve disks of a snapshot in place, to QEMU and others, by NBD
    Serve(ServeArgs),
    /// Mount a snapshot on a folder: the host's tree as it was, and its disks as files
    Mount(MountArgs),
    /// Unmount a snapshot, and take down what a dead mount has left
    Unmount(UnmountArgs),
    /// Try a snapshot: open and check its filesystems, run a script against its tree
    Drill(DrillArgs),
    /// Keep the same vault in a second place: send there what it lacks
    Mirror(MirrorArgs),
    /// Put right what has rotted in a vault, and note what is lost
    Repair(RepairArgs),
    /// Bring back what was deleted or replaced, out of the versions that a bucket keeps
    Recover(RecoverArgs),
    /// Delete snapshots; other snapshots never need them
    Delete(DeleteArgs),
    /// Delete the snapshots that no rule of a retention keeps
    Prune(PruneArgs),
    /// Keep a snapshot from being deleted, until a time or until a hold is released
    Keep(KeepArgs),
    /// Lock what snapshots need, in a bucket with object lock, until each may go
    Lock(LockArgs),
    /// List and change what opens an encrypted vault; make a key for hosts that only write
    Key(KeyArgs),
    /// Free the space of what no snapshot needs, in two steps a day apart
    Gc(GcArgs),
    /// Emergency: thaw what a run that died left frozen
    #[command(after_help = "Example:\n  stillpoint thaw")]
    Thaw,
    /// List, wait for, stop or show runs of snapshot, restore, verify, mirror and gc
    Job(JobArgs),
    /// Make, run and show plans: what this host snapshots by itself, and when
    Plan(Box<PlanArgs>),
    /// Activate this host for a vault, show its state, update and deactivate it
    Client(ClientArgs),
    /// Install and activate many instances from here, and ask how they stand
    Fleet(Box<FleetArgs>),
    /// Print what bash, zsh or fish needs to complete command lines
    Completions(CompletionsArgs),
    /// Print what the documents of --json look like, as JSON Schema
    Schema(SchemaArgs),
    /// Show what a command takes, or a page: rescue, operators, levels, hooks and others
    Help(HelpArgs),
}

/// A command that runs as a job.
#[derive(Clone, Copy, Debug)]
pub struct JobCommand {
    /// Its name.
    pub word: &'static str,
    /// Whether `--detach` was given.
    pub detach: bool,
}

impl Command {
    /// Its name and `--detach`, if it runs as a job.
    pub fn job(&self) -> Option<JobCommand> {
        let (word, detach) = match self {
            Self::Snapshot(args) => ("snapshot", args.detach),
            Self::Verify(args) => ("verify", args.detach),
            Self::Restore(args) => ("restore", args.detach),
            Self::Mirror(args) => ("mirror", args.detach),
            Self::Gc(args) => ("gc", args.detach),
            Self::Mount(args) if args.action.is_none() => ("mount", !args.foreground),
            _ => return None,
        };
        Some(JobCommand { word, detach })
    }
}
