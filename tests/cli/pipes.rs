//! Nobody listens, or nobody reads: the run is done all the same, with the right exit code.

use super::lab::{Lab, code_of, finish, noise, wait};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io::{PipeReader, PipeWriter, Write};
use std::process::{Command, Stdio};

/// A pipe that takes not one byte more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let blocking = fcntl(&writer, FcntlArg::F_GETFL).unwrap();
    let flags = OFlag::from_bits_retain(blocking) | OFlag::O_NONBLOCK;
    fcntl(&writer, FcntlArg::F_SETFL(flags)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(
        &writer,
        FcntlArg::F_SETFL(OFlag::from_bits_retain(blocking)),
    )
    .unwrap();
    (reader, writer)
}

fn code(command: &mut Command) -> i32 {
    let shown = format!("{command:?}");
    let mut child = command.spawn().unwrap();
    code_of(wait(&mut child, &shown))
}

#[test]
fn a_snapshot_is_made_whoever_listens() {
    let Some(lab) = Lab::with_vault("cli: pipes") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    std::fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    let args = ["snapshot", &disk.device, "-v", "--json"];
    // The output closed before it begins.
    let script = ["sh", "-c", "exec \"$@\" >&- 2>&- <&-", "sh"];
    finish(&mut lab.command_with(&script, &args)).expect(0);
    // Its reader gone.
    for which in ["stdout", "stderr", "both"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = lab.command(&args);
        let other = || Stdio::null();
        let broken = || Stdio::from(writer.try_clone().unwrap());
        command.stdout(if which == "stderr" { other() } else { broken() });
        command.stderr(if which == "stdout" { other() } else { broken() });
        assert_eq!(code(&mut command), 0, "{which}");
    }
    // A reader that does not read.
    let (_reader, writer) = full_pipe();
    let mut command = lab.command(&args);
    command
        .stdout(writer.try_clone().unwrap())
        .stderr(writer.try_clone().unwrap());
    assert_eq!(code(&mut command), 0);
    let list = lab.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 5);
    // Failures keep their codes too.
    for (args, expected) in [
        (&["snapshot", "no-such"][..], 1),
        (&["verify", "--all", "--detach"], 0),
    ] {
        let mut command = lab.command(args);
        command.stdout(writer.try_clone().unwrap());
        command.stderr(writer.try_clone().unwrap());
        assert_eq!(code(&mut command), expected);
    }
    lab.run(&["job", "wait", "latest"]).expect(0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for args in [
        &["list", "--json"][..],
        &["snapshot"],
        &["--help"],
        &["snapshot", "no-such"],
    ] {
        let mut command = lab.command(args);
        command
            .stdout(writer.try_clone().unwrap())
            .stderr(writer.try_clone().unwrap());
        let expected = lab.run(args).code;
        assert_eq!(code(&mut command), expected, "{args:?}");
    }
    lab.run(&["verify", "--all"]).expect(0);
}

/// The bytes of the disk would be written to nobody, and called restored.
#[test]
fn a_disk_is_not_restored_to_an_output_that_is_closed() {
    let Some(lab) = Lab::with_vault("cli: closed output") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let to = |redirection: &str| {
        let script = format!("exec \"$@\" {redirection}");
        let script = ["sh", "-c", &script, "sh"];
        finish(&mut lab.command_with(&script, &["restore", "latest", "-"]))
    };
    let run = to(">&-").expect(2);
    assert!(run.stderr.contains("standard output is closed"), "{run:?}");
    to(">/dev/null").expect(0);
}

/// Somebody will read a file, and take half a list for all of it.
#[test]
fn an_answer_that_is_cut_short_is_no_good_answer() {
    let Some(lab) = Lab::with_vault("cli: full output") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    lab.run(&["snapshot", &disk.device]).expect(0);
    for args in [
        &["list", "--json"][..],
        &["show", "latest"],
        &["snapshot", &disk.device],
    ] {
        let script = ["sh", "-c", "exec \"$@\" >/dev/full", "sh"];
        let run = finish(&mut lab.command_with(&script, args));
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        let said = run.stderr.lines().last().unwrap();
        assert!(said.contains("No space left"), "{run:?}");
    }
    let list = lab.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
    // A terminal that has gone is nobody.
    let gone = nix::pty::openpty(None, None).unwrap();
    drop(gone.master);
    let mut command = lab.command(&["list", "--json"]);
    command.stdout(gone.slave).stderr(Stdio::null());
    assert_eq!(code(&mut command), 0);
}
