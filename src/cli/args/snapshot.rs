//! The arguments of `snapshot`.

use super::hooks::HookArgs;
use super::keep::keep_time;
use crate::config::parse_rate;
use crate::engine::OnBusy;
use crate::model::{Bytes, Level};
use clap::{Args, ValueEnum};
use std::time::Duration;

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
    /// How consistent the snapshot must be
    #[arg(long, value_enum, default_value = "filesystem")]
    pub level: LevelArg,
    /// Read and store everything again
    #[arg(long)]
    pub full: bool,
    /// Copy the free space of filesystems too
    #[arg(long)]
    pub all_blocks: bool,
    /// A label, to find the snapshot by
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// How long neither delete nor prune takes it, like 30d; 3650 days at most
    #[arg(long, value_parser = keep_time, value_name = "TIME")]
    pub keep: Option<Duration>,
    /// How long filesystems may stand frozen
    #[arg(long, default_value = "2s", value_parser = freeze_time, value_name = "TIME")]
    pub max_freeze: Duration,
    /// What to do when the disks change faster than they can be copied
    #[arg(long, value_enum, default_value = "fail")]
    pub on_busy: OnBusyArg,
    /// Take a copy that is of no one instant when there is no other
    #[arg(long)]
    pub allow_fuzzy: bool,
    /// Most bytes a second to read of the disks while nothing is held, like 50MiB/s
    #[arg(long, value_parser = parse_rate, value_name = "RATE")]
    #[arg(env = "STILLPOINT_LIMIT_READ", hide_env = true)]
    pub limit_read: Option<Bytes>,
    /// Most bytes a second to put into the vault, like 20MiB/s; goes before its `limits`
    #[arg(long, value_parser = parse_rate, value_name = "RATE")]
    #[arg(env = "STILLPOINT_LIMIT_WRITE", hide_env = true)]
    pub limit_write: Option<Bytes>,
    /// Whether what looks like encryption at work is told, and the last snapshot before held
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub encryption_alarm: Option<SwitchArg>,
    /// Return at once with a job's ID; the job goes on by itself
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub hooks: HookArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SwitchArg {
    /// It is
    On,
    /// It is not
    Off,
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

fn freeze_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&time) {
        Ok(time)
    } else {
        Err("a freeze may last from 100ms to 60s".into())
    }
}
