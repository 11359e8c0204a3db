//! Several disks at once: into a folder, or each onto a target of its own.

use super::qcow2::{has_qemu, same};
use crate::cli::lab::{Disk, Lab, noise, tool};

const MIB: usize = 1 << 20;

/// A snapshot of two disks of noise.
fn two_disks(lab: &Lab) -> (Disk, Disk) {
    let disks = ["one", "two"].map(|name| lab.disk(name, 6 << 20));
    for (n, disk) in (1..).zip(&disks) {
        std::fs::write(&disk.device, noise(3 * MIB + n as usize * 4096, n)).unwrap();
        tool("sync", &["-d", &disk.device]);
    }
    let [one, two] = disks;
    lab.run(&["snapshot", &one.device, &two.device]).expect(0);
    (one, two)
}

fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn into_an_empty_folder() {
    let Some(lab) = Lab::with_vault("restore: folder") else {
        return;
    };
    let (one, two) = two_disks(&lab);
    let names = |folder: &str| {
        let entries = std::fs::read_dir(lab.path(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let mut raw: Vec<String> = [&one, &two]
        .map(|disk| format!("{}.raw", disk.name()))
        .into();
    raw.sort();
    for folder in ["raw", "qcow2", "single", "full"] {
        std::fs::create_dir(lab.path(folder)).unwrap();
    }
    let answer = lab.json(&["restore", "latest", &lab.at("raw")]);
    assert_eq!(answer["disks"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(names("raw"), raw);
    for disk in [&one, &two] {
        let image = lab.at(&format!("raw/{}.raw", disk.name()));
        assert!(bytes(&image) == bytes(&disk.device));
    }
    if has_qemu("restore: folder of qcow2") {
        let folder = lab.at("qcow2");
        let run = lab.run(&["restore", "latest", &folder, "--format", "qcow2"]);
        let said = run.expect(0).stdout;
        assert!(said.contains("2 disks"), "{said}");
        for disk in [&one, &two] {
            let image = lab.at(&format!("qcow2/{}.qcow2", disk.name()));
            same(&image, &lab.at(&format!("raw/{}.raw", disk.name())));
        }
    }
    lab.run(&["restore", "latest", &lab.at("single"), "--disk", two.name()])
        .expect(0);
    assert_eq!(names("single"), [format!("{}.raw", two.name())]);
    std::fs::write(lab.path("full/x"), "x").unwrap();
    lab.run(&["restore", "latest", &lab.at("full")]).expect(1);
    assert_eq!(names("full"), ["x"]);
    // A file's name is not enough for two.
    let run = lab.run(&["restore", "latest", &lab.at("file")]).expect(2);
    assert!(run.stderr.contains("empty directory"), "{run:?}");
}

#[test]
fn onto_a_device_and_into_a_file() {
    let Some(lab) = Lab::with_vault("restore: map") else {
        return;
    };
    let (one, two) = two_disks(&lab);
    let device = lab.disk("device", 6 << 20);
    let file = lab.at("file");
    let map = format!(
        "{}={},/dev/{}={file}",
        one.name(),
        device.device,
        two.name()
    );
    let answer = lab.json(&["restore", "latest", "--map", &map]);
    let disks = answer["disks"].as_array().unwrap();
    assert_eq!(disks[0]["target"], device.device);
    assert_eq!(disks[0]["format"], "device");
    assert_eq!(disks[1]["target"], file);
    assert!(bytes(&device.device) == bytes(&one.device));
    assert!(bytes(&file) == bytes(&two.device));
}

#[test]
fn all_targets_are_checked_before_any_is_written() {
    let Some(lab) = Lab::with_vault("restore: map, refused") else {
        return;
    };
    let (one, two) = two_disks(&lab);
    let good = lab.disk("good", 6 << 20);
    let small = lab.disk("small", 5 << 20);
    let coarse = lab.disk_with("coarse", 6 << 20, &["--sector-size", "4096"]);
    let full = lab.disk("full", 6 << 20);
    std::fs::write(&full.device, noise(4096, 5)).unwrap();
    std::fs::write(lab.path("there"), "x").unwrap();
    let bad = [
        (small.device.clone(), 5),
        (coarse.device.clone(), 5),
        (full.device.clone(), 2),
        (good.device.clone(), 2),
        (one.device.clone(), 2),
        (lab.at("there"), 1),
        (lab.at("no/such"), 1),
        (lab.at("vault/x"), 2),
    ];
    for (target, code) in bad {
        let map = format!("{}={},{}={target}", one.name(), good.device, two.name());
        let run = lab.run(&["restore", "latest", "--map", &map]);
        assert_eq!(run.code, code, "{target}: {run:?}");
        assert!(
            bytes(&good.device).iter().all(|byte| *byte == 0),
            "{target}"
        );
    }
    let map = format!("{0}={1},{0}={2}", one.name(), good.device, lab.at("x"));
    let run = lab.run(&["restore", "latest", "--map", &map]).expect(2);
    assert!(run.stderr.contains("named twice"), "{run:?}");
    for map in ["", "x", "=x", "x="] {
        lab.run(&["restore", "latest", "--map", map]).expect(2);
    }
}

/// The vault's segment of the second disk is gone: the first is whole, and that is said.
#[test]
fn one_that_fails_says_what_of_the_others_is_whole() {
    let Some(lab) = Lab::with_vault("restore: map, failing") else {
        return;
    };
    let disks = ["one", "two", "three"].map(|name| lab.disk(name, 6 << 20));
    let mut known = Vec::new();
    for (n, disk) in (1..).zip(&disks) {
        std::fs::write(&disk.device, noise(3 * MIB, n)).unwrap();
        tool("sync", &["-d", &disk.device]);
    }
    let [one, two, three] = &disks;
    // Segments of their own, by snapshots of their own.
    for some in [&[one][..], &[one, two], &[one, two, three]] {
        let names: Vec<&str> = some.iter().map(|disk| disk.device.as_str()).collect();
        lab.run(&[&["snapshot"], &names[..]].concat()).expect(0);
        known.push(lab.vault_files());
    }
    let lost = known[1].iter().find(|(path, _)| {
        path.to_str().unwrap().contains("/segments/")
            && !known[0].iter().any(|(other, _)| other == path)
    });
    let lost = lost.unwrap().0.clone();
    std::fs::remove_file(&lost).unwrap();
    let targets = ["a", "b", "c"].map(|name| lab.disk(name, 6 << 20));
    let map: Vec<String> = disks
        .iter()
        .zip(&targets)
        .map(|(disk, target)| format!("{}={}", disk.name(), target.device))
        .collect();
    let run = lab
        .run(&["restore", "latest", "--map", &map.join(",")])
        .expect(4);
    let [a, b, c] = &targets;
    for words in [
        format!("whole: {} on {};", one.name(), a.device),
        format!("not begun: {} on {}:", three.name(), c.device),
        format!("cannot restore to {}; the target is not whole", b.device),
    ] {
        assert!(run.stderr.contains(&words), "{words}: {run:?}");
    }
    assert!(bytes(&a.device) == bytes(&one.device));
    assert!(bytes(&b.device).starts_with(b"STILLPOINT: THIS DISK IS NOT WHOLE."));
    assert!(bytes(&c.device).iter().all(|byte| *byte == 0));
    // What is not damaged can be had, in every format.
    let run = lab.run(&[
        "restore",
        "latest",
        "--map",
        &map.join(","),
        "--yes",
        "--keep-going",
    ]);
    let run = run.expect(4);
    assert!(run.stdout.contains("not be restored"), "{run:?}");
    assert!(bytes(&a.device) == bytes(&one.device) && bytes(&c.device) == bytes(&three.device));
    assert!(
        bytes(&b.device).iter().all(|byte| *byte == 0),
        "zeros for what is lost"
    );
    if has_qemu("restore: damaged qcow2") {
        for format in ["raw", "qcow2"] {
            std::fs::create_dir(lab.path(format)).unwrap();
            let folder = lab.at(format);
            let args = [
                "restore",
                "latest",
                &folder,
                "--format",
                format,
                "--keep-going",
            ];
            let answer = lab.run(&[&args[..], &["--json"]].concat()).expect(4).json();
            let damaged = answer["disks"][1]["damaged_bytes"].as_u64().unwrap();
            assert_eq!(damaged, 3 << 20, "{answer}");
        }
        for disk in &disks {
            let image = lab.at(&format!("qcow2/{}.qcow2", disk.name()));
            same(&image, &lab.at(&format!("raw/{}.raw", disk.name())));
        }
    }
}
