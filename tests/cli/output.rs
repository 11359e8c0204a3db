//! What is said where: one document with `--json`, progress on stderr only, silence with `-q`, no
//! colours off a terminal, an example in every help.

use super::lab::{Lab, Run, noise};
use serde_json::Value;

const COMMANDS: [&str; 24] = [
    "init", "info", "disks", "doctor", "track", "snapshot", "list", "show", "diff", "verify",
    "restore", "mount", "unmount", "serve", "drill", "mirror", "repair", "delete", "prune", "keep",
    "lock", "recover", "gc", "thaw",
];

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

fn sorted<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys
}

#[test]
fn every_help_has_an_example() {
    let Some(lab) = Lab::new("cli: help") else {
        return;
    };
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let run = lab.run(&[command, flag]).expect(0);
            let example = format!("Example:\n  stillpoint {command}");
            assert!(
                run.stdout.contains(&example),
                "{command} {flag}: {}",
                run.stdout
            );
            assert_eq!(run.stderr, "");
        }
    }
    let all = lab.run(&["--help"]).expect(0).stdout;
    assert!(all.contains("Example:"));
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command}")), "{command}: {all}");
    }
}

#[test]
fn wrong_usage_is_one_document_too() {
    let Some(lab) = Lab::with_vault("cli: wrong usage") else {
        return;
    };
    let cases: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["snapshot"],
        &["snapshot", "--all", "vda"],
        &["snapshot", "vda", "--exclude", "vdb"],
        &["snapshot", "vda", "--max-freeze", "1h"],
        &["snapshot", "vda", "--max-freeze", "soon"],
        &["snapshot", "vda", "--level", "perfect"],
        &["snapshot", "vda", "--no-such-flag"],
        &["list", "-q", "-v"],
        &["verify"],
        &["verify", "--all", "--sample", "0%"],
        &["verify", "--all", "--sample", "5%", "--fast"],
        &["verify", "--against-disk", "--fast"],
        &["repair", "--from", ""],
        &["verify", "--all", "--sample", "much"],
        &["restore", "latest"],
        &["restore", "latest", ""],
        &["init", ""],
        &["mirror"],
        &["mirror", "--to", ""],
        &["delete"],
        &["prune"],
        &["prune", "--keep-last", "0"],
        &["prune", "--keep-within", "soon"],
        &["keep"],
        &["keep", "latest", "--for", "1d", "--hold", "x"],
        &["keep", "latest", "--until", "1999-01-01"],
        &["gc", "--grace", "59m"],
        &["gc", "--grace", "soon"],
        &["gc", "--max-rewrite", "1GiB"],
        &["track"],
        &["track", "begin"],
        &["--pin-name", "a/b", "disks"],
        &["--pin-name", "..", "track", "status"],
    ];
    for args in cases {
        let run = lab.run(args).expect(2);
        assert_eq!(run.stdout, "", "{args:?}");
        assert!(!run.stderr.is_empty(), "{args:?}");
        let with_json = [*args, &["--json"]].concat();
        let run = lab.run(&with_json).expect(2);
        assert_eq!(run.stderr, "", "{args:?}");
        let document = run.json();
        let error = &document["error"];
        assert_eq!(error["kind"], "usage", "{args:?}");
        for key in ["message", "hint"] {
            let text = error[key]
                .as_str()
                .unwrap_or_else(|| panic!("{args:?}: {document}"));
            let one = !text.contains('\n') && text.len() > 8 && !text.ends_with([':', '.']);
            assert!(one, "{args:?}: {text:?}");
        }
    }
}

const SNAPSHOT_KEYS: [&str; 9] = [
    "snapshot",
    "time",
    "host",
    "level",
    "requested_level",
    "freeze_ms",
    "warnings",
    "hooks",
    "disks",
];
const DISK_KEYS: [&str; 19] = [
    "disk",
    "device",
    "serial",
    "size_bytes",
    "level",
    "mode",
    "reason",
    "parent",
    "passes",
    "read_bytes",
    "changed_bytes",
    "stored_bytes",
    "resumed_bytes",
    "shared_bytes",
    "rewritten",
    "frozen_bytes",
    "free_skipped_bytes",
    "filesystems",
    "",
];

#[test]
fn documents_have_the_promised_keys() {
    let Some(lab) = Lab::with_vault("cli: documents") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    std::fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    let snapshot = lab.json(&["snapshot", &disk.device, "--tag", "why=test"]);
    // Keys are gained only: those of the contract, and those added since.
    let gained = ["kept", "tags", "left_out", "job", "requests", "looked"];
    assert_eq!(
        keys(&snapshot),
        sorted(&[&SNAPSHOT_KEYS[..], &gained].concat())
    );
    assert_eq!(keys(&snapshot["disks"][0]), sorted(&DISK_KEYS[..18]));
    let filesystem = &snapshot["disks"][0]["filesystems"][0];
    let expected = [
        "source",
        "target",
        "type",
        "frozen",
        "read_only",
        "mounts",
        "place",
    ];
    assert_eq!(keys(filesystem), sorted(&expected));
    assert_eq!(filesystem["frozen"], true);
    let hooks = ["held_ms", "postscript", "prescript"];
    assert_eq!(keys(&snapshot["hooks"]), hooks);
    assert_eq!(snapshot["hooks"]["prescript"]["status"], "not_run");
    assert_eq!(snapshot["level"], "filesystem");
    assert!(snapshot["freeze_ms"].as_f64().unwrap() > 0.0);
    let time = snapshot["time"].as_str().unwrap();
    assert!(
        time.len() == 24 && time.ends_with('Z') && time.contains('T'),
        "{time}"
    );
    assert_eq!(snapshot["disks"][0]["size_bytes"], 24 << 20);
    assert_eq!(snapshot["disks"][0]["mode"], "full");
    // Every other command answers with one document as well.
    let id = snapshot["snapshot"].as_str().unwrap();
    let target = lab.at("out");
    let commands: [&[&str]; 12] = [
        &["list"],
        &["ls", id],
        &["show", id],
        &["diff", id, "latest"],
        &["verify", "--all"],
        &["restore", id, &target],
        &["disks"],
        &["track", "status"],
        &["thaw"],
        &["keep", id],
        &["prune", "--keep-last", "1"],
        &["delete", id],
    ];
    for args in commands {
        assert!(lab.json(args).is_object(), "{args:?}");
    }
}

fn without_escapes(run: &Run) {
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    }
}

#[test]
fn answers_go_to_stdout_and_progress_to_stderr() {
    let Some(lab) = Lab::with_vault("cli: streams") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    disk.mount("ext4");
    let run = lab.run(&["snapshot", &disk.device, "-v"]).expect(0);
    without_escapes(&run);
    assert!(run.stderr.contains("cutting\n"), "{}", run.stderr);
    assert!(!run.stdout.contains("cutting"));
    let verdict = run.stdout.trim_end().lines().last().unwrap();
    assert!(verdict.starts_with("snapshot 01"), "{verdict}");
    let run = lab.run(&["snapshot", &disk.device, "-q"]).expect(0);
    assert_eq!(run.stderr, "");
    // The disk, what was asked of the vault, and the verdict.
    assert_eq!(
        run.stdout.lines().count(),
        3,
        "the answer alone: {}",
        run.stdout
    );
    let run = lab
        .run(&["snapshot", &disk.device, "-v", "--json"])
        .expect(0);
    assert!(run.json().is_object());
    without_escapes(&lab.run(&["snapshot", "no-such"]).expect(1));
    without_escapes(&lab.run(&["disks"]).expect(0));
    without_escapes(&lab.run(&["frobnicate"]).expect(2));
}
