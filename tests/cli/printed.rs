//! Text from elsewhere: whatever a vault, a mount point, a hook, a configuration or a file's name
//! says, a terminal and a log are given words alone, and no line that is not the program's own.

use super::lab::{Disk, Lab, Run, noise, tool, try_tool};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stillpoint::format::{ObjectKind, Sealer};

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

/// A title for the window, a cleared screen, C1, text from right to left, a line of its own.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}\
                    \nforged: all is whole\r";
/// The same as it may stand in a file's name.
const EVIL_NAME: &str = "e\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2028}\nforged: all is whole\r";

/// The same without lines.
const TYPED: &str = "-\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2028}";

/// Nothing that was said is obeyed by a terminal or passes for a line of the program's.
#[track_caller]
fn assert_words(run: &Run) {
    for said in [&run.stdout, &run.stderr] {
        let harmful = |c: char| {
            (c.is_control() && !matches!(c, '\n' | '\t'))
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}')
        };
        assert!(!said.contains(harmful), "{run:?}");
        let forged = said.lines().any(|line| line.starts_with("forged"));
        assert!(!forged, "{said}");
    }
}

/// Every text of a document with evil at its end, but for what must keep its form.
fn poison(value: &mut Value) {
    match value {
        Value::String(text) => text.push_str(EVIL),
        Value::Array(values) => values.iter_mut().for_each(poison),
        Value::Object(keys) => {
            let formed = [
                "snapshot",
                "vault",
                "time",
                "started",
                "level",
                "requested_level",
                "mode",
                "parent",
                "status",
                "id",
                "host",
                "cut",
                "dedup",
            ];
            for (key, value) in keys {
                if !formed.contains(&key.as_str()) {
                    poison(value);
                }
            }
        }
        _ => {}
    }
}

fn only_file(folder: PathBuf) -> PathBuf {
    fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
}

/// Makes the lab's vault, of one snapshot, one of somebody who means harm.
fn poison_vault(lab: &Lab) {
    let path = only_file(only_file(lab.path("vault/snapshots")));
    let bytes = SEALER
        .open_object(ObjectKind::Manifest, None, &fs::read(&path).unwrap())
        .unwrap();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    manifest["warnings"] = json!(["w"]);
    manifest["tags"] = json!({format!("k{EVIL}"): "v"});
    let hook = json!({"status": "failed", "reason": "r", "output": "o", "took_us": 1});
    manifest["hooks"] = json!({"prescript": hook, "postscript": hook, "held_us": 2});
    manifest["disks"][0]["filesystems"] = json!([{"source": "s", "target": "/t", "type": "ext4",
        "frozen": true, "read_only": false}]);
    poison(&mut manifest);
    let bytes = SEALER
        .seal_object(ObjectKind::Manifest, manifest.to_string().as_bytes())
        .unwrap();
    fs::write(&path, bytes).unwrap();
    let id = manifest["snapshot"].as_str().unwrap();
    let keep = json!({"snapshot": id, "host": "h", "hold": EVIL, "time": "2026-01-01T00:00:00Z",
        "by": EVIL});
    let bytes = SEALER.seal_object(ObjectKind::Keep, keep.to_string().as_bytes());
    let folder = lab.path("vault/keeps").join(id);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(id), bytes.unwrap()).unwrap();
    let path = lab.path("vault/vault.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    file["vault"]["name"] = EVIL.into();
    file["vault"]["description"] = EVIL.into();
    let vault = file["vault"].to_string();
    let hash = blake3::hash(vault.as_bytes()).to_hex();
    fs::write(
        &path,
        format!("{{\"vault\":{vault},\"blake3\":\"{hash}\"}}\n"),
    )
    .unwrap();
}

#[test]
fn a_vault_from_elsewhere_gives_words_alone() {
    let Some(lab) = Lab::with_vault("a_vault_from_elsewhere_gives_words_alone") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    fs::write(&disk.device, noise(1 << 20, 1)).unwrap();
    lab.run(&["snapshot", &disk.device]).expect(0);
    poison_vault(&lab);
    let (image, other) = (lab.at("image"), lab.at("other"));
    let folder = lab.at("folder");
    fs::create_dir(&folder).unwrap();
    for (args, code) in [
        (vec!["list"], 0),
        (vec!["list", "-v"], 0),
        (vec!["show", "latest"], 0),
        (vec!["diff", "latest", "latest"], 0),
        (vec!["verify", "--all"], 0),
        (vec!["restore", "latest", &image], 0),
        (vec!["restore", "latest", &folder], 0),
        (vec!["restore", "latest", &other, "--disk", "nosuch"], 1),
        (vec!["disks"], 0),
        (vec!["snapshot", &disk.device, "-v"], 0),
        (vec!["job", "list"], 0),
        (vec!["job", "status", "latest"], 0),
        (vec!["keep", "latest", "--hold", EVIL], 2),
        (vec!["prune", "--keep-last", "1", "--dry-run"], 0),
        (vec!["delete", "latest"], 0),
    ] {
        let mut run = lab.run(&args);
        assert_words(&run);
        assert_eq!(run.code == 0, code == 0, "{run:?}");
        if args[0] == "list" || args[0] == "show" {
            run = lab.run(&[&args[..], &["--json"]].concat()).expect(0);
            assert_words(&run);
            let document = run.json();
            let snapshot = document["snapshots"].get(0).unwrap_or(&document);
            // Programs are given what it is.
            assert_eq!(snapshot["tags"][format!("k{EVIL}")], format!("v{EVIL}"));
        }
    }
}

/// A disk in use, mounted where it does harm to say so.
struct Mounted {
    place: PathBuf,
    disk: Disk,
}

impl Mounted {
    fn new(lab: &Lab) -> Self {
        let disk = lab.disk("disk", 32 << 20);
        tool(
            "mkfs.ext4",
            &["-q", "-L", "l\u{1b}[31m\u{9b}", &disk.device],
        );
        let place = lab.path(EVIL_NAME);
        fs::create_dir(&place).unwrap();
        tool("mount", &[&disk.device, place.to_str().unwrap()]);
        Self { place, disk }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        try_tool("umount", &[self.place.to_str().unwrap()]);
    }
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/bash\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn this_host_gives_words_alone() {
    let Some(lab) = Lab::with_vault("this_host_gives_words_alone") else {
        return;
    };
    let mounted = Mounted::new(&lab);
    let disk = &mounted.disk.device;
    assert_words(&lab.run(&["disks"]).expect(0));
    let run = lab.run(&["disks", "--json"]).expect(0);
    assert_words(&run);
    let target = mounted.place.to_str().unwrap();
    let all = run.json();
    let mut filesystems = all["disks"].as_array().unwrap().iter();
    let of_disk = |one: &Value| {
        let all = one["filesystems"].as_array().unwrap();
        all.iter().any(|filesystem| filesystem["target"] == target)
    };
    assert!(filesystems.any(of_disk), "{all}");
    assert_words(&lab.run(&["doctor", "--freeze-test", disk]));

    // What hooks say, on the terminal, in the log and in the record of a job.
    let hooks = lab.path("hooks");
    fs::create_dir(&hooks).unwrap();
    fs::set_permissions(&hooks, fs::Permissions::from_mode(0o700)).unwrap();
    let (pre, post) = (hooks.join("pre.sh"), hooks.join("post.sh"));
    script(&pre, r"printf '\033]0;x\007a\tb\r\n\302\2331m\n'; exit 3");
    script(&post, r"printf '\033[2Jdone\342\200\256\n'");
    let pre = format!("--prescript={}", pre.display());
    let post = format!("--postscript={}", post.display());
    let args = ["snapshot", disk, "--level", "application", &pre, &post];
    assert_words(&lab.run(&args).expect(3));
    let begun = lab
        .run(&[&args[..], &["--detach", "--json"]].concat())
        .expect(0);
    let begun = begun.json();
    let job = begun["job"].as_str().unwrap();
    for args in [
        ["job", "wait", job],
        ["job", "status", job],
        ["job", "logs", job],
        ["job", "list", "--all"],
    ] {
        let run = lab.run(&args);
        assert_words(&run);
        assert_words(&lab.run(&[&args[..], &["--json"]].concat()));
        let said = run.stdout.contains("]0;x");
        assert_eq!(said, args[1] == "logs", "{run:?}");
    }
    for file in fs::read_dir(lab.path("jobs")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let stdout = String::from_utf8(bytes).unwrap();
        let stderr = String::new();
        assert_words(&Run {
            code: 0,
            stdout,
            stderr,
        });
    }
}

#[test]
fn what_was_typed_gives_words_alone() {
    let Some(lab) = Lab::with_vault("what_was_typed_gives_words_alone") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    fs::write(&disk.device, noise(1 << 20, 1)).unwrap();
    lab.run(&["snapshot", &disk.device]).expect(0);
    let evil = lab.at(EVIL_NAME);
    let config = lab.at("config.toml");
    fs::write(&config, "\"k\\u001b[2J\\u009b\\nforged: all\" = 1\n").unwrap();
    let vault = lab.at(&format!("v{EVIL_NAME}"));
    for (args, code) in [
        (vec!["restore", "latest", &evil], 0),
        (vec!["restore", "latest", &evil], 1),
        (vec!["restore", "latest", &evil, "--disk", EVIL], 1),
        (vec!["show", EVIL], 1),
        (vec!["list", "--vault", &evil], 1),
        (vec!["list", "--tag", EVIL], 2),
        (vec!["snapshot", EVIL], 1),
        (vec!["snapshot", &disk.device, "--config", &config], 2),
        (vec!["snapshot", &disk.device, "--config", &evil], 1),
        (
            vec!["snapshot", &disk.device, "--tag", "a=\u{1b}\u{202e}b"],
            0,
        ),
        (vec!["list"], 0),
        (vec![TYPED], 2),
        (vec!["list", TYPED], 2),
        (vec!["init", &vault, "--description", EVIL], 0),
        (vec!["list", "--vault", &vault], 0),
        (vec!["job", "status", EVIL], 1),
        (vec!["schema", EVIL], 2),
    ] {
        for json in [&[][..], &["--json"]] {
            if !json.is_empty() && code == 0 && args[0] != "list" {
                continue;
            }
            let run = lab.run(&[&args[..], json].concat());
            assert_words(&run);
            assert_eq!(run.code == 0, code == 0, "{run:?}");
        }
    }
}
