//! What helps next is said where something is refused: once, and in the order in which it is read.

use super::lab::{Lab, finish, wait};
use super::table::{Row, Stage, row};
use crate::support::host::skipped;
use std::fs::{self, File};
use std::io::Read;
use std::process::Stdio;

fn config(text: &'static str) -> impl Fn(&Stage) {
    move |stage| fs::write(stage.lab.path("config.toml"), text).unwrap()
}

const ROWS: &[Row] = &[
    row("a folder on a disk", "snapshot {dir}disk.mnt", 2),
    row("a file on a disk", "snapshot {disk} {dir}disk.mnt/file", 2),
    row(
        "no such configuration",
        "snapshot {disk} --config {dir}nope.toml",
        1,
    ),
    row(
        "an unknown key",
        "snapshot {disk} --config {dir}config.toml",
        2,
    )
    .after(|stage| {
        config("# hooks\n[hooks]\nprescripts = '/x'\n")(stage);
        Box::new(())
    }),
    row(
        "a hook's path that is not whole",
        "snapshot {disk} --level application --config {dir}config.toml",
        2,
    )
    .after(|stage| {
        config("[hooks]\nprescript = 'x.sh'\n")(stage);
        Box::new(())
    }),
    row("a disk that no snapshot has", "list --disk nosuch", 1),
    row("a host that no snapshot is of", "list --host nosuch", 1),
    row("no disk", "snapshot", 2),
    row(
        "an option that there is not",
        "snapshot {disk} --al-blocks",
        2,
    ),
    row("root's jobs", "NOBODY job list", 5),
];

#[test]
fn each_refusal_says_what_helps() {
    let Some(stage) = Stage::new("hints: each refusal") else {
        return;
    };
    stage.check_all(ROWS, "refused-hints");
    // What is set in the environment is no part of what a command takes.
    let run = stage.lab.run(&["restore", "--frobnicate"]).expect(2);
    assert!(!run.stderr.contains(&stage.lab.at("")), "{run:?}");
    assert!(!run.stderr.contains("--run-dir"), "{run:?}");
    assert_eq!(run.stderr.matches("--frobnicate").count(), 1, "{run:?}");
}

#[test]
fn on_a_terminal_the_hint_comes_after_what_happened() {
    let Some(lab) = Lab::with_vault("hints: terminal") else {
        return;
    };
    for args in [&["show", "01"][..], &["snapshot"]] {
        let Ok(pty) = nix::pty::openpty(None, None) else {
            return skipped("hints: terminal", "there are no pseudo-terminals");
        };
        let mut command = lab.command(args);
        command.stderr(Stdio::from(pty.slave)).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait(&mut child, "a refusal");
        // The end of a terminal that nobody else has open is an error.
        drop(command);
        let mut shown = Vec::new();
        let _ = File::from(pty.master).read_to_end(&mut shown);
        let shown = String::from_utf8(shown).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].starts_with("stillpoint: "),
            "{shown}"
        );
        assert!(lines[1].starts_with("hint: "), "{shown}");
        let elsewhere = lab.run(args).stderr;
        let lines: Vec<&str> = elsewhere.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].starts_with("hint: "),
            "{elsewhere}"
        );
    }
}

#[test]
fn options_of_every_command_stand_under_a_heading_of_their_own() {
    let Some(lab) = Lab::new("hints: help") else {
        return;
    };
    for args in [
        &["--help"][..],
        &["snapshot", "--help"],
        &["job", "list", "-h"],
    ] {
        let help = lab.run(args).expect(0).stdout;
        let (own, common) = help.split_once("Options of every command:\n").unwrap();
        assert!(
            own.contains("--help") && !own.contains("--vault <"),
            "{help}"
        );
        assert!(
            common.contains("--vault <") && common.contains("--json"),
            "{help}"
        );
    }
}

#[test]
fn hooks_may_be_named_from_where_one_stands_and_a_failure_is_told_once() {
    let Some(stage) = Stage::new("hints: hooks") else {
        return;
    };
    use std::os::unix::fs::PermissionsExt;
    let folder = stage.lab.path("hooks");
    fs::create_dir(&folder).unwrap();
    let script = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    };
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    script("pre.sh", "#!/bin/sh\necho flushed\n");
    script("post.sh", "#!/bin/sh\necho goes on\n");
    let run = |more: &[&str]| {
        let hooks = ["--level", "application", "--prescript", "pre.sh"];
        let args = [&["snapshot", stage.disk.name()], &hooks[..], more].concat();
        let mut command = stage.lab.command(&args);
        command.current_dir(&folder).arg("--postscript=./post.sh");
        finish(&mut command)
    };
    run(&[]).expect(0);
    let shown = stage.lab.run(&["show", "latest"]).expect(0).stdout;
    for words in [
        "hooks: applications were held for ",
        "\n  prescript: ran, ",
        "\n    flushed\n",
        "\n    goes on\n",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    script("pre.sh", "#!/bin/sh\nexit 7\n");
    let failed = run(&["--on-hook-failure", "fail"]).expect(1);
    let verdict = failed.stderr.lines().last().unwrap();
    assert_eq!(
        verdict.matches("prescript: failed").count(),
        1,
        "{failed:?}"
    );
    assert!(verdict.contains("prescript: failed"));
    run(&[]).expect(3);
    let shown = stage.lab.run(&["show", "latest"]).expect(0).stdout;
    assert!(shown.contains("\n  prescript: failed, "), "{shown}");
}
