//! A plan as its file says it: which keys there are, and what each may hold. It must never take a
//! key that it does not know for one that does no harm.

use super::interval::Interval;
use super::name::{PlanId, PlanName};
use super::retention::PlanRetention;
use super::schedule::Schedule;
use super::window::DayWindow;
use crate::config::{
    GivenHooks, PlanNotify, SettingKeys, SettingsFile, parse_hook_time, parse_rate,
};
use crate::engine::OnHookFailure;
use crate::error::Result;
use crate::model::{Bytes, Level};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Years in which a plan may begin: what it never comes to, nobody would miss.
const YEARS: RangeInclusive<i16> = 1970..=2200;
/// The longest jitter.
const MOST_JITTER: Duration = Duration::from_secs(12 * 3600);

/// How long a drill of a plan may take: nothing of the plan is run meanwhile.
const LEAST_DRILL: Duration = Duration::from_secs(1);
const MOST_DRILL: Duration = Duration::from_secs(24 * 3600);

/// What is snapshotted by itself, when, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotPlan {
    /// Its name.
    pub name: PlanName,
    /// What tells it from an earlier one of its name; `None`: its note says it.
    pub id: Option<PlanId>,
    /// Which disks.
    pub disks: PlanDisks,
    /// Whether it goes on with the rest where a disk cannot be snapshotted.
    pub partial: bool,
    /// The vault, as `--vault` takes it; `None`: as flags, environment and configuration say.
    pub vault: Option<String>,
    /// How consistent.
    pub level: Level,
    /// The hooks that it names.
    pub hooks: GivenHooks,
    /// When.
    pub schedule: Schedule,
    /// The name of the schedule's time zone.
    pub zone_name: String,
    /// By how much a host may be later than the schedule.
    pub jitter: Duration,
    /// The part of a day in which it may begin.
    pub window: Option<DayWindow>,
    /// How long snapshots stay; `None`: nothing is ever deleted.
    pub retention: Option<PlanRetention>,
    /// Most bytes a second to read of disks.
    pub limit_read: Option<Bytes>,
    /// Most bytes a second to put into the vault.
    pub limit_write: Option<Bytes>,
    /// The second place, and how often it is brought up to date.
    pub mirror: Option<PlanMirror>,
    /// How much is verified, and how often.
    pub verify: Option<PlanVerify>,
    /// How the snapshot is tried, and how often.
    pub drill: Option<PlanDrill>,
    /// How often what no snapshot needs is freed.
    pub gc: Option<Interval>,
    /// Who is told how it went.
    pub notify: PlanNotify,
    /// Whether it is held back.
    pub suspended: bool,
    /// When its file was last written.
    pub written: Option<Timestamp>,
}

/// Which disks a plan takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanDisks {
    /// All but these, later ones included.
    AllBut(Vec<String>),
    /// These.
    These(Vec<String>),
}

/// Deleting what the retention does not keep.
pub const PRUNE: &str = "prune";
/// Sending the second place what it lacks.
pub const MIRROR: &str = "mirror";
/// Reading a part of the vault.
pub const VERIFY: &str = "verify";
/// Trying whether the snapshot can be restored.
pub const DRILL: &str = "drill";
/// Freeing what no snapshot needs.
pub const GC: &str = "gc";

/// What follows a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The command.
    pub name: &'static str,
    /// How often; `None`: after each snapshot.
    pub every: Option<Interval>,
}

/// A second place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanMirror {
    /// As `mirror --to` takes it.
    pub to: String,
    /// How often; `None`: after each snapshot.
    pub every: Option<Interval>,
}

/// A check of the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanVerify {
    /// As `verify --sample` takes it.
    pub sample: String,
    /// How often; `None`: after each snapshot.
    pub every: Option<Interval>,
}

/// A drill of the snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanDrill {
    /// How often.
    pub every: Interval,
    /// Whether a machine is booted from it.
    pub boot: bool,
    /// The script that is run against its tree.
    pub check: Option<PathBuf>,
    /// How long all of it may take; `None`: as `drill` has it.
    pub timeout: Option<Duration>,
    /// The memory of the machine; `None`: as `drill` has it.
    pub memory: Option<Bytes>,
}

impl SnapshotPlan {
    /// The plan of that name, as its file says it; all that is wrong is told at once.
    ///
    /// # Errors
    /// `Usage` with what is wrong.
    pub fn of(name: PlanName, file: &SettingsFile) -> Result<Self> {
        let mut keys = file.keys();
        let timing = Timing::take(&mut keys);
        let disks = take_disks(&mut keys);
        let level = keys
            .parsed("level", parse_level)
            .unwrap_or(Level::Filesystem);
        let hooks = keys.table("hooks", take_hooks).unwrap_or_default();
        if hooks.any() && level < Level::Application {
            keys.missing("hooks", "they are run with level = \"application\" only");
        }
        let limits = keys.table("limits", |keys| {
            (
                keys.parsed("read", parse_rate),
                keys.parsed("write", parse_rate),
            )
        });
        let (limit_read, limit_write) = limits.unwrap_or_default();
        let mirror = keys.table("mirror", take_mirror).flatten();
        let verify = keys.table("verify", take_verify).flatten();
        let drill = keys.table("drill", take_drill).flatten();
        let gc = keys.table("gc", |keys| take_every(keys, "1d"));
        let plan = Self {
            name,
            id: keys.parsed("id", str::parse),
            disks,
            partial: keys.flag("partial").unwrap_or(false),
            vault: keys.parsed("vault", parse_place),
            level,
            hooks,
            schedule: timing.schedule,
            zone_name: timing.zone_name,
            jitter: keys.parsed("jitter", parse_jitter).unwrap_or_default(),
            window: keys.parsed("window", str::parse),
            retention: PlanRetention::take(&mut keys),
            limit_read,
            limit_write,
            mirror,
            verify,
            drill,
            gc: gc.flatten(),
            notify: keys.table("notify", PlanNotify::take).unwrap_or_default(),
            suspended: keys.flag("suspended").unwrap_or(false),
            written: file.written.and_then(|time| Timestamp::try_from(time).ok()),
        };
        match keys.faults() {
            faults if faults.is_empty() => Ok(plan),
            faults => Err(file.error(&faults).with_hint(
                "`stillpoint help plans` describes each key; nothing is run by a plan that is \
                 wrong, and `stillpoint status` says so",
            )),
        }
    }

    /// What follows a snapshot, in this order.
    pub fn follow_ups(&self) -> Vec<FollowUp> {
        let every = |name, every| FollowUp { name, every };
        let prune = self.retention.map(|_| every(PRUNE, None));
        let mirror = self.mirror.as_ref().map(|one| every(MIRROR, one.every));
        let verify = self.verify.as_ref().map(|one| every(VERIFY, one.every));
        let drill = self.drill.as_ref().map(|one| every(DRILL, Some(one.every)));
        let gc = self.gc.map(|one| every(GC, Some(one)));
        [prune, mirror, verify, drill, gc]
            .into_iter()
            .flatten()
            .collect()
    }

    /// All that its times follow from, as text: who has served a time of another text owes nothing.
    pub fn timing(&self) -> String {
        let Schedule { start, every, .. } = &self.schedule;
        let jitter = self.jitter.as_secs();
        format!("{start} {} {every} {jitter}s", self.zone_name)
    }
}

/// What the times of a plan follow from.
struct Timing {
    schedule: Schedule,
    zone_name: String,
}

impl Timing {
    fn take(keys: &mut SettingKeys) -> Self {
        let zone = keys
            .parsed("zone", parse_zone)
            .unwrap_or_else(NamedZone::utc);
        let start = keys.parsed("start", parse_start);
        if start.is_none() {
            let why = "say when it begins, like \"2026-12-01T02:30:00\"; zone says where, else UTC";
            keys.missing("start", why);
        }
        let every = keys.parsed("every", str::parse);
        if every.is_none() {
            keys.missing("every", "say how often, like \"6h\" or \"1d\"");
        }
        // Where one of them is missing, no plan is made of it.
        let every = every.or_else(|| "1d".parse().ok());
        Self {
            schedule: Schedule {
                start: start.unwrap_or_default(),
                zone: zone.zone,
                every: every.expect("a day is an interval"),
            },
            zone_name: zone.name,
        }
    }
}

/// A time zone with the name that it was asked for by.
pub struct NamedZone {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub zone: TimeZone,
}

impl NamedZone {
    /// That of no place.
    pub fn utc() -> Self {
        Self {
            name: "UTC".into(),
            zone: TimeZone::UTC,
        }
    }
}

/// The time zone of that name.
///
/// # Errors
/// This host does not know it.
pub fn parse_zone(text: &str) -> std::result::Result<NamedZone, String> {
    if text == "UTC" {
        return Ok(NamedZone::utc());
    }
    let zone = TimeZone::get(text).map_err(
        |_| "this host knows no such time zone: UTC, or one like Europe/Berlin (package tzdata)",
    )?;
    let name = zone.iana_name().unwrap_or(text).to_owned();
    Ok(NamedZone { name, zone })
}

/// When a plan begins, as clocks show it there.
///
/// # Errors
/// It is no date and time to the second.
pub fn parse_start(text: &str) -> std::result::Result<DateTime, String> {
    let right = "a date and time without offset is expected, like 2026-12-01T02:30:00; \
                 the time zone stands apart";
    let start: DateTime = text.parse().map_err(|_| right)?;
    match start.subsec_nanosecond() {
        0 if !YEARS.contains(&start.year()) => Err("it begins in a year from 1970 to 2200".into()),
        0 => Ok(start),
        _ => Err("it begins at a whole second".into()),
    }
}

fn take_disks(keys: &mut SettingKeys) -> PlanDisks {
    let excluded = keys.has("exclude");
    let exclude = keys.texts("exclude").unwrap_or_default();
    if !keys.is_list("disks") {
        keys.parsed("disks", |text| match text {
            "all" => Ok(()),
            _ => Err("\"all\" is expected, or disks in brackets, like [\"vda\"]".into()),
        });
        return PlanDisks::AllBut(exclude);
    }
    let these = keys.texts("disks").unwrap_or_default();
    if these.is_empty() {
        keys.missing("disks", "no disk stands in it");
    }
    if excluded {
        keys.missing("exclude", "it goes with disks = \"all\" only");
    }
    PlanDisks::These(these)
}

fn take_hooks(keys: &mut SettingKeys) -> GivenHooks {
    GivenHooks {
        prescript: keys.parsed("prescript", parse_script),
        postscript: keys.parsed("postscript", parse_script),
        timeout: keys.parsed("timeout", parse_hook_time),
        on_failure: keys.parsed("on_failure", |text| match text {
            "filesystem" => Ok(OnHookFailure::Filesystem),
            "fail" => Ok(OnHookFailure::Fail),
            _ => Err("\"filesystem\" or \"fail\" is expected".into()),
        }),
    }
}

fn take_mirror(keys: &mut SettingKeys) -> Option<PlanMirror> {
    let every = keys.parsed("every", str::parse);
    let to = keys.parsed("to", parse_place);
    if to.is_none() {
        keys.missing("to", "name the second place");
    }
    Some(PlanMirror { to: to?, every })
}

fn take_verify(keys: &mut SettingKeys) -> Option<PlanVerify> {
    let every = keys.parsed("every", str::parse);
    let sample = keys.parsed("sample", |text| {
        let number = text
            .strip_suffix('%')
            .and_then(|text| text.parse::<f64>().ok());
        match number.filter(|number| *number > 0.0 && *number <= 100.0) {
            Some(_) => Ok(text.to_owned()),
            None => Err("a part of the vault is expected, like \"5%\"".into()),
        }
    });
    if sample.is_none() {
        keys.missing("sample", "say how much of the vault to read, like \"5%\"");
    }
    Some(PlanVerify {
        sample: sample?,
        every,
    })
}

/// How often, where a table is of no use without it.
fn take_every(keys: &mut SettingKeys, example: &str) -> Option<Interval> {
    let every = keys.parsed("every", str::parse);
    if every.is_none() {
        keys.missing("every", &format!("say how often, like {example:?}"));
    }
    every
}

fn take_drill(keys: &mut SettingKeys) -> Option<PlanDrill> {
    let every = take_every(keys, "1w");
    let boot = keys.flag("boot").unwrap_or(false);
    let memory = keys.parsed("memory", parse_rate);
    if memory.is_some() && !boot {
        keys.missing("memory", "it is that of a machine: boot = true");
    }
    let check = keys.parsed("check", parse_script);
    let timeout = keys.parsed("timeout", parse_drill_time);
    Some(PlanDrill {
        every: every?,
        boot,
        check,
        timeout,
        memory,
    })
}

fn parse_script(text: &str) -> std::result::Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err("give the whole path".into()),
    }
}

fn parse_drill_time(text: &str) -> std::result::Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let time = Duration::from_secs(time.as_secs());
    match time >= LEAST_DRILL && time <= MOST_DRILL {
        true => Ok(time),
        false => Err("give 1s at least, and 1d at most".into()),
    }
}

fn parse_level(text: &str) -> std::result::Result<Level, String> {
    match text {
        "crash" => Ok(Level::Crash),
        "filesystem" => Ok(Level::Filesystem),
        "application" => Ok(Level::Application),
        _ => Err("\"crash\", \"filesystem\" or \"application\" is expected".into()),
    }
}

/// A plan is run from any directory.
fn parse_place(text: &str) -> std::result::Result<String, String> {
    let is_url = text.contains("://");
    match is_url || text.starts_with('/') || !(text.contains('/') || text.starts_with('.')) {
        true => Ok(text.into()),
        false => Err("give the whole path, s3://bucket/prefix, or a name from config.toml".into()),
    }
}

fn parse_jitter(text: &str) -> std::result::Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time <= MOST_JITTER {
        true => Ok(Duration::from_secs(time.as_secs())),
        false => Err("give 12h at most".into()),
    }
}
