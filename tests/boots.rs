//! Machines that are booted from their vault: those that come up pass, those that never will fail
//! with their last words, and what is not the snapshot's fault proves nothing. The machines are
//! boot sectors: no kernel is needed.

pub mod sector;

use crate::mount::shot::Shot;
use crate::support::host::{noise, skipped};
use sector::{Act, Sector};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stillpoint::engine::{
    BootDiskBus, BootFirmware, BootOptions, DrillOptions, DrillReport, Silent, drill,
};
use stillpoint::format::{DrillOutcome, KeptDigest};
use stillpoint::model::Bytes;
use stillpoint::store::{FaultStore, ObjectName, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind, Result};

/// Longer than any of these machines needs, also on a host that is busy.
const LONG: Duration = Duration::from_secs(240);

/// Whether machines can be booted here; reports it when not.
pub fn can_boot(test: &str) -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        "no QEMU"
    } else {
        return true;
    };
    skipped(test, reason);
    false
}

/// A snapshot of a disk with this boot sector, and noise behind it.
fn shot_of(sector: &Sector) -> Shot {
    let mut disk = sector.bytes();
    disk.resize(1 << 20, 0);
    disk.extend(noise(3 << 20, 5));
    Shot::of(&disk)
}

struct Booted {
    report: DrillReport,
    folder: tempfile::TempDir,
}

impl Booted {
    fn of(shot: &Shot, timeout: Duration, change: impl FnOnce(&mut BootOptions)) -> Result<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut boot = BootOptions {
            firmware: None,
            bus: BootDiskBus::Virtio,
            memory: Bytes(128 << 20),
            accelerate: false,
            keep: folder.path().join("kept"),
            work: folder.path().into(),
            room: Bytes(64 << 20),
            rest: LONG,
        };
        change(&mut boot);
        let [snapshot] = shot.vault.snapshots().unwrap().try_into().unwrap();
        let manifest = shot.vault.manifest_hashed(&snapshot).unwrap();
        let options = DrillOptions {
            vault: &shot.vault,
            snapshot: &snapshot,
            manifest: &manifest,
            run_dir: shot.run_dir.path(),
            check: None,
            boot: Some(boot),
            timeout,
        };
        let report = drill(&options, &Silent)?;
        Ok(Self { report, folder })
    }

    fn usual(sector: &Sector) -> Self {
        Self::of(&shot_of(sector), LONG, |_| ()).unwrap()
    }

    /// What came of booting, and what was said of it.
    fn boots(&self) -> (DrillOutcome, &str) {
        self.step(" boots by ")
    }

    fn step(&self, words: &str) -> (DrillOutcome, &str) {
        let steps = &self.report.record.steps;
        let step = steps.iter().find(|step| step.what.contains(words));
        let step = step.unwrap_or_else(|| panic!("{words}: {steps:#?}"));
        (step.outcome, &step.said)
    }

    /// How it was seen that it is up.
    fn seen(&self) -> Option<[&str; 2]> {
        let up = self.report.record.boot.as_ref().unwrap().up.as_ref()?;
        Some([&up.seen, &up.on])
    }

    fn kept(&self) -> &Path {
        self.report.kept.as_ref().unwrap().as_ref().unwrap()
    }
}

#[test]
fn a_login_is_seen_on_the_console_and_on_the_screen() {
    if !can_boot("boots: a login") {
        return;
    }
    let serial = Booted::usual(&Sector::says("host login: ").on_serial());
    assert_eq!(
        serial.boots().0,
        DrillOutcome::Passed,
        "{:?}",
        serial.boots()
    );
    assert_eq!(serial.seen(), Some(["login", "serial"]));
    assert!(serial.report.record.is_whole());
    let boot = serial.report.record.boot.as_ref().unwrap();
    assert!(boot.emulator.starts_with("QEMU ") && !boot.accelerated);
    assert_eq!([&*boot.firmware, &*boot.machine], ["bios", "pc, virtio"]);
    // What is kept is what the record says.
    let console = fs::read(serial.kept().join("console.log")).unwrap();
    assert_eq!(boot.console, Some(KeptDigest::of(&console)));
    assert!(String::from_utf8(console).unwrap().contains("host login:"));
    let screen = fs::read(serial.kept().join("screen.png")).unwrap();
    assert_eq!(boot.screen, Some(KeptDigest::of(&screen)));
    assert!(screen.starts_with(b"\x89PNG"));
    // Nothing else is left behind.
    let left = fs::read_dir(serial.folder.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["kept"]);

    let screen = Booted::usual(&Sector::says("host login: ").on_screen());
    assert_eq!(
        screen.seen(),
        Some(["login", "screen"]),
        "{:?}",
        screen.boots()
    );
}

#[test]
fn every_bus_boots() {
    if !can_boot("boots: buses") {
        return;
    }
    let shot = shot_of(&Sector::says("host login: ").on_serial());
    for bus in [BootDiskBus::Scsi, BootDiskBus::Sata, BootDiskBus::Nvme] {
        let booted = Booted::of(&shot, LONG, |boot| boot.bus = bus).unwrap();
        assert_eq!(
            booted.boots().0,
            DrillOutcome::Passed,
            "{bus:?}: {:?}",
            booted.boots()
        );
    }
}

#[test]
fn a_machine_that_shows_nothing_answers_its_power_button() {
    if !can_boot("boots: a power button") {
        return;
    }
    let rests = |boot: &mut BootOptions| boot.rest = Duration::from_secs(3);
    let shot = shot_of(&Sector::says("").and_then(Act::AwaitButton));
    let booted = Booted::of(&shot, LONG, rests).unwrap();
    assert_eq!(
        booted.seen(),
        Some(["power_button", "acpi"]),
        "{:?}",
        booted.boots()
    );
    assert_eq!(booted.boots().0, DrillOutcome::Passed);
    // One that may have had another reason proves nothing.
    let shot = shot_of(&Sector::says("").and_then(Act::OffAtButton));
    let booted = Booted::of(&shot, LONG, rests).unwrap();
    assert_eq!(
        booted.boots().0,
        DrillOutcome::NotDone,
        "{:?}",
        booted.boots()
    );
    assert!(booted.boots().1.contains("unknown reason"));
    // One that does not, either, and has not failed.
    let shot = shot_of(&Sector::says(""));
    let booted = Booted::of(&shot, Duration::from_secs(15), rests).unwrap();
    assert_eq!(
        booted.boots().0,
        DrillOutcome::NotDone,
        "{:?}",
        booted.boots()
    );
    assert!(booted.report.record.failed().is_none());
}

#[test]
fn a_machine_that_never_comes_up_fails_with_its_last_words() {
    if !can_boot("boots: machines that fail") {
        return;
    }
    let emergency = "[ FAILED ] Failed to mount /srv.\r\nYou are in emergency mode. After";
    for (sector, words) in [
        (Sector::says("grub rescue> ").on_screen(), "grub rescue>"),
        (Sector::says(emergency).on_serial(), "Failed to mount /srv"),
        (
            Sector::says("b").and_then(Act::PowerOff),
            "powered itself off",
        ),
        (Sector::lost(), "No bootable device"),
    ] {
        let booted = Booted::usual(&sector);
        let (outcome, said) = booted.boots();
        assert_eq!(outcome, DrillOutcome::Failed, "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(booted.seen(), None);
        assert!(booted.kept().join("console.log").exists());
    }
}

#[test]
fn what_may_be_this_hosts_doing_is_no_failure() {
    if !can_boot("boots: what is no failure") {
        return;
    }
    let timer = "[ TIME ] Timed out waiting for device.\r\nYou are in emergency mode";
    for (sector, words) in [
        (
            Sector::says("a").and_then(Act::Reset),
            "reset itself 3 times",
        ),
        (
            Sector::says("error: out of memory.\r\ngrub> ").on_serial(),
            "--memory",
        ),
        (Sector::says(timer).on_serial(), "too slow"),
    ] {
        let booted = Booted::usual(&sector);
        let (outcome, said) = booted.boots();
        assert_eq!(outcome, DrillOutcome::NotDone, "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_vault_that_is_slow_makes_nothing_wrong() {
    if !can_boot("boots: a slow vault") {
        return;
    }
    let sector = Sector::says("grub rescue> ").on_serial();
    let mut shot = shot_of(&sector.and_then(Act::ReadBefore));
    let store = FaultStore::new(shot.store.clone(), move |operation| {
        if operation.name.to_string().starts_with("segments") {
            std::thread::sleep(Duration::from_secs(6));
        }
        Ok(())
    });
    shot.vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let booted = Booted::of(&shot, LONG, |_| ()).unwrap();
    let (outcome, said) = booted.boots();
    assert_eq!(outcome, DrillOutcome::NotDone, "{said}");
    assert!(said.contains("for one answer of the vault"), "{said}");
    assert!(said.contains("grub rescue"), "{said}");
}

#[test]
fn a_lost_loader_fails_by_uefi_too() {
    let firmware = [
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_CODE.fd",
    ];
    if !firmware.iter().any(|path| Path::new(path).exists()) {
        return skipped("boots: by UEFI", "no OVMF");
    }
    if !can_boot("boots: by UEFI") {
        return;
    }
    let shot = shot_of(&Sector::lost());
    let by_uefi = |boot: &mut BootOptions| boot.firmware = Some(BootFirmware::Uefi);
    let booted = Booted::of(&shot, LONG, by_uefi).unwrap();
    let (outcome, said) = booted.boots();
    assert_eq!(outcome, DrillOutcome::Failed, "{said}");
    assert!(said.contains("nothing that boots"), "{said}");
    assert_eq!(booted.report.record.boot.as_ref().unwrap().firmware, "uefi");
}

#[test]
fn what_a_machine_says_is_kept_as_it_may_be_printed() {
    if !can_boot("boots: a hostile console") {
        return;
    }
    let hostile = "\x1b]0;x\x07\x1b[2J\u{9b}31m\x08\x0e evil \u{202e}\r\nweb login:";
    let booted = Booted::usual(&Sector::says(hostile).on_serial());
    let (outcome, said) = booted.boots();
    assert_eq!(outcome, DrillOutcome::Passed, "{said}");
    let log = fs::read_to_string(booted.kept().join("console.log")).unwrap();
    assert!(log.contains("evil"), "{log:?}");
    let is_plain = |c: char| c == '\n' || (!c.is_control() && c != '\u{202e}');
    assert!(log.chars().all(is_plain), "{log:?}");
    assert!(said.chars().all(is_plain), "{said:?}");
}

fn segments(shot: &Shot) -> Vec<ObjectName> {
    let all = shot.store.list_all(&ObjectName::parse("segments").unwrap());
    all.unwrap().into_iter().map(|one| one.name).collect()
}

#[test]
fn damage_that_a_machine_meets_fails_whatever_it_says() {
    if !can_boot("boots: a damaged vault") {
        return;
    }
    let sector = Sector::says("host login: ").on_serial();
    let shot = shot_of(&sector.and_then(Act::ReadBefore));
    let booted = Booted::of(&shot, LONG, |_| ()).unwrap();
    assert!(booted.report.record.is_whole(), "{:?}", booted.boots());
    for name in segments(&shot) {
        shot.store.corrupt(&name, |bytes| {
            // The footer stays whole, and the first chunk, which has the boot sector.
            let end = bytes.len() - 192 - 48 * 128;
            bytes[8192..end].iter_mut().for_each(|byte| *byte ^= 0xff);
        });
    }
    let booted = Booted::of(&shot, LONG, |_| ()).unwrap();
    let (outcome, said) = booted.step("could be read");
    assert_eq!(outcome, DrillOutcome::Failed, "{said}");
    assert_eq!(booted.boots().0, DrillOutcome::Passed);
    assert!(booted.report.record.failed().is_some());
}

#[test]
fn a_vault_that_does_not_answer_makes_nothing_wrong() {
    if !can_boot("boots: a vault that fails") {
        return;
    }
    // It asks for a prompt that only those in need show, once it could not read.
    let sector = Sector::says("grub rescue> ").on_serial();
    let mut shot = shot_of(&sector.and_then(Act::ReadBefore));
    let mut first = true;
    let answers = std::sync::Mutex::new(move || std::mem::take(&mut first));
    let store = FaultStore::new(shot.store.clone(), move |operation| {
        let is_segment = operation.name.to_string().starts_with("segments");
        match is_segment && !(answers.lock().unwrap())() {
            true => Err(Error::new(ErrorKind::Io, "no route to host")),
            false => Ok(()),
        }
    });
    shot.vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let by_bios = |boot: &mut BootOptions| boot.firmware = Some(BootFirmware::Bios);
    let booted = Booted::of(&shot, LONG, by_bios).unwrap();
    let record = &booted.report.record;
    assert!(
        record.failed().is_none() && !record.is_whole(),
        "{record:#?}"
    );
    let (_, said) = booted.boots();
    assert!(
        said.contains("no route") && said.contains(" says after "),
        "{said}"
    );
}

#[test]
fn a_machine_that_writes_too_much_is_told_and_proves_nothing() {
    if !can_boot("boots: no room") {
        return;
    }
    let shot = shot_of(&Sector::says("").and_then(Act::Write));
    let before: Vec<_> = shot
        .store
        .list_all(&ObjectName::parse("segments").unwrap())
        .unwrap();
    let booted = Booted::of(&shot, LONG, |boot| boot.room = Bytes(512 << 10)).unwrap();
    let (outcome, said) = booted.boots();
    assert_eq!(outcome, DrillOutcome::NotDone, "{said}");
    assert!(said.contains("--room") && said.contains("512"), "{said}");
    let after = shot
        .store
        .list_all(&ObjectName::parse("segments").unwrap())
        .unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

#[test]
fn what_this_host_cannot_do_leaves_no_result() {
    if !can_boot("boots: a host that cannot") {
        return;
    }
    let shot = shot_of(&Sector::says("host login: ").on_serial());
    let refused = |change: &dyn Fn(&mut BootOptions)| {
        let error = Booted::of(&shot, LONG, |boot| change(boot)).err().unwrap();
        assert!(
            shot.store
                .list_all(&ObjectName::drills())
                .unwrap()
                .is_empty()
        );
        error
    };
    let error = refused(&|boot| boot.memory = Bytes(1 << 50));
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("of memory"), "{error}");
    let error = refused(&|boot| boot.work = PathBuf::from("/nowhere"));
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}
