//! Hooks that do not qualify, each in its way: nothing of them is run, and the snapshot goes on.

use super::{Stage, status, warned};
use crate::cli::lab::tool;
use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Makes a good script at this path unfit; the words of the reason.
struct Case {
    name: &'static str,
    spoil: fn(&Path),
    words: &'static str,
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn aside(path: &Path) -> std::path::PathBuf {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).unwrap();
    aside
}

fn rewrite(path: &Path, change: fn(&str) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(&text)).unwrap();
}

const CASES: [Case; 17] = [
    Case {
        name: "a symbolic link",
        spoil: |path| symlink(aside(path), path).unwrap(),
        words: "symbolic link",
    },
    Case {
        name: "a named pipe",
        spoil: |path| {
            fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o700)).unwrap();
            mode(path, 0o700);
        },
        words: "named pipe",
    },
    Case {
        name: "a directory",
        spoil: |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            mode(path, 0o700);
        },
        words: "directory",
    },
    Case {
        name: "another user's",
        spoil: |path| std::os::unix::fs::chown(path, Some(1000), Some(0)).unwrap(),
        words: "owned by user 1000",
    },
    Case {
        name: "writable for the group",
        spoil: |path| mode(path, 0o720),
        words: "mode 0720, must be 0700",
    },
    Case {
        name: "readable for all",
        spoil: |path| mode(path, 0o755),
        words: "mode 0755, must be 0700",
    },
    Case {
        name: "not executable",
        spoil: |path| mode(path, 0o600),
        words: "mode 0600, must be 0700",
    },
    Case {
        name: "setuid",
        spoil: |path| mode(path, 0o4700),
        words: "mode 4700, must be 0700",
    },
    Case {
        name: "two links",
        spoil: |path| fs::hard_link(path, path.with_extension("second")).unwrap(),
        words: "2 links",
    },
    Case {
        name: "lines of Windows",
        spoil: |path| rewrite(path, |text| text.replace('\n', "\r\n")),
        words: "CR LF",
    },
    Case {
        name: "one line of Windows",
        spoil: |path| rewrite(path, |text| text.replace("}\n", "}\r\n")),
        words: "line 2 ends in CR LF",
    },
    Case {
        name: "longer than any script",
        spoil: |path| rewrite(path, |text| format!("{text}{}", " ".repeat(1 << 20))),
        words: "longer than 1 MiB",
    },
    Case {
        name: "an attacker's in a sticky folder",
        spoil: |path| {
            mode(path.parent().unwrap(), 0o1777);
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        },
        words: "owned by user 65534",
    },
    Case {
        name: "no first line",
        spoil: |path| rewrite(path, |text| text.replacen("#!", "# ", 1)),
        words: "does not begin with #!",
    },
    Case {
        name: "empty",
        spoil: |path| rewrite(path, |_| String::new()),
        words: "does not begin with #!",
    },
    Case {
        name: "in a folder of all",
        spoil: |path| mode(path.parent().unwrap(), 0o777),
        words: "others than root can rename",
    },
    Case {
        name: "not there",
        spoil: |path| fs::remove_file(path).unwrap(),
        words: "there is none",
    },
];

fn clear(folder: &Path) {
    mode(folder, 0o700);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        tool("rm", &["-rf", path.to_str().unwrap()]);
    }
}

#[test]
fn what_does_not_qualify_is_never_run() {
    let Some(stage) = Stage::new("what_does_not_qualify_is_never_run") else {
        return;
    };
    let paths = [("prescript", stage.pre()), ("postscript", stage.post())];
    for case in &CASES {
        for (which, path) in &paths {
            clear(&stage.lab.path("hooks"));
            stage.scripts("note pre", "note post");
            (case.spoil)(path);
            let said = format!("{} {which}", case.name);
            let document = stage.snapshot(&[]).expect(3).json();
            assert_eq!(document["level"], "filesystem", "{said}");
            assert!(warned(&document, case.words), "{said}: {document}");
            let expected = match case.name {
                "not there" => "absent",
                _ => "rejected",
            };
            assert_eq!(status(&document, which), expected, "{said}");
            assert_eq!(stage.noted(), Vec::<String>::new(), "{said}");
        }
    }
    stage.assert_sound();
}

/// Whoever has it open may change it between the look at it and the run.
#[test]
fn what_someone_may_still_write_to_is_never_run() {
    let Some(stage) = Stage::new("what_someone_may_still_write_to_is_never_run") else {
        return;
    };
    stage.scripts("note pre", "note post");
    let writer = fs::OpenOptions::new().append(true).open(stage.pre());
    let document = stage.snapshot(&[]).expect(3).json();
    assert_eq!(status(&document, "prescript"), "rejected");
    assert!(warned(&document, "open for writing"), "{document}");
    assert_eq!(stage.noted(), Vec::<String>::new());
    drop(writer);
    stage.snapshot(&[]).expect(0);
}

/// What serves a file that is mounted over a name could say of it what it likes.
#[test]
fn what_is_mounted_over_a_hook_is_never_run() {
    let Some(stage) = Stage::new("what_is_mounted_over_a_hook_is_never_run") else {
        return;
    };
    stage.scripts("note pre", "note post");
    let (pre, post) = (stage.pre(), stage.post());
    let bind = ["--bind", post.to_str().unwrap(), pre.to_str().unwrap()];
    tool("mount", &bind);
    let run = stage.snapshot(&[]);
    tool("umount", &[pre.to_str().unwrap()]);
    let document = run.expect(3).json();
    assert_eq!(status(&document, "prescript"), "rejected");
    assert!(warned(&document, "mounted over it"), "{document}");
}

#[test]
fn who_insists_on_hooks_gets_no_snapshot_without() {
    let Some(stage) = Stage::new("who_insists_on_hooks_gets_no_snapshot_without") else {
        return;
    };
    let document = stage.snapshot(&["--on-hook-failure", "fail"]);
    let document = document.expect(1).json();
    let message = document["error"]["message"].as_str().unwrap();
    let said = format!("prescript: there is none at {}", stage.pre().display());
    assert!(message.contains(&said), "{message}");
    assert_eq!(stage.snapshots(), 0);
}
