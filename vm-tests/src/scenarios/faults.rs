//! What goes wrong: the power, a reboot, sectors that cannot be read, a disk that crawls, a freeze
//! that is held up. The vault must stay whole, nothing may stay frozen, and the next run works.

use super::hardware::{count, mode};
use super::load::Ledger;
use crate::disk::{Bus, Disk, Fault, difference};
use crate::lab::{Lab, VAULT, good, known_vault, new_vault, restore, stillpoint};
use crate::machine::Machine;
use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::time::{Duration, Instant};

/// A disk with a filesystem that is mounted on `/srv/data`, and what is on it.
pub fn filled(guest: &mut Machine, disk: &Disk, mib: u64) -> Result<()> {
    guest.plug(disk)?;
    let path = disk.path();
    guest.sh(&format!(
        "set -e; mkfs.ext4 -q -E lazy_itable_init=0 {path}; mkdir -p /srv/data; \
         mount {path} /srv/data; \
         dd if=/dev/urandom of=/srv/data/random bs=1M count={mib} conv=fsync 2>/dev/null"
    ))?;
    Ok(())
}

/// Starts the product in a guest and does not wait.
fn begin(guest: &mut Machine, line: &str) -> Result<()> {
    guest.start_script(&format!(
        "STILLPOINT_VAULT={VAULT} stillpoint --json --quiet {line}"
    ))?;
    Ok(())
}

/// The snapshot of the disk as it is now, mounted nowhere, is the disk.
pub fn snapshot_is_disk(guest: &mut Machine, disk: &Disk, copy: &Disk) -> Result<String> {
    let path = disk.path();
    let taken = good(guest, &format!("snapshot --all-blocks {path}"))?;
    restore(guest, "latest", &disk.name, copy)?;
    let differs = difference(&disk.file, &copy.file)?;
    ensure!(differs.is_none(), "{} differs at {differs:?}", disk.name);
    Ok(mode(&taken, &disk.name)?.to_owned())
}

/// The power goes at moments spread over a snapshot. After each, in a machine that knows nothing:
/// what was there is whole, nothing half-done is visible, and the next snapshot is right.
pub fn power_cuts_in_a_snapshot(lab: &Lab) -> Result<()> {
    let (vault, disk) = (lab.blank("vault", 900)?, lab.blank("data", 128)?);
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &vault)?;
    filled(&mut guest, &disk, 24)?;
    let path = disk.path();
    let begun = Instant::now();
    good(&mut guest, &format!("snapshot {path}"))?;
    let usual = begun.elapsed();
    let mut known = 1;
    guest.sh("sync -f /vault")?;
    for (number, part) in [0.1, 0.4, 0.7, 0.95].into_iter().enumerate() {
        guest.sh("dd if=/dev/urandom of=/srv/data/random bs=1M count=24 conv=fsync 2>/dev/null")?;
        begin(&mut guest, &format!("snapshot {path} --full"))?;
        std::thread::sleep(usual.mul_f64(part));
        guest.power_cut()?;
        guest = lab.guest(&format!("after-{number}"))?;
        known_vault(&mut guest, &vault)?;
        if lab.broken {
            guest.sh(&format!("rm $(find {VAULT}/segments -type f | head -n 1)"))?;
        }
        let now = count(&mut guest)?;
        ensure!(
            now == known || now == known + 1,
            "{now} snapshots after {known}"
        );
        lab.note(format!(
            "power cut at {:.0} % of {usual:.0?}: {now} snapshots",
            part * 100.0
        ));
        good(&mut guest, "verify --all")?;
        let copy = lab.blank(&format!("copy-{number}"), 128)?;
        guest.plug(&disk)?;
        guest.plug(&copy)?;
        let mode = snapshot_is_disk(&mut guest, &disk, &copy)?;
        ensure!(mode == "compare", "{mode} after a power cut");
        known = now + 1;
        ensure!(count(&mut guest)? == known);
        guest.sh(&format!(
            "mkdir -p /srv/data; mount {path} /srv/data; sync -f /vault"
        ))?;
    }
    guest.done();
    Ok(())
}

/// The power goes at moments spread over a restore: the disk says that it is not whole, and when it
/// is done again onto the same disk, it is right.
pub fn power_cuts_in_a_restore(lab: &Lab) -> Result<()> {
    let (vault, disk) = (lab.blank("vault", 500)?, lab.blank("data", 128)?);
    let (copy, untouched) = (lab.blank("copy", 128)?, lab.blank("untouched", 128)?);
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &vault)?;
    filled(&mut guest, &disk, 60)?;
    guest.sh("umount /srv/data")?;
    good(&mut guest, &format!("snapshot {}", disk.path()))?;
    guest.plug(&copy)?;
    let line = format!("restore latest {} --disk data --yes", copy.path());
    let begun = Instant::now();
    good(&mut guest, &line)?;
    let usual = begun.elapsed();
    guest.sh("sync -f /vault")?;
    let mut met = 0;
    for (number, part) in [0.3, 0.5, 0.8].into_iter().enumerate() {
        guest.sh(&format!("blkdiscard -z {} 2>&1", copy.path()))?;
        begin(&mut guest, &line)?;
        std::thread::sleep(usual.mul_f64(part));
        guest.power_cut()?;
        let first = first_sector(&copy)?;
        let half_done = first.starts_with(b"STILLPOINT: THIS DISK IS NOT WHOLE.");
        met += usize::from(half_done);
        // Before it began, after it ended, or in words.
        ensure!(
            half_done
                || difference(&untouched.file, &copy.file)?.is_none()
                || difference(&disk.file, &copy.file)?.is_none(),
            "a restore that was cut off at {part} looks like a disk"
        );
        guest = lab.guest(&format!("after-{number}"))?;
        known_vault(&mut guest, &vault)?;
        guest.plug(&copy)?;
        good(&mut guest, "verify --all")?;
        if !lab.broken {
            good(&mut guest, &line)?;
        }
        let differs = difference(&disk.file, &copy.file)?;
        ensure!(differs.is_none(), "differs at {differs:?}");
    }
    lab.note(format!(
        "{met} of 3 cuts met a restore of {usual:.0?} at work"
    ));
    ensure!(met > 0, "no cut met a restore at work");
    guest.done();
    Ok(())
}

fn first_sector(disk: &Disk) -> Result<[u8; 512]> {
    let mut sector = [0; 512];
    std::fs::File::open(&disk.file)?.read_exact(&mut sector)?;
    Ok(sector)
}

/// Tracking does not outlive a reboot: the next snapshot compares, is right, and says why.
pub fn a_reboot(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    let (vault, disk, copy) = (
        lab.blank("vault", 500)?,
        lab.blank("data", 96)?,
        lab.blank("copy", 96)?,
    );
    new_vault(&mut guest, &vault)?;
    filled(&mut guest, &disk, 30)?;
    let path = disk.path();
    good(&mut guest, &format!("snapshot {path}"))?;
    guest.sh("sync")?;
    if lab.broken {
        guest.sh("umount /vault /srv/data")?;
    } else {
        guest.reset()?;
    }
    // Nobody tracks, and it is written to.
    guest.sh(&format!(
        "set -e; mount {} /vault; mount {path} /srv/data; \
         dd if=/dev/urandom of=/srv/data/random bs=1M count=9 conv=fsync,notrunc 2>/dev/null; \
         umount /srv/data",
        vault.path()
    ))?;
    guest.plug(&copy)?;
    let (output, taken) = stillpoint(&mut guest, &format!("snapshot --all-blocks {path}"))?;
    ensure!(
        output.code == 0 && mode(&taken, "data")? == "compare",
        "{taken:#}"
    );
    lab.note(format!("after a reboot: {}", taken["disks"][0]["reason"]));
    let again = snapshot_is_disk(&mut guest, &disk, &copy)?;
    ensure!(again == "incremental", "{again}");
    guest.done();
    Ok(())
}

/// A sector that cannot be read: said where, nothing is stored; a sound disk is snapshotted again.
pub fn a_sector_that_cannot_be_read(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 500)?)?;
    let mut disk = lab.blank("data", 96)?;
    filled(&mut guest, &disk, 60)?;
    let path = disk.path();
    guest.sh("umount /srv/data")?;
    let whole = good(&mut guest, &format!("snapshot {path}"))?;
    guest.unplug(&disk)?;
    // In the middle of the file.
    let sector = 40 << 11;
    if !lab.broken {
        disk.fault = Fault::Unreadable(vec![sector]);
    }
    guest.plug(&disk)?;
    let (output, failed) = stillpoint(&mut guest, &format!("snapshot {path} --full"))?;
    ensure!(output.code == 1, "{failed:#}");
    let said = failed["error"]["message"].as_str().context("no message")?;
    lab.note(format!("a bad sector: {said}"));
    ensure!(said.contains("vd"), "it does not name the disk: {said}");
    ensure!(count(&mut guest)? == 1, "a part of it is visible");
    guest.unplug(&disk)?;
    disk.fault = Fault::None;
    guest.plug(&disk)?;
    let copy = lab.blank("copy", 96)?;
    guest.plug(&copy)?;
    snapshot_is_disk(&mut guest, &disk, &copy)?;
    let id = whole["snapshot"].as_str().context("no ID")?;
    good(&mut guest, &format!("verify {id}"))?;
    guest.done();
    Ok(())
}

/// A disk of 5 MB/s that is written to: it ends, within the freeze that was allowed.
pub fn a_disk_that_crawls(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 500)?)?;
    let mut disk = Disk::blank(&lab.dir, "slow", 96, Bus::Virtio)?;
    filled(&mut guest, &disk, 30)?;
    guest.sh("umount /srv/data")?;
    guest.unplug(&disk)?;
    disk.fault = Fault::Slow(5_000_000);
    guest.plug(&disk)?;
    let path = disk.path();
    guest.sh(&format!("mount {path} /srv/data"))?;
    let ledger = Ledger::new("/srv/data/one", "/srv/data/two");
    ledger.start_with(&mut guest, "", "0.05")?;
    let begun = Instant::now();
    let (output, taken) = stillpoint(&mut guest, &format!("snapshot {path} --max-freeze 2s"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let most = ledger.count(&mut guest)? + 1;
    if output.code == 0 {
        let held = taken["freeze_ms"].as_f64().context("not frozen")?;
        ensure!(held < 3000.0, "frozen for {held} ms");
        lab.note(format!(
            "5 MB/s: frozen for {held:.0} ms, {seconds:.0} s in all"
        ));
        ledger.stop(&mut guest)?;
        let copy = lab.blank("slow-copy", 96)?;
        guest.plug(&copy)?;
        restore(&mut guest, "latest", "slow", &copy)?;
        guest.sh(&format!(
            "umount /srv/data; mount {} /srv/data",
            copy.path()
        ))?;
        ledger.check(&mut guest, 5, most)?;
    } else {
        ensure!(output.code == 1 && count(&mut guest)? == 0, "{taken:#}");
        lab.note(format!("5 MB/s: {}", taken["error"]["message"]));
        ledger.stop(&mut guest)?;
    }
    guest.sh("echo thawed >/srv/data/thawed; sync -f /srv/data")?;
    guest.done();
    Ok(())
}

/// Somebody decides by fanotify about every access and never answers: a copy waits for it in the
/// kernel. The run ends all the same, and all goes on as soon as the other lets go. (The copy was
/// not seen to hold up the freeze on 6.1 and 6.12; that is left to the tests of the guardian.)
pub fn a_holder_that_never_answers(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 500)?)?;
    let disk = lab.blank("data", 96)?;
    filled(&mut guest, &disk, 10)?;
    guest.sh(&format!(
        "set -e; echo {} | base64 -d >/run/holder.py; echo from >/srv/data/from; \
         systemd-run --quiet --unit=holder python3 /run/holder.py /srv/data/from; \
         for i in $(seq 100); do [ -e /run/holding ] && break; sleep 0.1; done; \
         [ -e /run/holding ]; \
         systemd-run --quiet --unit=copier \
         python3 /run/holder.py --copy /srv/data/from /srv/data/to; sleep 3",
        encoded(HOLDER)
    ))?;
    guest.sh("systemctl is-active copier")?;
    let begun = Instant::now();
    let line = format!("snapshot {} --max-freeze 1s", disk.path());
    let (output, said) = stillpoint(&mut guest, &line)?;
    let took = begun.elapsed();
    lab.note(format!(
        "a holder: exit {} after {:.1} s: {}",
        output.code,
        took.as_secs_f64(),
        said["error"]["message"]
    ));
    ensure!(took < Duration::from_secs(180), "it took {took:?}");
    ensure!(matches!(output.code, 0 | 1), "{said:#}");
    guest.sh("systemctl is-active copier")?;
    if lab.broken {
        guest.sh("fsfreeze --freeze /srv/data")?;
    }
    guest.sh("systemctl stop holder; systemctl stop copier; true")?;
    guest.sh("echo goes on >/srv/data/on; sync -f /srv/data")?;
    good(&mut guest, &format!("snapshot {}", disk.path()))?;
    guest.done();
    Ok(())
}

fn encoded(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

/// Asks to be asked, and never answers; or copies a file within the kernel.
const HOLDER: &str = r#"
import ctypes, os, sys, time
if sys.argv[1] == "--copy":
    source, target = os.open(sys.argv[2], os.O_RDONLY), os.open(sys.argv[3], os.O_RDWR | os.O_CREAT)
    print(os.copy_file_range(source, target, 4))
else:
    libc = ctypes.CDLL(None, use_errno=True)
    # FAN_CLASS_CONTENT, O_RDONLY
    group = libc.fanotify_init(0x04, 0)
    # FAN_MARK_ADD; FAN_ACCESS_PERM: an access to the file's content, not its opening
    made = libc.fanotify_mark(group, 0x01, ctypes.c_uint64(0x20000), -100, sys.argv[1].encode())
    assert group >= 0 and made == 0, os.strerror(ctypes.get_errno())
    open("/run/holding", "w").close()
    time.sleep(600)
"#;
