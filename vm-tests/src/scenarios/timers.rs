//! systemd's own timers, over a time off, a clock that jumps, and a plan that is held back.

use super::morning::install;
use super::night::{
    SERVICE, TIMER, after, looks_again, run_by_timer, set_clock, snapshots, told, told_of_plan,
};
use crate::disk::Disk;
use crate::lab::{Lab, VAULT};
use crate::machine::{Firmware, Machine, Parts};
use anyhow::{Context, Result, ensure};

/// A guest with the package and a plan for a small disk, at eight in the evening; and that date.
struct Planned {
    guest: Machine,
    disks: Vec<Disk>,
    today: String,
}

fn planned(lab: &Lab) -> Result<Planned> {
    let disks = vec![lab.blank("vault", 400)?, lab.blank("data", 64)?];
    let mut guest = lab.fresh("guest")?;
    let today = guest.sh("date -u +%F")?;
    set_clock(&mut guest, &format!("{today} 20:00"))?;
    for (disk, place) in disks.iter().zip(["/vault", "/srv/data"]) {
        guest.plug(disk)?;
        let path = disk.path();
        guest.sh(&format!(
            "set -e; mkfs.ext4 -q -E lazy_itable_init=0 {path}; mkdir -p {place}; \
             echo '{path} {place} ext4 defaults 0 2' >>/etc/fstab; systemctl daemon-reload; \
             mount {place}"
        ))?;
    }
    guest.sh("head -c 8000000 /dev/urandom >/srv/data/random && sync -f /srv/data")?;
    install(lab, &mut guest)?;
    told(&mut guest, &format!("init {VAULT}"), 0)?;
    let data = disks[1].path();
    told(
        &mut guest,
        &format!(
            "plan create daily --vault {VAULT} --disk {data} --start 02:30 --every 1d \
             --retention 1d"
        ),
        0,
    )?;
    Ok(Planned {
        guest,
        disks,
        today,
    })
}

/// Puts a line into a section of a unit of the plan, as an administrator would.
fn drop_in(guest: &mut Machine, unit: &str, lines: &str) -> Result<()> {
    guest.sh(&format!(
        "set -e; mkdir -p /etc/systemd/system/{unit}.d; \
         printf '{lines}' >/etc/systemd/system/{unit}.d/broken.conf; \
         systemctl daemon-reload; systemctl restart {TIMER}"
    ))?;
    Ok(())
}

/// The run was for this time, and took its snapshot.
fn is_for(run: &serde_json::Value, time: &str) -> Result<()> {
    is_for_with(run, time, 0)
}

/// The same with another exit code.
fn is_for_with(run: &serde_json::Value, time: &str, code: i64) -> Result<()> {
    let outcome = &run["outcome"];
    ensure!(
        run["time"] == time && outcome["exit_code"] == code && !outcome["snapshot"].is_null(),
        "{run:#}"
    );
    Ok(())
}

/// The machine is off at the time of its plan. It is powered on at 08:01 by its hardware's clock:
/// the run follows then, and not at the timer's next quarter of an hour, and there is one.
pub fn a_missed_run_is_caught_up_once(lab: &Lab) -> Result<()> {
    let Planned {
        mut guest,
        disks,
        today,
    } = planned(lab)?;
    if lab.broken {
        drop_in(&mut guest, TIMER, "[Timer]\\nPersistent=no\\n")?;
    }
    let first = after(&mut guest, &today, 1)?;
    let second = after(&mut guest, &today, 2)?;
    set_clock(&mut guest, &format!("{first} 02:29:50"))?;
    let run = run_by_timer(&mut guest, &format!("{first} 02:29"))?;
    is_for(&run, &format!("{first}T02:30:00Z"))?;
    looks_again(&mut guest, &format!("{first} 20:00"))?;
    ensure!(snapshots(&mut guest)?.len() == 1);
    guest.power_off()?;

    let mut guest = lab.boot(&Parts {
        dir: &lab.dir,
        name: "next-day",
        firmware: Firmware::Bios,
        system: &lab.dir.join("guest.qcow2"),
        format: "qcow2",
        disks: &disks,
        incoming: false,
        clock: Some(&format!("{second}T08:01:00")),
    })?;
    let run = run_by_timer(&mut guest, &format!("{second} 08:00"))?;
    is_for(&run, &format!("{second}T02:30:00Z"))?;
    let began = run["began"].as_str().context("no time")?;
    ensure!(
        began < format!("{second}T08:15:00Z").as_str(),
        "not at power-on, but at {began}"
    );
    lab.note(format!("off over 02:30, on at 08:01: it ran at {began}"));
    told(&mut guest, "status", 0)?;
    looks_again(&mut guest, &format!("{second} 08:31"))?;
    looks_again(&mut guest, &format!("{second} 20:00"))?;
    let all = snapshots(&mut guest)?;
    ensure!(all.len() == 2, "{all:?}");
    guest.done();
    Ok(())
}

/// The clock jumps a week forward, and back. The plan runs once each time, and deletes nothing: by
/// the clock that is ahead the first snapshot is long over its time. It says so, until somebody
/// says that the clock is right. A plan that is held back makes up for nothing.
pub fn a_clock_that_jumps_deletes_nothing(lab: &Lab) -> Result<()> {
    let Planned {
        mut guest, today, ..
    } = planned(lab)?;
    limits_are_systemds(lab, &mut guest)?;
    let mut days = Vec::new();
    for number in [1, 2, 3, 8] {
        days.push(after(&mut guest, &today, number)?);
    }
    let [first, second, third, ahead] = &days[..] else {
        unreachable!("four days");
    };
    set_clock(&mut guest, &format!("{first} 02:29:50"))?;
    let run = run_by_timer(&mut guest, &format!("{first} 02:29"))?;
    is_for(&run, &format!("{first}T02:30:00Z"))?;
    let oldest = run["outcome"]["snapshot"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    told(&mut guest, "status", 0)?;
    if lab.broken {
        // After each run somebody says that the clock is right, without a look at it.
        let line = "[Service]\\nExecStart=\\nExecStart=/usr/sbin/stillpoint plan run daily --due\\n\
                    ExecStart=/usr/sbin/stillpoint plan run daily --clock-is-right\\n";
        drop_in(&mut guest, SERVICE, line)?;
    }

    set_clock(&mut guest, &format!("{ahead} 03:00"))?;
    let run = run_by_timer(&mut guest, &format!("{ahead} 02:59"))?;
    stays(&mut guest, &oldest)?;
    is_for(&run, &format!("{ahead}T02:30:00Z"))?;
    let later = run["outcome"]["snapshot"].clone();
    let why = waits(&mut guest)?;
    lab.note(format!("a week ahead: {why}"));
    told(&mut guest, "status", 3)?;

    set_clock(&mut guest, &format!("{first} 09:00"))?;
    looks_again(&mut guest, &format!("{first} 09:15:30"))?;
    looks_again(&mut guest, &format!("{first} 09:30:30"))?;
    let last = told_of_plan(&mut guest)?["last"].clone();
    // A snapshot that says a time after now is told of with each one from here on.
    is_for_with(&last, &format!("{first}T02:30:00Z"), 3)?;
    let said = last["outcome"]["said"].as_str().unwrap_or_default();
    ensure!(said.contains("which is later than now"), "{last:#}");
    let all = snapshots(&mut guest)?;
    ensure!(all.len() == 3, "one more for the clock put back: {all:?}");
    waits(&mut guest)?;

    // Held back over a night: nothing runs, and nothing is made up for.
    told(&mut guest, "plan suspend daily", 0)?;
    looks_again(&mut guest, &format!("{second} 02:31"))?;
    ensure!(told_of_plan(&mut guest)?["state"] == "suspended");
    told(&mut guest, "status", 3)?;
    told(&mut guest, "plan resume daily", 0)?;
    looks_again(&mut guest, &format!("{second} 08:01"))?;
    ensure!(
        snapshots(&mut guest)?.len() == 3,
        "a night that was held back was made up for"
    );
    set_clock(&mut guest, &format!("{third} 02:29:50"))?;
    let run = run_by_timer(&mut guest, &format!("{third} 02:29"))?;
    is_for_with(&run, &format!("{third}T02:30:00Z"), 3)?;
    stays(&mut guest, &oldest)?;
    ensure!(snapshots(&mut guest)?.len() == 4);

    // Somebody has looked: the first snapshot has had its day.
    let run = told(&mut guest, "plan run daily --clock-is-right", 3)?;
    let newest = run["plans"][0]["snapshot"]["snapshot"].clone();
    let all = snapshots(&mut guest)?;
    ensure!(
        !all.contains(&oldest),
        "what is over its time stays: {all:?}"
    );
    ensure!(told_of_plan(&mut guest)?["held_since"].is_null());

    // By rules that count, too: what a clock that was ahead has taken is none of the newest.
    let rules = format!("prune --vault {VAULT} --keep-last 1 --dry-run");
    let judged = told(&mut guest, &rules, 0)?;
    for (snapshot, reason) in [(later, "from_later"), (newest, "last")] {
        let kept = judged["kept"].as_array().into_iter().flatten();
        let mut kept = kept.filter(|one| one["snapshot"] == snapshot);
        let why = kept.next().map(|one| one["why"].to_string());
        ensure!(
            why.is_some_and(|why| why.contains(&format!("\"reason\":\"{reason}\""))),
            "{snapshot} does not stay by {reason}: {judged:#}"
        );
    }
    guest.done();
    Ok(())
}

/// The snapshot is there.
fn stays(guest: &mut Machine, id: &str) -> Result<()> {
    let all = snapshots(guest)?;
    ensure!(all.iter().any(|one| one == id), "{id} was deleted: {all:?}");
    Ok(())
}

/// That nothing is deleted is told, with the reason.
fn waits(guest: &mut Machine) -> Result<String> {
    let plan = told_of_plan(guest)?;
    let prune = &plan["steps"][0];
    let said = prune["outcome"]["said"].as_str().unwrap_or_default();
    ensure!(
        prune["step"] == "prune" && said.contains("the clock has jumped"),
        "{plan:#}"
    );
    ensure!(!plan["held_since"].is_null(), "{plan:#}");
    Ok(said.to_owned())
}

/// What the page tells of the units is what systemd has made of them.
fn limits_are_systemds(lab: &Lab, guest: &mut Machine) -> Result<()> {
    let properties = "CPUWeight,IOWeight,TasksMax,MemoryMax,KillMode,LockPersonality,UMask";
    let service = guest.sh(&format!("systemctl show --property={properties} {SERVICE}"))?;
    for line in [
        "CPUWeight=50",
        "IOWeight=50",
        "TasksMax=512",
        "KillMode=mixed",
        "UMask=0077",
    ] {
        ensure!(
            service.lines().any(|one| one == line),
            "{line} is not in {service}"
        );
    }
    let most = service
        .lines()
        .find_map(|line| line.strip_prefix("MemoryMax="));
    let most: u64 = most.context("no MemoryMax")?.parse()?;
    let all: u64 = guest
        .sh("awk '/MemTotal/{print $2}' /proc/meminfo")?
        .parse()?;
    let part = most as f64 / (all as f64 * 1024.0);
    ensure!(
        (0.45..0.55).contains(&part),
        "MemoryMax is {part} of the memory"
    );
    let properties = "TimersCalendar,Persistent,AccuracyUSec";
    let timer = guest.sh(&format!("systemctl show --property={properties} {TIMER}"))?;
    for part in ["*:00/15:00 UTC", "Persistent=yes", "AccuracyUSec=1s"] {
        ensure!(timer.contains(part), "{part} is not in {timer}");
    }
    lab.note(format!(
        "{} {}",
        service.replace('\n', " "),
        timer.replace('\n', " ")
    ));
    Ok(())
}
