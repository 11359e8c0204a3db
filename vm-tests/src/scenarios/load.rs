//! What guests are kept busy with, and how it is told afterwards that nothing of it was lost.

use crate::machine::{COMMAND, Machine};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::time::{Duration, Instant};

const PROGRAM: &str = include_str!("../ledger.py");
/// Where it is in a guest: in memory, so that no disk has to hold it.
const PLACE: &str = "/run/ledger.py";

/// Two ledgers that are written one after the other, each record on its disk before the next.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// A folder on the one disk.
    pub first: String,
    /// A folder on the other.
    pub second: String,
}

impl Ledger {
    /// In these folders.
    pub fn new(first: &str, second: &str) -> Self {
        let (first, second) = (first.to_owned(), second.to_owned());
        Self { first, second }
    }

    /// Starts to write, until the guest is gone or it is stopped.
    pub fn start(&self, guest: &mut Machine) -> Result<()> {
        self.start_with(guest, "", "0")
    }

    /// The same by a command that runs another, with a folder of its own to write to.
    pub fn start_within(&self, guest: &mut Machine, runner: &str) -> Result<()> {
        self.start_with(guest, runner, "0")
    }

    /// The same with a pause of so many seconds after each record.
    pub fn start_with(&self, guest: &mut Machine, runner: &str, pause: &str) -> Result<()> {
        carry(guest, PROGRAM, PLACE)?;
        let (first, second) = (&self.first, &self.second);
        guest.sh(&format!(
            "systemd-run --quiet --unit=ledger {runner} \
             python3 {PLACE} write {first} {second} {pause}"
        ))?;
        // In its own eyes: what it writes to may be hidden from all others.
        let test = format!(
            "at=/proc/$(systemctl show -p MainPID --value ledger)/root; \
             [ $(grep -c '' $at{second}/log) -ge 5 ]"
        );
        let end = Instant::now() + COMMAND;
        while guest.attempt(&test, COMMAND)?.code != 0 {
            ensure!(Instant::now() < end, "the ledger does not grow");
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    }

    /// Stops it.
    pub fn stop(&self, guest: &mut Machine) -> Result<()> {
        guest.sh("systemctl is-active ledger && systemctl stop ledger")?;
        Ok(())
    }

    /// How many records are on both disks by now, at least.
    pub fn count(&self, guest: &mut Machine) -> Result<u64> {
        let text = guest.sh(&format!("grep -c '' {}/log || true", self.second))?;
        text.parse().with_context(|| format!("a count: {text:?}"))
    }

    /// Whether both are what one instant looks like, with `least` to `most` records.
    pub fn check(&self, guest: &mut Machine, least: u64, most: u64) -> Result<u64> {
        carry(guest, PROGRAM, PLACE)?;
        let line = format!("python3 {PLACE} check {} {}", self.first, self.second);
        let count: u64 = guest.sh(&line)?.parse()?;
        ensure!(
            (least..=most).contains(&count),
            "{count} records; {least} were there before and {most} after the snapshot"
        );
        Ok(count)
    }
}

/// Puts a program into a guest.
pub fn carry(guest: &mut Machine, program: &str, place: &str) -> Result<()> {
    let text = BASE64_STANDARD.encode(program);
    guest.sh(&format!("echo {text} | base64 -d >{place}"))?;
    Ok(())
}
