//! What scenarios of hours and days have in common: a guest's clock, and the units of its plan.

use crate::lab::{LONG, VAULT};
use crate::machine::Machine;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What systemd starts for the plan of these scenarios, `daily`.
pub const SERVICE: &str = "stillpoint-plan-daily.service";
/// What starts that.
pub const TIMER: &str = "stillpoint-plan-daily.timer";
/// A timer has started what is due within this.
const STARTS: Duration = Duration::from_secs(120);

/// Runs the product as it is installed, without anything in its environment; it has to end with
/// `code`. Its document.
pub fn told(machine: &mut Machine, line: &str, code: i64) -> Result<Value> {
    let script = format!("stillpoint --json --quiet {line}");
    let output = machine.attempt(&script, LONG)?;
    let output = output.expect(code).with_context(|| script.clone())?;
    output.json().with_context(|| script)
}

/// Sets the guest's clock, in UTC, as an administrator would, or a jump of the clock does.
pub fn set_clock(machine: &mut Machine, time: &str) -> Result<()> {
    machine.sh(&format!("date -u -s '{time}'"))?;
    Ok(())
}

/// The date so many days after another one.
pub fn after(machine: &mut Machine, date: &str, days: i32) -> Result<String> {
    machine.sh(&format!("date -u -d '{date} {days:+} days' +%F"))
}

/// Waits until the plan has a run that began after `since` and has ended; nobody starts it here, so
/// a timer has to. It gives that run.
pub fn run_by_timer(machine: &mut Machine, since: &str) -> Result<Value> {
    let since = machine.sh(&format!("date -u -d '{since}' +%FT%TZ"))?;
    let (begun, mut starts) = (Instant::now(), Instant::now() + STARTS);
    loop {
        let state = machine.sh(&format!(
            "systemctl show --property=ActiveState --value {SERVICE}"
        ))?;
        if state == "activating" {
            // What it does may take long, and no more is looked at meanwhile.
            starts = Instant::now() + STARTS;
        } else {
            let plan = told_of_plan(machine)?;
            let last = &plan["last"];
            let began = last["began"].as_str().unwrap_or_default();
            // Times are written alike, so they are ordered as texts.
            if began > since.as_str() && !last["ended"].is_null() {
                return Ok(last.clone());
            }
        }
        ensure!(
            Instant::now() < starts,
            "the timer has started no run since {since}; {}",
            units(machine)?
        );
        ensure!(begun.elapsed() < LONG, "a run does not end");
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// How the plan stands, as a document, whatever that comes to.
pub fn told_of_plan(machine: &mut Machine) -> Result<Value> {
    let output = machine.attempt("stillpoint --json --quiet plan show daily", LONG)?;
    output.json()
}

/// What systemd says of the plan's units.
pub fn units(machine: &mut Machine) -> Result<String> {
    machine.sh(&format!(
        "date -u; systemctl list-timers --all --no-pager {TIMER}; \
         systemctl status --no-pager {TIMER} {SERVICE}; \
         journalctl -b --no-pager -u {SERVICE} -n 30; true"
    ))
}

/// Waits until the timer has started its service once more after this; what that has to do is over
/// then.
pub fn looks_again(machine: &mut Machine, jump: &str) -> Result<()> {
    let last = format!("systemctl show --property=LastTriggerUSec --value {TIMER}");
    let before = machine.sh(&last)?;
    set_clock(machine, jump)?;
    let end = Instant::now() + STARTS;
    while machine.sh(&last)? == before {
        ensure!(
            Instant::now() < end,
            "the timer does not fire: {}",
            units(machine)?
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    machine.sh_within(
        &format!(
            "while systemctl show --property=ActiveState --value {SERVICE} | grep -q activating; \
                  do sleep 0.5; done"
        ),
        LONG,
    )?;
    Ok(())
}

/// The IDs of all snapshots in the vault of these scenarios.
pub fn snapshots(machine: &mut Machine) -> Result<Vec<String>> {
    let list = told(machine, &format!("list --vault {VAULT}"), 0)?;
    let all = list["snapshots"].as_array().context("no list")?;
    let ids = all
        .iter()
        .map(|one| one["snapshot"].as_str().map(str::to_owned));
    ids.collect::<Option<_>>().context("a snapshot without ID")
}
