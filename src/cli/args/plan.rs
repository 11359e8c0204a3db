//! The arguments of `plan`. What plans may hold is not checked here: files that were written by
//! hand hold the same.

use clap::{Args, Subcommand};

/// The rules that stand in place of a time.
const RULES: [&str; 6] = [
    "keep_last",
    "keep_hourly",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
];

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    stillpoint plan create daily --start 02:30 --every 1d --retention 30d\n  \
    stillpoint plan show daily")]
pub struct PlanArgs {
    #[command(subcommand)]
    pub action: PlanAction,
}

#[derive(Subcommand, Debug)]
pub enum PlanAction {
    /// Make a plan: what this host snapshots by itself, and when
    Create(PlanCreateArgs),
    /// List the plans of this host, and how they stand
    #[command(after_help = "Example:\n  stillpoint plan list")]
    List,
    /// Show all of a plan: its next five times, its last run, what runs it
    #[command(after_help = "Example:\n  stillpoint plan show daily")]
    Show(PlanNameArgs),
    /// Change a plan; what is not named stays
    Modify(PlanModifyArgs),
    /// Hold a plan back until it is resumed
    #[command(after_help = "Example:\n  stillpoint plan suspend daily")]
    Suspend(PlanNameArgs),
    /// Let a plan go on; what it has missed meanwhile is not made up for
    #[command(after_help = "Example:\n  stillpoint plan resume daily")]
    Resume(PlanNameArgs),
    /// Run a plan now, or those that are due
    Run(PlanRunArgs),
    /// Delete a plan; its snapshots stay
    #[command(after_help = "Example:\n  stillpoint plan delete daily")]
    Delete(PlanNameArgs),
}

#[derive(Args, Debug)]
pub struct PlanNameArgs {
    /// The plan
    pub name: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    stillpoint plan create daily --start 02:30 --zone Europe/Berlin --every 1d --retention 30d\n  \
    stillpoint plan create --disk vda --start 2026-12-01T00:00:00 --every 6h --verify 5%\n  \
    stillpoint plan create proven --start 03:00 --every 1d --drill-every 1w --drill-boot\n\n\
    It takes all disks, later ones included, unless some are named. `stillpoint help plans` tells \
    of times, tries and what is told when.")]
pub struct PlanCreateArgs {
    /// Its name: small letters, digits, - and _ [default: made up of the interval]
    pub name: Option<String>,
    #[command(flatten)]
    pub keys: PlanKeyArgs,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint plan modify daily --every 12h\n  \
    stillpoint plan modify daily --retention none\n\n\
    `none` takes away what --retention, --window, --jitter, --mirror, --verify, --drill-every, \
    --drill-check, --drill-timeout, --drill-memory, --gc-every, --limit-read, --limit-write, \
    --prescript, --postscript and --hook-timeout have set."
)]
pub struct PlanModifyArgs {
    /// The plan
    pub name: String,
    #[command(flatten)]
    pub keys: PlanKeyArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint plan run daily\n  stillpoint plan run --due")]
pub struct PlanRunArgs {
    /// The plan; with --due none means all of them
    #[arg(required_unless_present = "due")]
    pub name: Option<String>,
    /// Only if a run is due; prints nothing where none is
    #[arg(long)]
    pub due: bool,
    /// With a plan's name: the clock was looked at and is right, so that what deletes goes on
    #[arg(long, conflicts_with = "due")]
    pub clock_is_right: bool,
    /// Believe no time service, and no vault, that the clock is right
    #[arg(long, env = "STILLPOINT_DISTRUST_CLOCK", hide = true)]
    pub distrust_clock: bool,
}

/// The keys of a plan.
#[derive(Args, Debug, Default)]
pub struct PlanKeyArgs {
    /// When it begins: 02:30 (the next one), or 2026-12-01T02:30:00
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// The time zone of its times, like Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// How often: 1m to 59m, 1h to 23h, 1d to 6d, or 1w to 4w
    #[arg(long, value_name = "TIME")]
    pub every: Option<String>,
    /// A disk; without it all disks are taken, later ones included
    #[arg(long = "disk", value_name = "DISK", conflicts_with_all = ["all", "exclude"])]
    pub disks: Vec<String>,
    /// All disks, later ones included
    #[arg(long)]
    pub all: bool,
    /// Of all disks, leave this one out
    #[arg(long, value_name = "DISK")]
    pub exclude: Vec<String>,
    /// Whether to go on with the rest when a disk cannot be snapshotted
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub partial: Option<bool>,
    /// How consistent: crash, filesystem or application
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<String>,
    /// With --level application: the script that holds applications still
    #[arg(long, value_name = "FILE")]
    pub prescript: Option<String>,
    /// With --level application: the script that lets them go on
    #[arg(long, value_name = "FILE")]
    pub postscript: Option<String>,
    /// How long each script may take
    #[arg(long, value_name = "TIME")]
    pub hook_timeout: Option<String>,
    /// How long each snapshot stays: 30d, 8w, 12months, 10y; without it nothing is deleted
    #[arg(long, value_name = "TIME", conflicts_with_all = RULES)]
    pub retention: Option<String>,
    /// Keep the newest N, as `prune` does; so do the five that follow
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of N hours that have any
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of N days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of N weeks
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of N months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of N years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
    /// By how much a host may be later, each by a part of its own; 12h at most
    #[arg(long, value_name = "TIME")]
    pub jitter: Option<String>,
    /// The part of the day in which it may begin, like 01:00-05:00
    #[arg(long, value_name = "FROM-UNTIL")]
    pub window: Option<String>,
    /// Most bytes a second to read of the disks
    #[arg(long, value_name = "RATE")]
    pub limit_read: Option<String>,
    /// Most bytes a second to put into the vault
    #[arg(long, value_name = "RATE")]
    pub limit_write: Option<String>,
    /// Send a second place what it lacks after a snapshot
    #[arg(long, value_name = "VAULT")]
    pub mirror: Option<String>,
    /// How often to do that [default: after each snapshot]
    #[arg(long, value_name = "TIME")]
    pub mirror_every: Option<String>,
    /// Read such a part of the vault after a snapshot, like 5%
    #[arg(long, value_name = "PERCENT")]
    pub verify: Option<String>,
    /// How often to do that [default: after each snapshot]
    #[arg(long, value_name = "TIME")]
    pub verify_every: Option<String>,
    /// How often to try a snapshot after it was taken, as `drill` does
    #[arg(long, value_name = "TIME")]
    pub drill_every: Option<String>,
    /// With that: boot a machine from it; its files are tried then only with --drill-check
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub drill_boot: Option<bool>,
    /// With that: the script that is run against its tree
    #[arg(long, value_name = "FILE")]
    pub drill_check: Option<String>,
    /// With that: how long all of it may take [default: 10m]
    #[arg(long, value_name = "TIME")]
    pub drill_timeout: Option<String>,
    /// With --drill-boot: the machine's memory [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub drill_memory: Option<String>,
    /// How often to free what no snapshot needs, after a snapshot
    #[arg(long, value_name = "TIME")]
    pub gc_every: Option<String>,
}

impl PlanKeyArgs {
    /// Whether disks, places or scripts are named.
    pub fn names_what_is_there(&self) -> bool {
        !self.disks.is_empty()
            || self.all
            || !self.exclude.is_empty()
            || self.mirror.is_some()
            || self.drill_boot == Some(true)
            || self
                .drill_check
                .as_deref()
                .is_some_and(|check| check != "none")
    }
}
