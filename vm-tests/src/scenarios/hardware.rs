//! What only real hardware does, or an administrator with it: disks that come and go, commands past
//! the block layer, filesystems that others cannot see or nobody can freeze.

use super::load::Ledger;
use crate::disk::{Bus, Disk, Fault, difference};
use crate::lab::{LONG, Lab, VAULT, good, new_vault, partitions, restore};
use crate::machine::{COMMAND, Machine};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// The mode of a disk in a snapshot's document, by its serial number.
pub fn mode<'d>(document: &'d Value, name: &str) -> Result<&'d str> {
    let disks = document["disks"].as_array().context("no disks")?;
    let disk = disks.iter().find(|disk| disk["serial"] == name);
    let disk = disk.with_context(|| format!("no {name} in {document:#}"))?;
    disk["mode"].as_str().context("no mode")
}

/// How many snapshots the vault has.
pub fn count(guest: &mut Machine) -> Result<usize> {
    let list = good(guest, "list")?;
    let snapshots = list["snapshots"].as_array().context("no list")?;
    Ok(snapshots.len())
}

/// A disk comes in the middle of the day, and goes in the middle of a snapshot.
pub fn a_disk_comes_and_goes(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 900)?)?;
    let stays = Disk::blank(&lab.dir, "stays", 96, Bus::Scsi)?;
    let mut goes = Disk::blank(&lab.dir, "goes", 256, Bus::Scsi)?;
    // It takes its time, so that it goes in the middle.
    goes.fault = Fault::Slow(6 << 20);
    let all = "snapshot --all --exclude vda";
    guest.plug(&stays)?;
    guest.sh(&filesystem(&stays, "/srv/stays"))?;
    let first = good(&mut guest, all)?;
    ensure!(mode(&first, "stays")? == "full" && mode(&first, "goes").is_err());
    guest.plug(&goes)?;
    guest.sh(&filesystem(&goes, "/srv/goes"))?;
    let second = good(&mut guest, all)?;
    ensure!(mode(&second, "stays")? == "incremental" && mode(&second, "goes")? == "full");

    guest.sh("dd if=/dev/urandom of=/srv/goes/big bs=1M count=60 conv=fsync 2>&1")?;
    let job = guest.start_script(&format!(
        "STILLPOINT_VAULT={VAULT} stillpoint --json --quiet {all}"
    ))?;
    std::thread::sleep(Duration::from_secs(4));
    ensure!(
        guest.poll(job)?.is_none(),
        "it was over before the disk went"
    );
    if !lab.broken {
        guest.unplug(&goes)?;
    }
    let output = guest.wait_for(job, LONG)?;
    ensure!(output.code == 1, "{output:?}");
    lab.note(format!(
        "a disk pulled out: {}",
        output.json()?["error"]["message"]
    ));
    ensure!(count(&mut guest)? == 2, "a part of it is visible");
    guest.sh_within(
        "echo still >/srv/stays/written; sync -f /srv/stays",
        COMMAND,
    )?;
    let after = good(&mut guest, all)?;
    ensure!(mode(&after, "stays")? == "incremental" && mode(&after, "goes").is_err());
    good(&mut guest, "verify --all")?;
    guest.done();
    Ok(())
}

fn filesystem(disk: &Disk, place: &str) -> String {
    let path = disk.path();
    format!(
        "set -e; mkfs.ext4 -q -E lazy_itable_init=0 {path}; mkdir -p {place}; \
         mount {path} {place}; cp -a /usr/lib/udev {place}/"
    )
}

/// A command that the block layer does not see voids the proof: the disk is compared, and right.
pub fn commands_past_the_block_layer(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 400)?)?;
    let disk = Disk::blank(&lab.dir, "drive", 64, Bus::Scsi)?;
    let copy = Disk::blank(&lab.dir, "drive-copy", 64, Bus::Scsi)?;
    guest.plug(&disk)?;
    guest.plug(&copy)?;
    let path = disk.path();
    guest.sh(&format!(
        "dd if=/dev/urandom of={path} bs=1M count=20 oflag=direct 2>&1"
    ))?;
    let line = format!("snapshot {path}");
    good(&mut guest, &line)?;
    guest.sh(&format!(
        "dd if=/dev/urandom of={path} bs=1M count=1 oflag=direct 2>&1"
    ))?;
    let tracked = good(&mut guest, &line)?;
    ensure!(mode(&tracked, "drive")? == "incremental", "{tracked:#}");
    guest.sh(&format!(
        "dd if=/dev/urandom of=/run/raw bs=512 count=64 2>&1; \
         sg_dd if=/run/raw of={path} bs=512 count=64 seek=70000 {} 2>&1",
        if lab.broken { "" } else { "blk_sgio=1" }
    ))?;
    let compared = good(&mut guest, &line)?;
    ensure!(mode(&compared, "drive")? == "compare", "{compared:#}");
    lab.note(format!("after SG_IO: {}", compared["disks"][0]["reason"]));
    restore(&mut guest, "latest", "drive", &copy)?;
    let differs = difference(&disk.file, &copy.file)?;
    ensure!(differs.is_none(), "differs at {differs:?}");
    let again = good(&mut guest, &line)?;
    ensure!(mode(&again, "drive")? == "incremental", "{again:#}");
    guest.done();
    Ok(())
}

/// A filesystem that only a container sees is frozen with the others.
pub fn a_container_with_a_filesystem_of_its_own(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 700)?)?;
    let (disk, copy) = (lab.blank("inner", 320)?, lab.blank("inner-copy", 320)?);
    guest.plug(&disk)?;
    guest.plug(&copy)?;
    let ledger = Ledger::new("/srv/inner/one", "/srv/inner/two");
    let path = disk.path();
    guest.sh(&format!("mkfs.xfs -q {path}; mkdir -p /srv/inner"))?;
    ledger.start_within(
        &mut guest,
        &format!("unshare --mount sh -c 'mount {path} /srv/inner && exec \"$@\"' sh"),
    )?;
    let hidden = guest.sh("findmnt /srv/inner >/dev/null && echo seen || echo hidden")?;
    ensure!(hidden == "hidden", "it is mounted for all");
    let level = if lab.broken { "crash" } else { "filesystem" };
    let line = format!("snapshot {path} --level {level}");
    for expected in ["full", "incremental"] {
        std::thread::sleep(Duration::from_secs(2));
        let taken = good(&mut guest, &line)?;
        ensure!(mode(&taken, "inner")? == expected, "{taken:#}");
        let frozen = &taken["disks"][0]["filesystems"][0];
        ensure!(
            frozen["frozen"] == true && taken["level"] == "filesystem",
            "{taken:#}"
        );
        lab.note(format!("{expected}: frozen for {} ms", taken["freeze_ms"]));
    }
    ledger.stop(&mut guest)?;
    restore(&mut guest, "latest", "inner", &copy)?;
    guest.unplug(&disk)?;
    guest.sh(&format!("mount {} /srv/inner", copy.path()))?;
    ledger.check(&mut guest, 5, u64::MAX)?;
    guest.done();
    Ok(())
}

/// An ESP cannot be frozen: a cut in which it is written to does not count.
pub fn an_esp_that_is_written_to(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 700)?)?;
    let (disk, copy) = (lab.blank("boot", 400)?, lab.blank("boot-copy", 400)?);
    guest.plug(&disk)?;
    guest.plug(&copy)?;
    let path = disk.path();
    guest.sh(&format!(
        "set -e; sgdisk -n 1:0:+64M -t 1:ef00 -n 2 {path} >/dev/null; udevadm settle; \
         mkfs.vfat -F 32 {path}-part1 >/dev/null; mkfs.ext4 -q {path}-part2; \
         mkdir -p /srv/esp /srv/root; mount {path}-part1 /srv/esp; mount {path}-part2 /srv/root"
    ))?;
    let ledger = Ledger::new("/srv/root/one", "/srv/esp/two");
    // There are moments in which nothing is written, and they are not many.
    ledger.start_with(&mut guest, "", "0.7")?;
    let taken = good(&mut guest, &format!("snapshot {path}"))?;
    let frozen = taken["disks"][0]["filesystems"].to_string();
    ensure!(frozen.contains("vfat"), "{taken:#}");
    lab.note(format!(
        "an ESP in use: level {}, {} ms",
        taken["level"], taken["freeze_ms"]
    ));
    let most = ledger.count(&mut guest)? + 1;
    ledger.stop(&mut guest)?;
    let id = taken["snapshot"].as_str().context("no ID")?;
    restore(&mut guest, id, "boot", &copy)?;
    if lab.broken {
        guest.sh("echo one record more >>/srv/root/one/log; sync")?;
        good(&mut guest, &format!("snapshot {path}"))?;
        restore(&mut guest, "latest", "boot", &copy)?;
    }
    let copied = copy.path();
    partitions(&mut guest, &copy)?;
    guest.sh(&format!(
        "set -e; umount /srv/esp /srv/root; mount {copied}-part1 /srv/esp; \
         mount {copied}-part2 /srv/root"
    ))?;
    ledger.check(&mut guest, 5, most)?;
    guest.done();
    Ok(())
}
