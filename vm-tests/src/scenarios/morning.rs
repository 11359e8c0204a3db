//! The promise of the first page: one package, one activation, and the next morning all is well.

use super::night::{SERVICE, TIMER, after, run_by_timer, set_clock, told};
use crate::disk::Disk;
use crate::lab::{Lab, VAULT, new_vault};
use crate::machine::Machine;
use anyhow::{Result, ensure};
use std::time::Instant;

/// A machine that has never seen the product gets its package and a token. In the night its timer
/// takes the plan's snapshot; in the morning all is green, and a file comes back from that. The
/// plan takes one small disk: guests hash slowly.
pub fn the_next_morning_is_green(lab: &Lab) -> Result<()> {
    let data = lab.blank("data", 64)?;
    let words = format!(
        "--disk {} --start 02:30 --every 1d --retention 30d",
        data.path()
    );
    the_next_morning(lab, &words, Some(&data))
}

/// The same by the words of the first page: the plan takes the whole machine.
pub fn a_whole_machine_the_next_morning(lab: &Lab) -> Result<()> {
    the_next_morning(lab, "--start 02:30 --every 1d --retention 30d", None)
}

/// With the words of a plan; `data` is mounted on `/srv`.
fn the_next_morning(lab: &Lab, words: &str, data: Option<&Disk>) -> Result<()> {
    let vault = lab.blank("vault", 3000)?;
    // Where the vault can be opened: another machine.
    let mut keeper = lab.guest("keeper")?;
    let today = keeper.sh("date -u +%F")?;
    let tomorrow = after(&mut keeper, &today, 1)?;
    set_clock(&mut keeper, &format!("{today} 19:30"))?;
    new_vault(&mut keeper, &vault)?;
    let token = keeper.sh(&format!(
        "stillpoint client token --vault {VAULT} --name main --token-file - \
         --plan 'daily {words}'"
    ))?;
    keeper.sh("umount /vault")?;
    keeper.done();

    let mut fresh = lab.fresh("fresh")?;
    fresh.sh("! command -v stillpoint && [ ! -e /opt/stillpoint ] && [ ! -e /etc/stillpoint ]")?;
    ensure!(fresh.sh("cat /proc/1/comm")? == "systemd");
    fresh.plug(&vault)?;
    let path = vault.path();
    fresh.sh(&format!(
        "mkdir /vault && echo '{path} /vault ext4 defaults 0 2' >>/etc/fstab && \
         systemctl daemon-reload && mount /vault"
    ))?;
    if let Some(data) = data {
        fresh.plug(data)?;
        let path = data.path();
        fresh.sh(&format!(
            "mkfs.ext4 -q -E lazy_itable_init=0 {path} && mount {path} /srv"
        ))?;
    }
    set_clock(&mut fresh, &format!("{today} 20:00"))?;
    fresh.sh(
        "head -c 3000000 /dev/urandom >/srv/report && cp /srv/report /run/report && \
         sync -f /srv/report",
    )?;
    install(lab, &mut fresh)?;
    activate(&mut fresh, &token)?;
    if lab.broken {
        fresh.sh(&format!("systemctl disable --now {TIMER}"))?;
    }

    let begun = Instant::now();
    set_clock(&mut fresh, &format!("{tomorrow} 02:29:50"))?;
    let run = run_by_timer(&mut fresh, &format!("{tomorrow} 02:29:00"))?;
    let taken = &run["outcome"];
    ensure!(taken["exit_code"] == 0, "{run:#}");
    let time = run["time"].as_str().unwrap_or_default();
    ensure!(time == format!("{tomorrow}T02:30:00Z"), "it was for {time}");
    lab.note(format!(
        "the night's snapshot, by {SERVICE}: {:.1} s; {}",
        begun.elapsed().as_secs_f64(),
        taken["said"]
    ));

    // What happens before anybody is at work.
    fresh.sh("rm /srv/report && sync -f /srv")?;
    set_clock(&mut fresh, &format!("{tomorrow} 08:00"))?;
    let status = told(&mut fresh, "status", 0)?;
    let client = told(&mut fresh, "client status", 0)?;
    ensure!(client["state"] == "activated", "{client:#}");
    let snapshot = &client["last_snapshot"]["snapshot"];
    ensure!(*snapshot == taken["snapshot"], "{client:#} {run:#}");
    ensure!(
        client["plans"][0]["state"] == "good",
        "{client:#} {status:#}"
    );
    let id = snapshot.as_str().unwrap_or_default();
    fresh.sh(&format!(
        "stillpoint --quiet cp {id}:/srv/report /root/ && cmp /root/report /run/report"
    ))?;
    lab.note(format!("a file of 3 MB came back from {id}"));
    fresh.done();
    Ok(())
}

/// The first step: the package, by Debian's own installer.
pub fn install(lab: &Lab, machine: &mut Machine) -> Result<()> {
    lab.bring_package(machine)?;
    let begun = Instant::now();
    // Guests have no network, from which the recommended certificates would come.
    machine
        .sh("apt-get -q -y --no-install-recommends install /root/stillpoint_*_amd64.deb 2>&1")?;
    ensure!(machine.sh("command -v stillpoint")? == "/usr/sbin/stillpoint");
    lab.note(format!(
        "package installed in {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The second step, after which nobody does anything.
fn activate(machine: &mut Machine, token: &str) -> Result<()> {
    machine.sh(&format!("umask 077; echo '{token}' >/root/web-1.token"))?;
    let line = "client activate --token-file /root/web-1.token";
    let activated = told(machine, line, 0)?;
    ensure!(activated["state"] == "activated", "{activated:#}");
    ensure!(activated["already"] == false, "{activated:#}");
    machine.sh("rm /root/web-1.token")?;
    machine.sh(&format!(
        "systemctl is-active {TIMER} && systemctl is-enabled {TIMER}"
    ))?;
    Ok(())
}
