//! By the command line: passphrases out of files, of a command, of the configuration and of whoever
//! is at the terminal, and what is said where they are wrong.

use crate::cli::lab::{Lab, Run, finish};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A host with an encrypted vault, which the passphrase in the file "first" opens.
pub struct Scene {
    pub lab: Lab,
}

pub const PASSPHRASE: &str = "correct horse battery staple 4711";

impl Scene {
    pub fn new(test: &str) -> Option<Self> {
        let scene = Self {
            lab: Lab::new(test)?,
        };
        scene.file("first", PASSPHRASE);
        let (vault, first) = (scene.lab.at("vault"), scene.lab.at("first"));
        let args = ["init", &vault, "--encrypt", "--password-file", &first];
        let made = scene.lab.run(&args).expect(0);
        assert!(made.stdout.contains("encrypted"), "{made:?}");
        Some(scene)
    }

    /// A file that its owner alone can read.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.lab.path(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs it with the passphrase in this file; none is ever printed.
    pub fn run(&self, file: &str, args: &[&str]) -> Run {
        let mut command = self.lab.command(args);
        command.env("STILLPOINT_PASSWORD_FILE", self.lab.path(file));
        let run = finish(&mut command);
        assert!(!format!("{run:?}").contains("battery"), "{run:?}");
        run
    }

    /// IDs of the keys, the oldest first.
    fn keys(&self) -> Vec<String> {
        let listed = self.lab.json(&["key", "list"]);
        let keys = listed["keys"].as_array().unwrap().iter();
        keys.map(|key| key["key"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn a_key_comes_from_wherever_it_was_said_and_a_wrong_one_is_told_at_once() {
    let Some(scene) = Scene::new("sealed: sources") else {
        return;
    };
    let lab = &scene.lab;
    scene.run("first", &["list"]).expect(0);
    let first = lab.at("first");
    lab.run(&["list", "--password-file", &first]).expect(0);
    let say = format!("cat {first}");
    lab.run(&["list", "--password-command", &say]).expect(0);
    let none = lab.run(&["list"]).expect(5);
    assert!(none.stderr.contains("no key was given") && none.stderr.contains("--password-file"));
    scene.file("wrong", "wrong");
    let wrong = scene.run("wrong", &["list"]).expect(5);
    assert!(wrong.stderr.contains("does not open"), "{wrong:?}");
    let failing = lab.run(&["list", "--password-command", "exit 7"]).expect(2);
    assert!(failing.stderr.contains("exit status: 7"), "{failing:?}");
    lab.run(&[
        "list",
        "--password-command",
        "true",
        "--password-file",
        &first,
    ])
    .expect(2);
    // Others can read it.
    fs::set_permissions(&first, Permissions::from_mode(0o644)).unwrap();
    let open = scene.run("first", &["list"]).expect(2);
    assert!(open.stderr.contains("chmod 0600"), "{open:?}");
    fs::set_permissions(&first, Permissions::from_mode(0o600)).unwrap();
    // By the configuration.
    for line in [
        format!("password_file = {first:?}"),
        format!("password_command = {say:?}"),
    ] {
        let text = format!("[vaults.main]\nurl = {:?}\n{line}\n", lab.at("vault"));
        fs::create_dir_all(lab.path("etc")).unwrap();
        fs::write(lab.path("etc/config.toml"), text).unwrap();
        let args = ["list", "--vault", "main", "--config-dir", &lab.at("etc")];
        lab.run(&args).expect(0);
        // What comes before the file counts.
        let mut command = lab.command(&args);
        command.env("STILLPOINT_PASSWORD_FILE", lab.path("wrong"));
        finish(&mut command).expect(5);
    }
    // A vault that is not encrypted, and a key: nothing is written in the clear.
    lab.run(&["init", &lab.at("plain")]).expect(0);
    let plain = scene
        .run("first", &["list", "--vault", &lab.at("plain")])
        .expect(5);
    assert!(plain.stderr.contains("is not encrypted"), "{plain:?}");
    lab.run(&["init", &lab.at("other"), "--password-file", &first])
        .expect(2);
    let empty = lab.run(&["init", &lab.at("other"), "--encrypt"]).expect(5);
    assert!(empty.stderr.contains("was not given"), "{empty:?}");
    assert!(!lab.path("other").exists());
}

#[test]
fn keys_are_added_changed_taken_away_and_exported() {
    let Some(scene) = Scene::new("sealed: keys") else {
        return;
    };
    let lab = &scene.lab;
    let second = scene.file("second", "second");
    let third = scene.file("third", "third");
    let args = [
        "key",
        "add",
        "--new-password-file",
        &second,
        "--label",
        "office",
    ];
    scene.run("first", &args).expect(0);
    let listed = lab.run(&["key", "list"]).expect(0);
    assert!(listed.stdout.contains("office") && listed.stdout.contains("2 keys open"));
    scene.run("second", &["list"]).expect(0);
    let change = ["key", "change", "--new-password-file", &third];
    scene.run("second", &change).expect(0);
    scene.run("second", &["list"]).expect(5);
    scene.run("third", &["list"]).expect(0);
    let keys = scene.keys();
    scene.run("third", &["key", "remove", &keys[1]]).expect(2);
    scene.run("third", &["key", "remove", "nosuch"]).expect(1);
    // A writer's key is a file like any other, and makes no key.
    let writer = lab.at("writer");
    let export = ["key", "export", "--writer", &writer];
    let exported = scene.run("third", &export).expect(0);
    assert!(exported.stdout.contains("reads no data"), "{exported:?}");
    let mode = fs::metadata(&writer).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    scene.run("third", &export).expect(1);
    scene.run("writer", &["list"]).expect(0);
    for refused in [&["key", "add", "--new-password-file", &second][..], &change] {
        let refused = scene.run("writer", refused).expect(5);
        assert!(refused.stderr.contains("writer's key"), "{refused:?}");
    }
    scene.run("writer", &["key", "remove", &keys[0]]).expect(5);
    assert_eq!(scene.keys(), keys);
    scene
        .run("third", &["key", "remove", &keys[0][..24]])
        .expect(0);
    scene.run("first", &["list"]).expect(5);
    assert_eq!(scene.keys().len(), 1);
    // The one that is left is the one that is used.
    let last = scene.keys().remove(0);
    let refused = scene.run("third", &["key", "remove", &last]).expect(2);
    assert!(refused.stderr.contains("it stays"), "{refused:?}");
    // Carried without a key, and opened there.
    let to = lab.at("copy");
    lab.run(&["mirror", "--to", &to, "--init"]).expect(0);
    scene.run("third", &["list", "--vault", &to]).expect(0);
    lab.run(&["init", &lab.at("plain")]).expect(0);
    lab.run(&["key", "list", "--vault", &lab.at("plain")])
        .expect(5);
}

/// A key that was added after the first mirror opens the second copy, too.
#[test]
fn a_mirror_brings_what_was_added_to_a_copy_that_is_there() {
    let Some(scene) = Scene::new("sealed: a copy's keys") else {
        return;
    };
    let to = scene.lab.at("copy");
    scene
        .run("first", &["mirror", "--to", &to, "--init"])
        .expect(0);
    let second = scene.file("second", "second");
    let add = ["key", "add", "--new-password-file", &second];
    scene.run("first", &add).expect(0);
    let there = ["list", "--vault", &to];
    scene.run("second", &there).expect(5);
    scene.run("first", &["mirror", "--to", &to]).expect(0);
    scene.run("second", &there).expect(0);
}

/// Hosts have writers' keys: `verify` by them is who notices.
#[test]
fn verify_by_a_writer_tells_of_damaged_and_missing_keys() {
    let Some(scene) = Scene::new("sealed: verified keys") else {
        return;
    };
    let export = ["key", "export", "--writer", &scene.lab.at("writer")];
    scene.run("first", &export).expect(0);
    let verify = ["verify", "--all"];
    scene.run("writer", &verify).expect(0);
    let key = scene.lab.path("vault/keys").join(scene.keys().remove(0));
    fs::remove_file(&key).unwrap();
    fs::write(&key, "no key").unwrap();
    let bad = scene.run("writer", &verify).expect(4);
    assert!(bad.stdout.contains("opens the vault no more"), "{bad:?}");
    assert!(bad.stdout.contains("no key is left"), "{bad:?}");
}

/// Runs it on a terminal, and types an answer whenever a question stands there; returns what was to
/// be seen.
fn typed(lab: &Lab, args: &str, answers: &[(&str, &str)]) -> (i32, String) {
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_stillpoint"));
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]);
    command.env("STILLPOINT_VAULT", lab.path("vault"));
    command.env("STILLPOINT_RUN_DIR", lab.path("run"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let (mut seen, mut next) = (Vec::new(), answers.iter());
    let mut wanted = next.next();
    let mut one = [0; 256];
    while let Ok(count @ 1..) = screen.read(&mut one) {
        seen.extend_from_slice(&one[..count]);
        let text = String::from_utf8_lossy(&seen);
        if let Some((question, answer)) = wanted
            && text.contains(question)
        {
            // It is silent by then: what is typed before that is thrown away.
            std::thread::sleep(std::time::Duration::from_millis(500));
            writeln!(keys, "{answer}").unwrap();
            wanted = next.next();
        }
    }
    let code = child.wait().unwrap().code().unwrap();
    (code, String::from_utf8_lossy(&seen).into_owned())
}

#[test]
fn who_sits_at_a_terminal_is_asked_and_nothing_of_it_is_shown() {
    let Some(scene) = Scene::new("sealed: terminal") else {
        return;
    };
    let asked = [("passphrase of", PASSPHRASE)];
    let (code, seen) = typed(&scene.lab, "list", &asked);
    assert_eq!(code, 0, "{seen}");
    assert!(!seen.contains("battery"), "{seen}");
    let (code, seen) = typed(&scene.lab, "list", &[("passphrase of", "wrong one")]);
    assert!(
        code == 5 && seen.contains("does not open") && !seen.contains("wrong one"),
        "{seen}"
    );
    let file = scene.lab.at("first");
    let change = format!("key change --password-file {file}");
    let differ = [("new passphrase:", "one"), ("once more:", "two")];
    let (code, seen) = typed(&scene.lab, &change, &differ);
    assert!(code == 2 && seen.contains("differ"), "{seen}");
    let same = [("new passphrase:", "other"), ("once more:", "other")];
    let (code, seen) = typed(&scene.lab, &change, &same);
    assert_eq!(code, 0, "{seen}");
    scene.run("first", &["list"]).expect(5);
    let (code, seen) = typed(&scene.lab, "list", &[("passphrase of", "other")]);
    assert_eq!(code, 0, "{seen}");
}
