//! The units of plans on this host: written where systemd runs, and told of where it does not. It
//! must never wait for systemd without a bound.

use super::super::args::Common;
use super::places::PlanPlaces;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{
    DEFAULT_NOTES, HostClock, PlanName, PlanUnits, SnapshotPlan, UnitContext, UnitFolder,
    UnitNames, UnitState,
};
use crate::report::plan::{PlanRunner, SeenTimer};
use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The folder of an administrator's units, unless another is named.
const UNITS: &str = "/etc/systemd/system";
/// It is there while systemd runs the host (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// systemd answers within this, or is said not to. To enable a unit is to read all units anew: that
/// took 20 s on a machine that had a sixth of a processor.
const PATIENCE: Duration = Duration::from_secs(90);
/// The same where it is only asked how something is.
const LOOK_PATIENCE: Duration = Duration::from_secs(3);
/// The exit code of `systemctl is-active` for what is not (systemctl(1)).
const NOT_ACTIVE: i32 = 3;
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// systemd, where it runs this host.
pub struct Systemd {
    units: UnitFolder,
    /// What talks to it; `None`: it does not run, and units are only written.
    program: Option<PathBuf>,
    /// Whether it did not answer in time: then it is asked no more.
    is_silent: Cell<bool>,
}

impl Systemd {
    /// `None` where it does not run, and no folder of units was named.
    pub fn here(common: &Common) -> Option<Self> {
        let booted = Path::new(BOOTED).is_dir();
        let named = common.unit_dir.clone();
        let program = common.systemctl.clone();
        let program = program.or_else(|| (booted && named.is_none()).then(|| "systemctl".into()));
        let units = named.or_else(|| booted.then(|| UNITS.into()))?;
        Some(Self {
            units: UnitFolder::at(units),
            program,
            is_silent: Cell::new(false),
        })
    }

    /// Writes the units of a plan, and starts its timer.
    pub fn write(&self, plan: &SnapshotPlan, places: &PlanPlaces, common: &Common) -> Result<()> {
        let units = units_of(plan, places, common);
        self.units.write(&units)?;
        self.change(&["daemon-reload"])?;
        self.change(&["enable", "--quiet", &units.names().timer])?;
        // Its times may be others now.
        self.change(&["restart", &units.names().timer])
    }

    /// Stops the timer of a plan, and removes its units. Returns whether there were any.
    pub fn remove(&self, name: &PlanName) -> Result<bool> {
        self.units.refuse_foreign(name)?;
        let names = UnitNames::of(name);
        let is_there = self.units.path().join(&names.timer).exists();
        if is_there {
            self.change(&["disable", "--quiet", "--now", &names.timer])?;
        }
        let removed = self.units.remove(name)?;
        if removed {
            self.change(&["daemon-reload"])?;
        }
        Ok(removed)
    }

    fn look(&self, plan: &SnapshotPlan, places: &PlanPlaces, common: &Common) -> SeenTimer {
        let units = units_of(plan, places, common);
        let timer = units.names().timer.clone();
        let state = self.units.state(&units);
        let written = matches!(state, Ok(UnitState::Written | UnitState::Stale));
        // Who cannot ask does not know.
        let code = written.then(|| self.ask(&["is-active", "--quiet", &timer], LOOK_PATIENCE));
        let active = match code {
            Some(Ok(Some(0))) => Some(true),
            Some(Ok(Some(NOT_ACTIVE))) => Some(false),
            _ => None,
        };
        SeenTimer {
            file: self.units.path().join(&timer),
            unit: timer,
            problem: state.as_ref().err().map(ToString::to_string),
            state: state.unwrap_or(UnitState::Stale),
            active,
        }
    }

    /// Has it change something, where it runs.
    fn change(&self, words: &[&str]) -> Result<()> {
        match self.ask(words, PATIENCE)? {
            None | Some(0) => Ok(()),
            Some(code) => {
                let what = format!("systemctl {}: exit code {code}", words.join(" "));
                Err(Error::new(ErrorKind::Failed, what))
            }
        }
    }

    /// Asks it for something, and returns the exit code; `None`: it does not run here. It
    /// answers in time, or that is an error.
    fn ask(&self, words: &[&str], within: Duration) -> Result<Option<i32>> {
        let Some(program) = &self.program else {
            return Ok(None);
        };
        let late = || {
            let what = format!("systemctl {}: no answer", words.join(" "));
            Error::new(ErrorKind::Busy, what)
        };
        if self.is_silent.get() {
            return Err(late());
        }
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command
            .spawn()
            .map_err(|error| Error::io("run", program, error).with_kind(ErrorKind::Unsupported))?;
        let until = Instant::now() + within;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(Some(status.code().unwrap_or(-1))),
                Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
                _ => {
                    self.is_silent.set(true);
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(late());
                }
            }
        }
    }
}

/// What runs a plan by itself, as far as it can be seen.
pub fn runner(
    plan: &SnapshotPlan,
    places: &PlanPlaces,
    systemd: Option<&Systemd>,
    common: &Common,
) -> PlanRunner {
    match systemd {
        Some(systemd) => PlanRunner::Timer(systemd.look(plan, places, common)),
        None => PlanRunner::Cron(cron_line(plan)),
    }
}

/// Writes the units of a plan where there is systemd. What goes wrong is told: without a timer
/// nothing runs the plan.
pub fn write_units(plan: &SnapshotPlan, places: &PlanPlaces, common: &Common) -> Option<String> {
    let systemd = Systemd::here(common)?;
    let written = systemd.write(plan, places, common);
    let error = written.err()?;
    let hint = error
        .hint()
        .map_or(String::new(), |hint| format!(" ({hint})"));
    Some(format!(
        "no timer runs plan {}: {error}{hint}; or have cron run it: {}",
        plan.name,
        cron_line(plan)
    ))
}

fn units_of(plan: &SnapshotPlan, places: &PlanPlaces, common: &Common) -> PlanUnits {
    let context = UnitContext {
        program: program(),
        environment: environment(common),
    };
    PlanUnits::of(plan, &HostClock::of(plan, &places.host), &context)
}

/// This program. Where it was replaced meanwhile, what stands in its place.
fn program() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/local/sbin/stillpoint".into());
    let text = program.to_string_lossy();
    text.strip_suffix(" (deleted)")
        .map_or_else(|| program.clone(), PathBuf::from)
}

/// What options and environment say here, and is not as usual: a timer knows nothing of either.
fn environment(common: &Common) -> Vec<(String, OsString)> {
    let path = |name: &str, path: Option<&PathBuf>, usual: &str| {
        let path = path.filter(|path| path.as_path() != Path::new(usual))?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Some((name.to_owned(), path.into_os_string()))
    };
    let pins = (common.pin_name != "stillpoint").then(|| {
        let name = OsString::from(&common.pin_name);
        ("STILLPOINT_PIN_NAME".to_owned(), name)
    });
    // Without it nobody finds ~/.aws; cron has it, a service has not.
    let home = Some(("HOME".to_owned(), OsString::from("/root")));
    [
        home,
        path(
            "STILLPOINT_CONFIG_DIR",
            common.config_dir.as_ref(),
            "/etc/stillpoint",
        ),
        path("STILLPOINT_CONFIG", common.config.as_ref(), ""),
        path(
            "STILLPOINT_PLAN_NOTES",
            Some(&common.plan_notes),
            DEFAULT_NOTES,
        ),
        path(
            "STILLPOINT_RUN_DIR",
            Some(&common.run_dir),
            "/run/stillpoint",
        ),
        path(
            "STILLPOINT_JOB_DIR",
            common.job_dir.as_ref(),
            crate::job::DEFAULT_DIRECTORY,
        ),
        path(
            "STILLPOINT_CACHE_DIR",
            Some(&common.cache_dir),
            "/var/cache/stillpoint",
        ),
        path(
            "STILLPOINT_PASSWORD_FILE",
            common.password_file.as_ref(),
            "",
        ),
        pins,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What runs all plans that are due where there is no systemd: all in one, so that two plans need
/// no two lines.
fn cron_line(plan: &SnapshotPlan) -> String {
    let minutes = plan.schedule.every.length() < jiff::SignedDuration::from_hours(1);
    let often = if minutes { "*" } else { "*/15" };
    format!(
        "{often} * * * * root {} plan run --due",
        program().display()
    )
}
