//! The units by which systemd runs a plan: their text. It asks nobody.
//!
//! The timer fires more often than the plan runs, and `plan run --due` decides. No calendar
//! expression says "every 5 hours" over midnight, or "every 3 days" over the end of a month; and
//! where a clock is put forward over 02:30, systemd leaves that day out. What it fires at is a grid
//! that holds every time of the plan: offsets of time zones are whole quarters of an hour, so the
//! times of a plan lie in UTC at one minute of a quarter, and one second. The quarters between are
//! for runs that were missed, that failed and pause, or wait for their window.

use super::clock::HostClock;
use super::file::SnapshotPlan;
use super::interval::IntervalStep;
use super::name::PlanName;
use jiff::Timestamp;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A quarter of an hour, in seconds.
const QUARTER: i64 = 900;
/// So many times of a plan are asked whether they lie on the grid.
const TIMES: usize = 64;

/// The names of a plan's units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitNames {
    /// What is started.
    pub service: String,
    /// What starts it.
    pub timer: String,
}

impl UnitNames {
    /// Those of a plan.
    pub fn of(name: &PlanName) -> Self {
        Self {
            service: format!("stillpoint-plan-{name}.service"),
            timer: format!("stillpoint-plan-{name}.timer"),
        }
    }
}

/// What a unit has to know beside the plan.
#[derive(Clone, Debug)]
pub struct UnitContext {
    /// The program.
    pub program: PathBuf,
    /// What it needs in its environment: names and values.
    pub environment: Vec<(String, OsString)>,
}

/// The first line of what is written for a plan; who finds another one at a unit's name leaves it
/// alone.
pub fn first_line(name: &PlanName) -> String {
    format!("# Written by stillpoint for the plan {name}.")
}

fn head(name: &PlanName) -> String {
    format!(
        "{} Do not edit it:\n# `stillpoint plan modify {name}` writes it anew, and `stillpoint \
         plan delete {name}` removes it.\n# Drop-ins are yours: `systemctl edit` makes them.\n\n",
        first_line(name)
    )
}

/// The timer of a plan.
pub fn timer_text(plan: &SnapshotPlan, clock: &HostClock) -> String {
    let name = &plan.name;
    format!(
        "{}[Unit]\n\
         Description=Look whether a run of stillpoint's plan {name} is due\n\
         Documentation=man:stillpoint-plans(7)\n\n\
         [Timer]\n\
         # A grid that holds every time of the plan; `plan run --due` decides which they are.\n\
         OnCalendar={}\n\
         # Once after a time off.\n\
         Persistent=true\n\
         AccuracySec=1s\n\n\
         [Install]\n\
         WantedBy=timers.target\n",
        head(name),
        calendar(plan, clock),
    )
}

/// When the timer fires.
pub fn calendar(plan: &SnapshotPlan, clock: &HostClock) -> String {
    let times = clock.following(Timestamp::UNIX_EPOCH).take(TIMES);
    let times: Vec<i64> = times.map(Timestamp::as_second).collect();
    let first = times.first().copied().unwrap_or_default();
    let step = match plan.schedule.every.step() {
        // Seven minutes do not come out even in an hour: then it fires each minute.
        IntervalStep::Seconds(step) => common_divisor(step, QUARTER),
        IntervalStep::Days(_) => QUARTER,
    };
    let of_step = first.rem_euclid(step);
    let on_grid = times.iter().all(|time| time.rem_euclid(step) == of_step);
    // A zone with an offset like no other.
    let step = if on_grid { step } else { 60 };
    let (minute, second) = (first.rem_euclid(step) / 60, first.rem_euclid(60));
    format!("*-*-* *:{minute:02}/{}:{second:02} UTC", step / 60)
}

fn common_divisor(one: i64, other: i64) -> i64 {
    match other {
        0 => one,
        _ => common_divisor(other, one % other),
    }
}

/// The service of a plan.
pub fn service_text(plan: &SnapshotPlan, context: &UnitContext) -> String {
    let name = &plan.name;
    let mut text = head(name);
    let program = quoted(context.program.as_os_str().as_bytes());
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "[Unit]\n\
         Description=Run stillpoint's plan {name} if it is due\n\
         Documentation=man:stillpoint-plans(7)\n\
         Wants=network-online.target\n\
         After=network-online.target remote-fs.target time-sync.target\n\n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={program} plan run {name} --due\n"
    );
    for (key, value) in &context.environment {
        let pair = [key.as_bytes(), b"=", value.as_bytes()].concat();
        let _ = writeln!(text, "Environment={}", quoted(&pair));
    }
    text.push_str(SERVICE);
    text
}

/// What is the same for all plans.
const SERVICE: &str = r"# 3: done, with warnings; `stillpoint status` tells them.
SuccessExitStatus=3
TimeoutStartSec=infinity
# Its own clean-up comes first: what is frozen is thawed, hooks end. Then all that is left.
KillMode=mixed
TimeoutStopSec=3min
# What it says is kept; that a timer has fired is not.
SyslogLevel=notice
LogLevelMax=notice

# Resources. Not less: for moments it holds filesystems still, and reads meanwhile. No MemoryHigh:
# it makes whoever is above it wait, and nobody may wait then.
CPUWeight=50
IOWeight=50
MemoryMax=50%
TasksMax=512

# Hardening, as far as it goes. It reads raw disks, loads BPF programs, freezes what is mounted
# anywhere, and runs hooks for databases. So it gets no mount namespace of its own, which most of
# systemd's switches make: PrivateTmp= would hide /tmp/prescript.sh, ProtectSystem=, ProtectHome=,
# PrivateDevices=, ProtectKernelTunables=, ProtectControlGroups=, ProtectKernelLogs= and
# ProtectProc= what it freezes, reads, sets or tells. ProtectClock= and DeviceAllow= take the disks
# away, RestrictSUIDSGID= openat2(2), by which files of a vault are opened, NoNewPrivileges= the
# `sudo` of hooks, MemoryDenyWriteExecute= and RestrictNamespaces= what hooks start (runtimes,
# containers).
CapabilityBoundingSet=~CAP_SYS_TIME CAP_SYS_BOOT CAP_SYS_MODULE CAP_MAC_ADMIN CAP_WAKE_ALARM
LockPersonality=yes
SystemCallArchitectures=native
UMask=0077
";

/// A word of a unit's line, whatever stands in it. What is no UTF-8 cannot be written.
fn quoted(word: &[u8]) -> String {
    let mut text = String::from("\"");
    for c in String::from_utf8_lossy(word).chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
