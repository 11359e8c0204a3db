//! The disk below the vault: it loses what it had not been told to keep, or has bad sectors. What
//! was called done is whole, and what cannot be had is named.

use super::faults::{filled, snapshot_is_disk};
use super::hardware::count;
use crate::disk::{Disk, Fault};
use crate::lab::{Lab, VAULT, good, new_vault, stillpoint};
use crate::machine::Machine;
use crate::writelog::WriteLog;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::Path;

const LOGGED_MIB: u64 = 256;

/// The vault's disk has a volatile cache, and its power goes: at the end of each snapshot, and at
/// moments in between. It keeps what it was told to keep, and of the rest nothing, or a part.
pub fn a_volatile_cache_is_lost(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    let mut vault = lab.blank("vault", LOGGED_MIB)?;
    let log = lab.dir.join("vault.log");
    WriteLog::create(&log)?;
    vault.fault = Fault::Logged(log.clone());
    new_vault(&mut guest, &vault)?;
    let disk = lab.blank("data", 96)?;
    filled(&mut guest, &disk, 12)?;
    // How much was done when each snapshot was, the vault's making first.
    guest.sh("sync -f /vault")?;
    let mut ends = vec![noted(&mut guest, &log)?.len()];
    for _ in 0..3 {
        good(&mut guest, &format!("snapshot {}", disk.path()))?;
        ends.push(noted(&mut guest, &log)?.len());
        guest.sh(
            "dd if=/dev/urandom of=/srv/data/random bs=1M count=3 conv=fsync,notrunc 2>/dev/null",
        )?;
    }
    guest.sh("umount /vault")?;
    guest.unplug(&vault)?;

    let log = WriteLog::read(&log)?;
    let mut luck = luck();
    for (number, pair) in ends.windows(2).enumerate() {
        let &[begin, end] = pair else { continue };
        for quarter in 1..=4 {
            let moment = begin + (end - begin) * quarter / 4;
            let known = number + usize::from(quarter == 4);
            let mut kept = log.kept(moment);
            if lab.broken {
                // A disk that lies about what it keeps.
                kept = kept.min(begin + (end - begin) / 2);
            }
            // All that was not told to stay is gone; and then only a part of it.
            for lucky in [false, true] {
                let image = lab.dir.join(format!("lost-{number}-{quarter}-{lucky}.raw"));
                let disk = (image.as_path(), LOGGED_MIB << 20);
                log.replay(disk, (kept, moment), || lucky && luck())?;
                whole(&mut guest, &image, known).with_context(|| {
                    format!("cut at {moment} of {begin} to {end}, {kept} kept, lucky: {lucky}")
                })?;
                std::fs::remove_file(&image)?;
            }
        }
    }
    lab.note(format!(
        "{} writes and flushes; snapshots end at {ends:?}",
        log.len()
    ));
    guest.done();
    Ok(())
}

/// What is noted of the vault's disk, which stands still meanwhile.
fn noted(guest: &mut Machine, log: &Path) -> Result<WriteLog> {
    guest.monitor.ask("stop", json!({}))?;
    let read = WriteLog::read(log);
    guest.monitor.ask("cont", json!({}))?;
    read
}

/// Heads or tails, the same in each run.
fn luck() -> impl FnMut() -> bool {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state & 1 == 0
    }
}

/// The vault on such a disk has the snapshots that were done, one more at most, all of them whole.
fn whole(guest: &mut Machine, image: &Path, known: usize) -> Result<()> {
    let name = image.file_stem().and_then(|stem| stem.to_str());
    let disk = Disk::of(image, name.context("a name")?, crate::disk::Bus::Virtio);
    guest.plug(&disk)?;
    guest.sh(&format!("mount {} /vault", disk.path()))?;
    let now = count(guest)?;
    ensure!(
        now == known || now == known + 1,
        "{now} snapshots, {known} were done"
    );
    if now > 0 {
        good(guest, "verify --all")?;
    }
    guest.sh("umount /vault")?;
    guest.unplug(&disk)
}

/// Sectors of the vault's disk that cannot be written, then one that cannot be read.
pub fn bad_sectors_below_the_vault(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    let mut vault = lab.blank("vault", 300)?;
    new_vault(&mut guest, &vault)?;
    let (disk, copy) = (lab.blank("data", 96)?, lab.blank("copy", 96)?);
    filled(&mut guest, &disk, 30)?;
    guest.plug(&copy)?;
    let line = format!("snapshot {} --full", disk.path());
    good(&mut guest, &line)?;

    // One in each MiB that is free: whatever is written next meets some.
    let free = sectors(&guest.sh(&format!("umount /vault; {FREE} {}", vault.path()))?)?;
    let fault = if lab.broken {
        Fault::None
    } else {
        Fault::Unwritable(free)
    };
    exchange(&mut guest, &mut vault, fault)?;
    let (output, failed) = stillpoint(&mut guest, &line)?;
    ensure!(output.code == 1, "{failed:#}");
    let said = failed["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        said.contains(VAULT),
        "it does not name the vault: {failed:#}"
    );
    lab.note(format!("sectors that cannot be written: {said}"));
    ensure!(count(&mut guest)? == 1, "a part of it is visible");
    good(&mut guest, "verify --all")?;
    guest.sh("umount /vault")?;
    exchange(&mut guest, &mut vault, Fault::None)?;
    guest.sh("umount /srv/data")?;
    snapshot_is_disk(&mut guest, &disk, &copy)?;
    good(&mut guest, "verify --all")?;

    // In the middle of the largest object of the first snapshot's.
    let sector = guest.sh(&format!(
        "set -e; at=$(find {VAULT}/segments -type f -printf '%T@ %p\\n' | sort -n | \
         head -n 1 | cut -d' ' -f2); filefrag -b512 -v $at | \
         awk '$1 == \"0:\" {{sub(/\\.\\..*/, \"\", $4); print $4 + 2048}}'; \
         umount /vault"
    ))?;
    let sector: u64 = sector
        .parse()
        .with_context(|| format!("a sector: {sector:?}"))?;
    exchange(&mut guest, &mut vault, Fault::Unreadable(vec![sector]))?;
    let (output, verified) = stillpoint(&mut guest, "verify --all")?;
    ensure!(output.code == 4, "{verified:#}");
    // The first: IDs begin with the time.
    let list = good(&mut guest, "list")?;
    let snapshots = list["snapshots"].as_array().context("no list")?;
    let ids = snapshots.iter().filter_map(|one| one["snapshot"].as_str());
    let first = ids.min().context("no snapshot")?;
    let to = format!("restore {first} {} --disk data --yes", copy.path());
    let (output, refused) = stillpoint(&mut guest, &to)?;
    ensure!(output.code == 4, "{refused:#}");
    lab.note(format!(
        "one that cannot be read: {}",
        refused["error"]["message"]
    ));
    let (output, partly) = stillpoint(&mut guest, &format!("{to} --keep-going"))?;
    ensure!(output.code == 4, "{partly:#}");
    let lost = partly["damaged_bytes"]
        .as_u64()
        .context("no damaged_bytes")?;
    ensure!(
        (1..4 << 20).contains(&lost),
        "{lost} bytes are lost: {partly:#}"
    );
    guest.done();
    Ok(())
}

/// A sector within each MiB that is free on an ext4 of 1 or 4 KiB blocks.
const FREE: &str = "python3 -c '
import re, subprocess, sys
text = subprocess.run([\"dumpe2fs\", sys.argv[1]], capture_output=True, text=True).stdout
size = int(re.search(r\"Block size: *([0-9]+)\", text)[1]) // 512
for row in re.findall(r\"^  Free blocks: ([-0-9, ]+)$\", text, re.M):
    for part in row.split(\", \"):
        first, _, last = part.partition(\"-\")
        for block in range(int(first) + 2, int(last or first), (1 << 20) // 512 // size):
            print(block * size)
'";

fn sectors(text: &str) -> Result<Vec<u64>> {
    let all: Vec<u64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(all.len() > 20, "nothing is free: {text}");
    Ok(all)
}

/// Plugs the vault's disk in again, with or without a fault.
fn exchange(guest: &mut Machine, vault: &mut Disk, fault: Fault) -> Result<()> {
    guest.unplug(vault)?;
    vault.fault = fault;
    guest.plug(vault)?;
    guest.sh(&format!("mount {} /vault", vault.path()))?;
    Ok(())
}
