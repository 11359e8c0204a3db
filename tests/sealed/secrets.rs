//! A real run with a passphrase: it stands in no output, argument, environment or dump, and nothing
//! but the read of its own file has it.

use super::by_command::{PASSPHRASE, Scene};
use super::holds;
use crate::cli::lab::{finish, noise, try_tool};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

/// What the disk holds, and nothing in the vault or on the host may show.
const SECRET: &[u8] = b"the secret text of a customer ";

/// While its application is held, the run's environment and arguments are looked at, and its memory
/// is dumped.
fn spy(scene: &Scene) -> String {
    let (lab, path) = (scene.lab.at(""), scene.lab.path("spy.sh"));
    let script = format!(
        "#!/bin/bash\nenv >{lab}env-of-hook\nfor one in /proc/[0-9]*; do\n\
         line=$(tr '\\0' ' ' 2>/dev/null <$one/cmdline) || continue\n\
         case $line in *stillpoint*snapshot*{lab}spy.sh*)\n\
         echo \"$line\" >>{lab}arguments; tr '\\0' '\\n' <$one/environ >>{lab}environments\n\
         command -v gcore >/dev/null && gcore -o {lab}core ${{one#/proc/}} >{lab}said 2>&1;;\n\
         esac\ndone\nexit 0\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_run_gives_its_passphrase_to_nobody() {
    let Some(scene) = Scene::new("sealed: a run gives its passphrase to nobody") else {
        return;
    };
    let lab = &scene.lab;
    let mut disk = lab.disk("disk", 64 << 20);
    let place = disk.mount("ext4");
    fs::write(place.join("file"), SECRET.repeat(50_000)).unwrap();
    fs::write(place.join("noise"), noise(4 << 20, 1)).unwrap();
    let spy = spy(&scene);
    let args = [
        "snapshot",
        &disk.device,
        "--level",
        "application",
        "--prescript",
        &spy,
        "--postscript",
        &spy,
        "--hook-timeout",
        "50s",
        "-v",
    ];
    let taken = scene.run("first", &args);
    assert!(taken.code == 0 || taken.code == 3, "{taken:?}");
    let read = |name: &str| fs::read(lab.path(name)).unwrap();
    assert!(holds(&read("arguments"), b"snapshot"));
    assert!(holds(&read("environments"), b"STILLPOINT_PASSWORD_FILE="));
    assert!(!holds(&read("env-of-hook"), b"STILLPOINT_PASSWORD"));
    let mut dumps = 0;
    for (path, _) in lab.files() {
        let name = path
            .strip_prefix(lab.dir.path())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if name == "first" || name == "disk" || name == "spy.sh" {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        assert!(
            !holds(&bytes, PASSPHRASE.as_bytes()),
            "the passphrase is in {name}"
        );
        if name.starts_with("core.") {
            dumps += 1;
            assert!(bytes.len() > 1 << 20, "{name} is no dump");
        } else {
            assert!(!holds(&bytes, SECRET), "what was backed up is in {name}");
        }
    }
    if try_tool("sh", &["-c", "command -v gcore >/dev/null"]) {
        assert!(dumps > 0, "{}", String::from_utf8_lossy(&read("said")));
    }
    // It can be read again, by who has the passphrase only.
    let image = lab.at("image");
    scene.run("first", &["restore", "latest", &image]).expect(0);
    assert!(holds(&read("image"), SECRET));
    fs::remove_file(&image).unwrap();
    let writer = lab.at("writer");
    scene
        .run("first", &["key", "export", "--writer", &writer])
        .expect(0);
    let refused = scene
        .run("writer", &["restore", "latest", &image])
        .expect(5);
    assert!(refused.stderr.contains("writer's key"), "{refused:?}");
    assert!(!lab.path("image").exists());
    let second = scene.run("writer", &["snapshot", &disk.device]);
    assert!(second.code == 0, "{second:?}");
    scene.run("writer", &["verify", "--all"]).expect(0);
    scene.run("first", &["verify", "--all"]).expect(0);
}

#[test]
fn the_system_sees_the_passphrase_in_one_read_only() {
    let Some(scene) = Scene::new("sealed: system calls") else {
        return;
    };
    if !try_tool("sh", &["-c", "command -v strace >/dev/null"]) {
        crate::support::host::skipped("sealed: system calls", "no strace here");
        return;
    }
    let trace = scene.lab.at("trace");
    let strace = ["strace", "-f", "-s", "65536", "-o", &trace];
    let mut command = scene.lab.command_with(&strace, &["list", "-v"]);
    command.env("STILLPOINT_PASSWORD_FILE", scene.lab.path("first"));
    finish(&mut command).expect(0);
    let trace = fs::read_to_string(trace).unwrap();
    let with: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains(PASSPHRASE))
        .collect();
    assert_eq!(with.len(), 1, "{with:?}");
    assert!(with[0].contains("read("), "{with:?}");
    assert!(
        trace.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"),
        "it can be dumped"
    );
    assert!(trace.contains("mlock("), "its memory is not locked");
}
