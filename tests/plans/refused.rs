//! What is wrong with a plan is told as a whole, and nothing is written or run.

use super::{HOUR, Scene};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_is_wrong_with_a_plan_is_told_as_a_whole() {
    let Some(scene) = Scene::new("plans: refused") else {
        return;
    };
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        let run = scene.run(&[&["plan", "create", "x"], args].concat());
        let said = run.stderr.clone();
        run.expect(code);
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!scene.lab.path("etc/plans.d/x.toml").exists());
    };
    let good = ["--start", "02:30", "--every", "1d"];
    refused(&[], 2, &["start: say when", "every: say how often"]);
    for every in ["0", "0h", "10000", "10000h", "60m"] {
        let told = ["every 1m to 59m, 1h to 23h, 1d to 6d or 1w to 4w"];
        refused(&["--start", "02:30", "--every", every], 2, &told);
    }
    let many = [
        "--start",
        "yesterday",
        "--every",
        "1d",
        "--zone",
        "Mars/North",
        "--level",
        "best",
        "--window",
        "x",
        "--jitter",
        "13h",
        "--retention",
        "11y",
    ];
    let told = [
        "start:",
        "zone:",
        "level:",
        "window:",
        "jitter:",
        "retention:",
        "x.toml",
    ];
    refused(&many, 2, &told);
    let gone = [&good[..], &["--disk", "no-such-disk"]].concat();
    refused(&gone, 1, &["no-such-disk", "the plan was not written"]);
    let excluded = [&good[..], &["--exclude", "no-such-disk"]].concat();
    refused(&excluded, 1, &["no-such-disk", "the plan was not written"]);
    let nowhere = [&good[..], &["--vault", "/no/such/vault"]].concat();
    refused(&nowhere, 2, &["/no/such/vault", "the plan was not written"]);
    let vault = scene.lab.at("vault");
    let itself = [&good[..], &["--mirror", &vault]].concat();
    refused(&itself, 2, &["are one place", "--mirror"]);
    for name in ["", "../x", "A", "a b", ".x", "-x"] {
        let run = scene.run(&["plan", "show", "--", name]).expect(2);
        assert!(run.stderr.contains("no name for a plan"), "{run:?}");
    }

    // Written by hand: an unknown key beside another fault, and one that others can write to.
    let text = "start = \"2026-12-01T02:30:00\"\nevery = \"1d\"\n";
    scene.write("good", text, HOUR);
    scene.write(
        "wrong",
        &format!("{text}evry = \"1d\"\npartial = \"yes\"\n"),
        HOUR,
    );
    scene.write("open", text, HOUR);
    let open = scene.lab.path("etc/plans.d/open.toml");
    fs::set_permissions(open, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(scene.lab.path("etc/plans.d/Not A Name.toml"), text).unwrap();
    let list = scene.checked("plan list", &["plan", "list"], 3);
    assert_eq!(list["plans"].as_array().unwrap().len(), 1);
    let unreadable = list["unreadable"].to_string();
    for word in [
        "wrong.toml",
        "evry: there is no such key",
        "partial: true or false",
        "open.toml",
        "Not A Name",
        "others than root can write to it",
    ] {
        assert!(unreadable.contains(word), "{word}: {unreadable}");
    }
    // Whoever can put plans there would have root run them.
    let folder = scene.lab.path("etc/plans.d");
    let open = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    open(0o777);
    for args in [&["plan", "run", "--due"][..], &["plan", "run", "good"]] {
        let run = scene.run(args).expect(2);
        assert!(
            run.stderr.contains("no plan there is run") && scene.snapshots().is_empty(),
            "{run:?}"
        );
    }
    open(0o755);
    // What is wrong runs nothing, and what runs all plans does not pass over it.
    let due = scene.run(&["plan", "run", "--due"]).expect(2);
    assert!(due.stdout.contains("plan wrong was NOT RUN"), "{due:?}");
    assert!(!due.stdout.contains("plan good"), "{due:?}");
    scene.checked("plan run", &["plan", "run", "--due"], 2);
}
