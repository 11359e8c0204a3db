//! Freezes under which a host could suffer: one that is held up, one of what everybody logs to, one
//! of a disk that is swapped to under memory pressure. What is not held up goes on in time.

use super::faults::filled;
use super::hardware::{count, mode};
use super::load::{Ledger, carry};
use crate::disk::Disk;
use crate::lab::{LONG, Lab, VAULT, good, new_vault, restore, stillpoint};
use crate::machine::Machine;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const PULSE: &str = include_str!("../pulse.py");

/// A disk whose filesystem, on `/srv/slow`, lies on a layer that answers each flush after so many
/// milliseconds.
fn slow_to_flush(guest: &mut Machine, disk: &Disk, milliseconds: u32) -> Result<()> {
    guest.plug(disk)?;
    let path = disk.path();
    guest.sh(&format!(
        "set -e; modprobe dm_delay; mkfs.ext4 -q -E lazy_itable_init=0 {path}; \
         dmsetup create held --table \"0 $(blockdev --getsz {path}) delay {path} 0 0 {path} 0 0 \
         {path} 0 {milliseconds}\"; \
         mkdir -p /srv/slow; mount /dev/mapper/held /srv/slow; echo here >/srv/slow/file"
    ))?;
    Ok(())
}

/// Starts to write on `/srv/data` and to note how long that ever takes.
fn pulse(guest: &mut Machine) -> Result<()> {
    carry(guest, PULSE, "/run/pulse.py")?;
    guest.sh(
        "systemd-run --quiet --unit=pulse python3 /run/pulse.py /srv/data /run/gap; \
         for i in $(seq 100); do [ -e /run/gap ] && exit; sleep 0.1; done; exit 1",
    )?;
    Ok(())
}

/// The longest wait so far, in milliseconds.
fn gap(guest: &mut Machine) -> Result<u64> {
    let text = guest.sh("systemctl is-active --quiet pulse && cat /run/gap")?;
    text.parse().with_context(|| format!("a number: {text:?}"))
}

/// A freeze that takes longer than it may: the deadline thaws all others in time, the run fails and
/// names it, nothing stays frozen. A device that answers nothing at all: nothing gets frozen.
pub fn a_freeze_that_is_held_up(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 500)?)?;
    let (slow, other) = (lab.blank("slow", 64)?, lab.blank("other", 64)?);
    filled(&mut guest, &other, 8)?;
    slow_to_flush(&mut guest, &slow, 4000)?;
    pulse(&mut guest)?;
    let disks = format!("{} {}", slow.path(), other.path());
    let allowed = if lab.broken { "30s" } else { "1s" };
    let line = format!("snapshot {disks} --max-freeze {allowed}");
    let (output, failed) = stillpoint(&mut guest, &line)?;
    let longest = gap(&mut guest)?;
    ensure!(output.code == 1, "{failed:#}");
    let said = failed["error"]["message"].as_str().unwrap_or_default();
    lab.note(format!(
        "held up: {said}; the other one stood for {longest} ms"
    ));
    ensure!(
        said.contains("deadline") && said.contains("/srv/slow"),
        "{failed:#}"
    );
    ensure!(
        (900..4000).contains(&longest),
        "the other one stood for {longest} ms"
    );
    ensure!(count(&mut guest)? == 0, "a part of it is visible");
    guest
        .sh("echo on >/srv/slow/on; echo on >/srv/data/on; sync -f /srv/data; sync -f /srv/slow")?;

    // It answers nothing, from before the run to its end.
    guest.sh("systemctl restart pulse; echo dirty >/srv/slow/dirty; \
         dmsetup suspend --nolockfs --noflush held")?;
    let begun = Instant::now();
    let (output, failed) = stillpoint(&mut guest, &line)?;
    let took = begun.elapsed();
    let longest = gap(&mut guest)?;
    ensure!(output.code == 1, "{failed:#}");
    let said = failed["error"]["message"].as_str().unwrap_or_default();
    lab.note(format!(
        "suspended: {said}, after {took:.0?}; the other one stood for {longest} ms"
    ));
    ensure!(said.contains("nothing is frozen"), "{failed:#}");
    ensure!(took < Duration::from_secs(300), "it took {took:?}");
    ensure!(longest < 1500, "the other one stood for {longest} ms");
    guest.sh(
        "set -e; dmsetup resume held; echo on >/srv/slow/again; sync -f /srv/slow; \
         dmsetup suspend held; dmsetup reload held --table \"$(dmsetup table held | \
         sed 's/ [0-9]*$/ 0/')\"; dmsetup resume held",
    )?;
    let taken = good(&mut guest, &format!("snapshot {disks}"))?;
    ensure!(mode(&taken, "slow")? == "full", "{taken:#}");
    good(&mut guest, "verify --all")?;
    guest.done();
    Ok(())
}

/// The journal, a talker, the record of a job and the output of its runner are on what is frozen
/// for seconds: nobody waits for anybody for ever, and all is written afterwards.
pub fn logs_on_what_is_frozen(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 500)?)?;
    let (slow, var) = (lab.blank("slow", 64)?, lab.blank("var", 160)?);
    filled(&mut guest, &var, 8)?;
    guest.sh(
        "set -e; mkdir -p /srv/data/log/journal /srv/data/stillpoint /var/lib/stillpoint; \
         mount --bind /srv/data/log /var/log; \
         mount --bind /srv/data/stillpoint /var/lib/stillpoint; \
         systemctl restart systemd-journald; journalctl --flush; \
         systemd-run --quiet --unit=talker sh -c 'while :; do echo talks; sleep 0.02; done'; \
         sleep 1; \
         ls /var/log/journal/*/system.journal",
    )?;
    slow_to_flush(&mut guest, &slow, 3000)?;
    let allowed = if lab.broken { "1s" } else { "20s" };
    let disks = format!("{} {} --max-freeze {allowed}", slow.path(), var.path());
    guest.sh("systemd-run --quiet --unit=watch sh -c \
         'while :; do cat /sys/kernel/rcu_expedited >>/run/expedited; sleep 0.05; done'")?;
    // By a service whose words go to the journal, its document to a file on the same disk.
    let service = format!(
        "systemd-run --quiet --wait --unit=runner -p StandardError=journal \
         -p StandardOutput=append:/var/log/runner.json /opt/stillpoint/stillpoint --verbose \
         --vault {VAULT} --json snapshot {disks}"
    );
    guest.attempt(&service, LONG)?.expect(0)?;
    let held = guest.sh(
        "python3 -c 'import json, sys; print(int(json.load(sys.stdin)[\"freeze_ms\"]))' \
         </var/log/runner.json",
    )?;
    let held: u64 = held
        .parse()
        .with_context(|| format!("a number: {held:?}"))?;
    ensure!((2500..20_000).contains(&held), "frozen for {held} ms");
    lab.note(format!(
        "by a service that logs to it: frozen for {held} ms"
    ));
    // For a part of the run only.
    let seen = guest.sh(
        "set -e; [ $(cat /sys/kernel/rcu_expedited) = 0 ]; systemctl stop watch; \
         echo $(grep -c 1 /run/expedited || true) $(grep -c 0 /run/expedited || true)",
    )?;
    let (on, off) = seen.split_once(' ').context("two numbers")?;
    lab.note(format!(
        "grace periods were expedited in {on} looks, and not in {off}"
    ));
    ensure!(on != "0" && off != "0", "{seen}");
    // As a job, whose record is on the same disk.
    good(&mut guest, &format!("snapshot {disks} --detach"))?;
    good(&mut guest, "job wait latest")?;
    let shown = good(&mut guest, "show latest")?;
    lab.note(format!("as a job: frozen for {} ms", shown["freeze_ms"]));
    ensure!(count(&mut guest)? == 2, "they are not both there");
    guest.sh(
        "set -e; systemctl is-active talker systemd-journald; logger -t after all is said; \
         journalctl --sync; journalctl -t after | grep -q 'all is said'; \
         journalctl -u runner | grep -q .; ls /var/lib/stillpoint/jobs | grep -q .; \
         echo on >/var/log/on; sync -f /var/log",
    )?;
    guest.done();
    Ok(())
}

/// A program that uses more memory than there is, and a disk that is swapped to.
pub fn memory_pressure(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 500)?)?;
    let (disk, copy) = (lab.blank("swapped", 900)?, lab.blank("swapped-copy", 900)?);
    guest.plug(&disk)?;
    guest.plug(&copy)?;
    let path = disk.path();
    guest.sh(&format!(
        "set -e; swapoff -a; sgdisk -n 1:0:+640M -t 1:8200 -n 2 {path} >/dev/null; udevadm settle; \
         mkswap -q {path}-part1; swapon {path}-part1; \
         mkfs.ext4 -q -E lazy_itable_init=0 {path}-part2; \
         mkdir -p /srv/data; mount {path}-part2 /srv/data"
    ))?;
    let ledger = Ledger::new("/srv/data/one", "/srv/data/two");
    ledger.start_with(&mut guest, "", "0.05")?;
    carry(&mut guest, HOG, "/run/hog.py")?;
    guest.sh_within(
        "systemd-run --quiet --unit=hog -p OOMScoreAdjust=1000 python3 /run/hog.py; \
         for i in $(seq 1000); do [ -e /run/full ] && exit; sleep 0.5; done; exit 1",
        LONG,
    )?;
    let all = if lab.broken { "--all-blocks" } else { "" };
    let mut id = String::new();
    let mut least = 0;
    for expected in ["full", "incremental"] {
        least = ledger.count(&mut guest)?;
        let taken = good(&mut guest, &format!("snapshot {path} {all}"))?;
        ensure!(mode(&taken, "swapped")? == expected, "{taken:#}");
        lab.note(format!("{expected}: frozen for {} ms", taken["freeze_ms"]));
        id = taken["snapshot"].as_str().context("no ID")?.to_owned();
        std::thread::sleep(Duration::from_secs(1));
    }
    let most = ledger.count(&mut guest)? + 1;
    let used =
        guest.sh("systemctl is-active --quiet hog; awk '/^\\/dev/ {print $4}' /proc/swaps")?;
    let (used, swaps) = (used.parse::<u64>()? >> 10, guest.sh("cat /run/rounds")?);
    lab.note(format!(
        "{used} MiB of swap in use; rounds of the program: {swaps}"
    ));
    ensure!(used > 100, "only {used} MiB of swap are in use");
    guest.sh("systemctl stop hog")?;
    ledger.stop(&mut guest)?;
    restore(&mut guest, &id, "swapped", &copy)?;
    crate::lab::partitions(&mut guest, &copy)?;
    guest.sh(&format!(
        "umount /srv/data; swapoff -a; mount {}-part2 /srv/data",
        copy.path()
    ))?;
    ledger.check(&mut guest, least, most)?;
    guest.done();
    Ok(())
}

/// Touches pages at random, of as much as there is memory, so that all others have none.
const HOG: &str = r#"
import mmap, random, time
total = int(open("/proc/meminfo").readline().split()[1]) * 1024
pages = total // (1 << 20) * 256
memory = mmap.mmap(-1, pages * 4096)
filling = random.randbytes(1 << 20)
for page in range(0, pages, 256):
    memory[page * 4096:(page + 256) * 4096] = filling
open("/run/full", "w").close()
rounds = 0
while True:
    for _ in range(100):
        page = random.randrange(pages)
        memory[page * 4096] = random.randrange(256)
    rounds += 1
    time.sleep(0.02)
    with open("/run/rounds", "w") as file:
        print(rounds, file=file)
"#;
