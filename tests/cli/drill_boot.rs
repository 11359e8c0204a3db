//! Drills that boot, as their users meet them: what is told and kept, and that nothing of a machine
//! stays, however the drill ends.

use super::drill::{drilled, drills, outcome, script, told};
use super::lab::{Disk, LONG, Lab, code_of, wait};
use super::schema;
use crate::boots::can_boot;
use crate::boots::sector::{Act, Sector};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A snapshot of a disk that boots.
fn snapshot_of(lab: &Lab, sector: &Sector) -> Disk {
    let disk = lab.disk("disk", 4 << 20);
    let device = format!("/dev/{}", disk.name());
    let opened = OpenOptions::new().write(true).open(device).unwrap();
    opened.write_all_at(&sector.bytes(), 0).unwrap();
    opened.sync_all().unwrap();
    drop(opened);
    lab.run(&["snapshot", disk.name(), "--full"]).expect(0);
    disk
}

const MACHINE: [&str; 4] = ["--boot", "--no-kvm", "--memory", "128MiB"];

#[test]
fn a_machine_that_boots_is_told_and_kept() {
    if !can_boot("cli: a drill that boots") {
        return;
    }
    let Some(lab) = Lab::with_vault("cli: a drill that boots") else {
        return;
    };
    let sector = Sector::says("host login: ").on_serial();
    let disk = snapshot_of(&lab, &sector);
    let keep = lab.at("kept");
    let args = [&MACHINE[..], &["--keep", &keep]].concat();
    let (run, document) = drilled(&lab, &args, 0);
    schema::check(&lab, "drill", &document);
    assert_eq!(document["result"], "passed", "{document:#}");
    assert_eq!(outcome(&document, "boots by BIOS"), "passed");
    assert_eq!(
        document["boot"]["up"]["line"], "host login:",
        "{document:#}"
    );
    let folder = document["kept"].as_str().unwrap();
    assert!(folder.starts_with(&keep), "{run:?}");
    let found = fs::metadata(folder).unwrap();
    assert_eq!(found.mode() & 0o777, 0o700);
    let log = fs::read_to_string(format!("{folder}/console.log")).unwrap();
    let length = document["boot"]["console"]["length"].as_u64();
    assert_eq!(length, Some(log.len() as u64));
    for drilled in told(&lab) {
        assert_eq!(drilled["result"], "passed", "{drilled}");
        assert_eq!(drilled["booted"], true, "{drilled}");
    }
    let list = lab.run(&["list"]).expect(0).stdout;
    assert!(
        list.contains(": it has booted on ") && list.contains("(filesystems were not checked)"),
        "{list}"
    );

    // What is wrong with the question is said before anything is done.
    let count = drills(&lab).len();
    lab.run(&["drill", "latest", "--boot", "--check", "/x"])
        .expect(2);
    lab.run(&["drill", "latest", "--no-kvm"]).expect(2);
    lab.run(&["drill", "latest", "--boot", "--firmware", "coreboot"])
        .expect(2);
    let vault = lab.at("vault");
    let inside = [&MACHINE[..], &["--keep", &vault]].concat();
    let run = lab
        .run(&[&["drill", "latest"], &inside[..]].concat())
        .expect(2);
    assert!(run.stderr.contains("inside the vault"), "{run:?}");
    assert_eq!(drills(&lab).len(), count);
    drop(disk);
}

#[test]
fn a_check_and_a_boot_in_one_go_are_two_results() {
    if !can_boot("cli: a drill of both kinds") {
        return;
    }
    let Some(lab) = Lab::with_vault("cli: a drill of both kinds") else {
        return;
    };
    let disk = snapshot_of(&lab, &Sector::says("host login: ").on_serial());
    let check = script(&lab, "check.sh", "exit 0");
    let keep = lab.at("kept");
    let both = [&MACHINE[..], &["--keep", &keep, "--check", &check]].concat();
    // No filesystem is on it, so nothing is known of its files; it boots all the same.
    let (_, document) = drilled(&lab, &both, 3);
    schema::check(&lab, "drill", &document);
    assert_eq!(document["result"], "incomplete", "{document:#}");
    assert_eq!(outcome(&document, "check.sh"), "not_done");
    assert_eq!(outcome(&document, "boots by BIOS"), "passed");
    let steps = document["steps"].as_array().unwrap();
    // The files come first.
    let last = steps.last().unwrap()["what"].as_str().unwrap();
    assert!(last.contains("boots by"), "{document:#}");
    assert_eq!(document["check"], check.as_str());
    let objects = document["objects"].as_array().unwrap();
    assert_eq!((objects.len(), &document["object"]), (2, &objects[1]));
    assert_eq!(drills(&lab).len(), 2);
    let proven = |opened: &str, booted: &str| {
        for drilled in told(&lab) {
            let kinds = &drilled["kinds"];
            assert_eq!(kinds["opened"]["result"], opened, "{drilled}");
            assert_eq!(kinds["booted"]["result"], booted, "{drilled}");
        }
    };
    proven("incomplete", "passed");
    // A drill of the files alone takes nothing of that back.
    drilled(&lab, &[], 3);
    proven("incomplete", "passed");
    let list = lab.run(&["list"]).expect(0).stdout;
    let words = "not all could be tried, on ";
    assert!(
        list.contains(words) && list.contains("it has booted on "),
        "{list}"
    );
    // Nor does one of the machine alone hide that the files are not proven.
    let alone = [&MACHINE[..], &["--keep", &keep]].concat();
    drilled(&lab, &alone, 0);
    proven("incomplete", "passed");

    // What cannot be booted here is said before the files are opened, and nothing is put.
    let count = drills(&lab).len();
    let huge = both.iter().map(|word| match *word {
        "128MiB" => "1048576GiB",
        word => word,
    });
    let huge: Vec<&str> = ["drill", "latest"].into_iter().chain(huge).collect();
    let run = lab.run(&huge).expect(5);
    assert!(run.stderr.contains("of memory"), "{run:?}");
    assert_eq!(drills(&lab).len(), count);
    drop(disk);
}

/// The first process that this one has started.
fn child_of(pid: u32) -> Option<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn status_line(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// A drill that would go on for long, and its QEMU.
struct LongDrill {
    drill: Child,
    qemu: u32,
    until: Instant,
}

impl LongDrill {
    fn start(mut command: Command) -> Self {
        let quiet = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let drill = quiet.spawn().unwrap();
        let until = Instant::now() + LONG;
        // It is QEMU from its program's start on, and has another user by then.
        let qemu = loop {
            assert!(Instant::now() < until, "there is no QEMU");
            let is_one = |pid: &u32| {
                let name = status_line(*pid, "Name:");
                name.is_some_and(|name| name.starts_with("qemu"))
            };
            match child_of(drill.id()).filter(is_one) {
                Some(pid) => break pid,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Self { drill, qemu, until }
    }

    fn await_end_of_qemu(&self) {
        let is_there = || {
            let name = status_line(self.qemu, "Name:").unwrap_or_default();
            let state = status_line(self.qemu, "State:").unwrap_or_default();
            name.starts_with("qemu") && !state.starts_with('Z')
        };
        while is_there() {
            assert!(Instant::now() < self.until, "QEMU goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for LongDrill {
    fn drop(&mut self) {
        let _ = self.drill.kill();
        let _ = self.drill.wait();
    }
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[test]
fn nothing_of_a_machine_stays_however_the_drill_ends() {
    if !can_boot("cli: a drill that is killed") {
        return;
    }
    let Some(lab) = Lab::with_vault("cli: a drill that is killed") else {
        return;
    };
    let disk = snapshot_of(&lab, &Sector::says("").and_then(Act::Rest));
    let (keep, work) = (lab.at("kept"), lab.at("work"));
    fs::create_dir(&work).unwrap();
    let folders = [
        "--keep",
        &keep,
        "--work",
        &work,
        "--timeout",
        "10m",
        "--json",
    ];
    let args = [&["drill", "latest"], &MACHINE[..], &folders].concat();
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut long = LongDrill::start(lab.command(&args));
        let users = status_line(long.qemu, "Uid:").unwrap();
        let numbers = users.split_whitespace().map(|user| user.parse::<u32>());
        assert!(numbers.flatten().all(|user| user >= 61_184), "{users}");
        let none = "0000000000000000";
        assert_eq!(status_line(long.qemu, "CapEff:").unwrap(), none);
        assert_eq!(status_line(long.qemu, "NoNewPrivs:").unwrap(), "1");
        assert_eq!(status_line(long.qemu, "Groups:").unwrap(), "");
        let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", long.qemu));
        assert_eq!(score.unwrap().trim(), "1000");
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = fs::read_link(format!("/proc/{}/ns/net", long.qemu)).unwrap();
        assert_ne!(theirs, ours);

        send(long.drill.id(), signal);
        let status = wait(&mut long.drill, "the drill");
        if signal == Signal::SIGTERM {
            assert_eq!(code_of(status), 143);
        }
        long.await_end_of_qemu();
        assert!(fs::read_dir(&work).unwrap().next().is_none());
    }
    assert!(drills(&lab).is_empty());

    // One that dies by itself says nothing of the snapshot.
    let mut long = LongDrill::start(lab.command(&args));
    send(long.qemu, Signal::SIGKILL);
    let status = wait(&mut long.drill, "the drill");
    assert_eq!(code_of(status), 3);
    let mut said = String::new();
    let mut stdout = long.drill.stdout.take().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(outcome(&document, "boots by BIOS"), "not_done", "{said}");
    assert_eq!(document["result"], "incomplete", "{said}");
    assert!(said.contains("QEMU"), "{said}");
    drop(disk);
}
