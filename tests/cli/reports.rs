//! What commands report of disks, jobs, differences and hosts.

use super::lab::{Lab, noise, tool};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MIB: u64 = 1 << 20;

fn of_disk(document: &Value, name: &str) -> Value {
    let mut disks = document["disks"].as_array().unwrap().iter();
    disks.find(|disk| disk["disk"] == name).unwrap().clone()
}

/// The lines of a disk in the table.
fn lines_of(text: &str, name: &str) -> Vec<String> {
    let mut lines = text.lines().map(String::from);
    let head = lines.find(|line| line.split_whitespace().next() == Some(name));
    let below = lines.take_while(|line| line.starts_with("   "));
    head.into_iter().chain(below).collect()
}

#[test]
fn disks_are_told_with_what_is_theirs() {
    let Some(lab) = Lab::with_vault("told: disks") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 * MIB);
    crate::support::host::partition(Path::new(&disk.device), &[(2048, 2048)]);
    let taken = lab.json(&["snapshot", disk.name()]);
    // A copy has the same name in its table, and no snapshot.
    let copy = lab.disk("copy", 24 * MIB);
    lab.run(&["restore", "latest", &copy.device, "--yes"])
        .expect(0);
    let disks = lab.json(&["disks"]);
    assert_eq!(
        of_disk(&disks, disk.name())["last_snapshot"],
        taken["snapshot"]
    );
    assert_eq!(of_disk(&disks, copy.name())["last_snapshot"], Value::Null);

    // Mounts have lines of their own, and what lies in files is counted.
    let place = disk.mount("ext4");
    let inner = place.join("inner");
    File::create_new(&inner).unwrap().set_len(4 * MIB).unwrap();
    tool("mkfs.ext4", &["-q", inner.to_str().unwrap()]);
    let device = crate::support::host::attach(&inner, &[]);
    let mount = Unmounted(lab.at("inside"), device.to_str().unwrap().to_owned());
    fs::create_dir(&mount.0).unwrap();
    tool("mount", &[&mount.1, &mount.0]);
    let text = lab.run(&["disks"]).expect(0).stdout;
    let own = lines_of(&text, disk.name());
    let expected = [
        format!("   {} (ext4)", place.display()),
        "   1 filesystem in files on it".to_owned(),
    ];
    assert_eq!(own[1..], expected, "{text}");
    let name = mount.1.strip_prefix("/dev/").unwrap();
    let inside = lines_of(&text, name);
    assert_eq!(inside[1..], [format!("   {} (ext4)", mount.0)], "{text}");
    for line in text.lines() {
        assert_eq!(line.trim_end(), line);
    }
    let widest = own[0].chars().count().max(inside[0].chars().count());
    assert!(widest <= 80, "{text}");
    for text in [&["list"][..], &["job", "list"]] {
        let text = lab.run(text).expect(0).stdout;
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    }
}

/// A mount and its loop device, taken away when dropped.
struct Unmounted(String, String);

impl Drop for Unmounted {
    fn drop(&mut self) {
        super::lab::try_tool("umount", &[&self.0]);
        crate::support::host::detach(Path::new(&self.1));
    }
}

#[test]
fn jobs_are_told_with_disks_snapshot_and_error() {
    let Some(lab) = Lab::with_vault("told: jobs") else {
        return;
    };
    let disk = lab.disk("disk", MIB);
    let taken = lab.json(&["snapshot", disk.name(), "--tag", "a=b"]);
    let failed = [
        "restore",
        "latest",
        "/no/such/folder/x",
        "--disk",
        disk.name(),
    ];
    assert_ne!(lab.run(&failed).code, 0);
    lab.run(&["snapshot", disk.name(), "nosuch"]).expect(1);
    let jobs = lab.json(&["job", "list"])["jobs"].clone();
    assert_eq!(jobs[0]["disks"], serde_json::json!([disk.name()]));
    assert_eq!(jobs[0]["snapshot"], taken["snapshot"]);
    assert_eq!(jobs[0]["why"], Value::Null);
    assert_eq!(jobs[1]["disks"], serde_json::json!([disk.name()]));
    assert!(jobs[1]["why"].is_string(), "{jobs}");
    assert_eq!(jobs[2]["disks"], serde_json::json!([disk.name(), "nosuch"]));
    assert!(
        jobs[2]["why"].as_str().unwrap().contains("\"nosuch\""),
        "{jobs}"
    );
    let text = lab.run(&["job", "list"]).expect(0).stdout;
    let done = format!("{}: {}\n", disk.name(), taken["snapshot"].as_str().unwrap());
    assert!(text.contains(&done), "{text}");
    assert!(
        text.contains(&format!("{},nosuch: no disk here", disk.name())),
        "{text}"
    );
    assert!(text.contains("\n3 jobs in "), "{text}");
}

#[test]
fn differences_are_told_by_partition_and_forwards_only() {
    let Some(lab) = Lab::with_vault("told: differences") else {
        return;
    };
    let disk = lab.disk("disk", 24 * MIB);
    let device = Path::new(&disk.device);
    for (table, seed) in [("gpt", 0), ("mbr", 100)] {
        match table {
            "gpt" => crate::support::host::partition(device, &[(2048, 4096), (8192, 8192)]),
            _ => drop(disk.partition()),
        }
        let id = |document: Value| document["snapshot"].as_str().unwrap().to_owned();
        let older = id(lab.json(&["snapshot", disk.name(), "--full"]));
        let file = File::options().write(true).open(device).unwrap();
        for at in [1, 2, 4, 5] {
            file.write_all_at(&noise(65536, at + seed), at * MIB)
                .unwrap();
        }
        file.sync_all().unwrap();
        let newer = id(lab.json(&["snapshot", disk.name()]));
        let diff = lab.json(&["diff", &older, &newer]);
        let told = diff["partitions"].as_array().unwrap().iter();
        let told: Vec<_> = told
            .map(|one| {
                let number = |key: &str| one[key].as_u64().unwrap();
                (
                    number("partition"),
                    number("places"),
                    number("changed_bytes"),
                )
            })
            .collect();
        let expected = match table {
            "gpt" => vec![(1, 2, 2 * 65536), (2, 2, 2 * 65536)],
            _ => vec![(1, 4, 4 * 65536)],
        };
        assert_eq!(told, expected, "{diff}");
        let text = lab.run(&["diff", &older, &newer]).expect(0).stdout;
        assert!(
            text.contains("bytes 1048576..1114112, in partition 1\n"),
            "{text}"
        );
        assert!(text.contains("\npartition 1: "), "{text}");
        assert!(
            text.ends_with("\n4 places differ, 256.00 KiB in all\n"),
            "{text}"
        );
        let run = lab.run(&["diff", &newer, &older]).expect(2);
        let hint = format!("stillpoint diff {older} {newer}");
        assert!(
            run.stderr.contains(&hint) && run.stderr.contains("is newer than"),
            "{run:?}"
        );
        let map = lab.run(&["diff", &older, &newer, "--map"]).expect(0).stdout;
        let first = map.lines().nth(1).unwrap();
        // 24 MiB are 384 blocks, one a sign; a MiB is 16.
        let dots = |count: usize| ".".repeat(count);
        let expected = format!("0x0000000 {}#{}#{}", dots(16), dots(15), dots(31));
        assert_eq!(first, expected, "{map}");
        assert!(
            map.contains(&format!("\n0x0400000 #{}#", dots(15))),
            "{map}"
        );
        assert!(
            map.ends_with("\n4 places differ, 256.00 KiB in all\n"),
            "{map}"
        );
        let same = lab.run(&["diff", &newer, &newer, "--map"]).expect(0).stdout;
        assert_eq!(same.matches('#').count(), 1, "the legend alone: {same}");
    }
}

#[test]
fn a_list_may_be_of_the_newest_alone_or_since_a_time() {
    let Some(lab) = Lab::with_vault("told: a part of the list") else {
        return;
    };
    let disk = lab.disk("disk", MIB);
    let taken = [(); 3].map(|()| lab.json(&["snapshot", disk.name()]));
    let id = |one: usize| taken[one]["snapshot"].as_str().unwrap();
    let time = |one: usize| taken[one]["time"].as_str().unwrap();
    let listed = |args: &[&str]| {
        let list = lab.json(&[&["list"], args].concat());
        let all = list["snapshots"].as_array().unwrap().iter();
        all.map(|one| one["snapshot"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&["--last", "2"]), [id(2), id(1)]);
    assert_eq!(listed(&["--last", "9"]), [id(2), id(1), id(0)]);
    assert_eq!(listed(&["--since", time(1)]), [id(2), id(1)]);
    assert_eq!(listed(&["--since", time(0), "--last", "1"]), [id(2)]);
    assert_eq!(listed(&["--since", "2199-01-01"]), [""; 0]);
    assert_eq!(listed(&["--since", "1999-01-01"]).len(), 3);
    for wrong in [["--last", "0"], ["--last", "-1"], ["--since", "soon"]] {
        lab.run(&[&["list"][..], &wrong].concat()).expect(2);
    }
}

fn finding(doctor: &Value, name: &str) -> Value {
    let mut findings = doctor["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {doctor}")).clone()
}

#[test]
fn doctor_tells_what_a_freeze_would_meet_and_how_the_vault_is() {
    let Some(lab) = Lab::with_vault("told: doctor") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 * MIB);
    let place = disk.mount("ext4");
    let ask = |args: &[&str]| {
        let run = lab.run(&[&["doctor", "--json"], args].concat());
        assert!([0, 3].contains(&run.code), "{run:?}");
        run.json()
    };
    let name = format!("freezing {} (ext4)", place.display());
    let doctor = ask(&[]);
    let found = finding(&doctor, &name);
    assert_eq!(
        (&found["value"], &found["ok"]),
        (&"can be frozen".into(), &true.into())
    );
    assert_eq!(finding(&doctor, "vault writable")["value"], "yes");
    assert_eq!(
        finding(&doctor, "vault lies on")["value"],
        "no disk of this host"
    );
    let space = finding(&doctor, "vault space");
    assert!(
        space["value"].as_str().unwrap().ends_with(" free"),
        "{space}"
    );

    // Hidden, it cannot be frozen.
    let over = Over::mount(place.to_str().unwrap());
    let found = finding(&ask(&[]), &name);
    assert_eq!(found["ok"], false);
    assert!(found["value"].as_str().unwrap().starts_with("hidden"));
    drop(over);

    let on_disk = place.join("vault");
    let on_disk = on_disk.to_str().unwrap();
    lab.run(&["init", on_disk]).expect(0);
    let doctor = ask(&["--vault", on_disk]);
    let lies = finding(&doctor, "vault lies on");
    assert!(
        lies["value"].as_str().unwrap().starts_with(disk.name()),
        "{lies}"
    );
    assert_eq!(finding(&doctor, "vault space")["ok"], false);
    tool("mount", &["-o", "remount,ro", place.to_str().unwrap()]);
    let found = finding(&ask(&["--vault", on_disk]), "vault writable");
    assert_eq!(found["ok"], false);
    let gone = finding(&ask(&["--vault", &lab.at("none")]), "vault");
    assert_eq!(gone["ok"], false);
    assert!(gone["remedy"].is_string(), "{gone}");
}

/// Something mounted over a place, until it is dropped.
struct Over<'a>(&'a str);

impl<'a> Over<'a> {
    fn mount(place: &'a str) -> Self {
        tool("mount", &["-t", "tmpfs", "stillpoint-test", place]);
        Self(place)
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        super::lab::try_tool("umount", &[self.0]);
    }
}
