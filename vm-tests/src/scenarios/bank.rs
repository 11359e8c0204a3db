//! A MariaDB server on an instance's data disk, under load, with the project's own hooks; and how
//! it is told from a copy that nothing confirmed is lost and nothing had to be recovered.

use super::load::carry;
use crate::machine::{COMMAND, Machine};
use anyhow::{Context, Result, ensure};
use std::time::Instant;

const PROGRAM: &str = include_str!("../bank.py");
/// Where it is in a guest, and where it notes what the server has confirmed: in memory.
const PLACE: &str = "/run/bank.py";
const CONFIRMED: &str = "/run/bank-confirmed";

/// Starts the server with its data in `/srv/data/mysql`, now and at each boot, and the load on it:
/// with a pause of so many seconds after each transfer.
pub fn open(guest: &mut Machine, pause: &str) -> Result<()> {
    carry(guest, PROGRAM, PLACE)?;
    guest.sh(&format!(
        "set -e; cp -a /var/lib/mysql /srv/data/; systemctl enable --quiet --now mariadb; \
         python3 {PLACE} open"
    ))?;
    // As an administrator installs them.
    guest.sh(
        "cd /opt/stillpoint/hooks && install -m 0700 -o root -g root mariadb-prescript.sh \
         /tmp/prescript.sh && install -m 0700 -o root -g root mariadb-postscript.sh \
         /tmp/postscript.sh",
    )?;
    work(guest, 20, pause)
}

/// Starts the load, from the transfer on that comes next, and waits until so many are confirmed.
pub fn work(guest: &mut Machine, until: u64, pause: &str) -> Result<()> {
    carry(guest, PROGRAM, PLACE)?;
    guest.sh(&format!(
        "rm -f {CONFIRMED}; \
         systemd-run --quiet --unit=bank python3 {PLACE} work {CONFIRMED} {pause}"
    ))?;
    let end = Instant::now() + COMMAND;
    while confirmed(guest)? < until {
        ensure!(Instant::now() < end, "the server does not get on");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    Ok(())
}

/// Stops the load, which has run without a fault; the last transfer that was confirmed.
pub fn stop(guest: &mut Machine) -> Result<u64> {
    let line =
        format!("set -e; systemctl is-active --quiet bank; systemctl stop bank; cat {CONFIRMED}");
    let text = guest.sh(&line)?;
    text.parse().with_context(|| format!("a number: {text:?}"))
}

/// The last transfer that the server has confirmed.
pub fn confirmed(guest: &mut Machine) -> Result<u64> {
    let text = guest.sh(&format!(
        "systemctl is-active --quiet bank && [ -s {CONFIRMED} ] && cat {CONFIRMED} || echo 0"
    ))?;
    text.parse().with_context(|| format!("a number: {text:?}"))
}

/// On a restored machine: the server runs by itself, without having had to recover anything, and
/// its transfers are right, `least` to `most` of them.
pub fn check(guest: &mut Machine, least: u64, most: u64) -> Result<u64> {
    carry(guest, PROGRAM, PLACE)?;
    guest.sh(
        "for i in $(seq 200); do state=$(systemctl is-active mariadb); \
         [ $state = activating ] || break; sleep 1; done; [ $state = active ]",
    )?;
    let count: u64 = guest.sh(&format!("python3 {PLACE} check"))?.parse()?;
    ensure!(
        (least..=most).contains(&count),
        "{count} transfers; {least} were confirmed before and {most} after the snapshot"
    );
    guest.sh("journalctl -b -u mariadb >/run/mariadb.log; \
         grep -q 'ready for connections' /run/mariadb.log; \
         ! grep -iE 'crash recovery|starting recovery|corrupt|\\[ERROR\\]' /run/mariadb.log")?;
    Ok(count)
}
