//! Another program in the place of this one: a whole one stands there at every moment.

use super::Host;
use crate::cli::lab::{PROGRAM, Run, finish, try_tool};
use crate::support::host::skipped;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder beside the program that was built, so that links to it can be made.
struct Bin {
    folder: TempDir,
    host: Host,
}

impl Bin {
    fn new(test: &str) -> Option<Self> {
        let host = Host::without_vault(test)?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let bin = Self { folder, host };
        bin.reset();
        Some(bin)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program as it was built.
    fn reset(&self) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path != self.at("other") {
                fs::remove_file(path).unwrap();
            }
        }
        fs::hard_link(PROGRAM, self.at("stillpoint")).unwrap();
    }

    /// One that says the same version, and is another.
    fn make_other(&self) -> String {
        fs::copy(PROGRAM, self.at("other")).unwrap();
        let mut file = File::options().append(true).open(self.at("other")).unwrap();
        file.write_all(b"more").unwrap();
        self.at("other").to_str().unwrap().into()
    }

    fn update(&self, prefix: &[&str], args: &[&str]) -> Run {
        let program = self.at("stillpoint");
        let mut all: Vec<&str> = prefix.to_vec();
        all.extend([program.to_str().unwrap(), "client", "update", "--json"]);
        all.extend(args);
        let like = self.host.command_with(&[], &[]);
        let mut command = std::process::Command::new(all[0]);
        command.args(&all[1..]).stdin(std::process::Stdio::null());
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        finish(&mut command)
    }

    /// What stands by the name of the program runs.
    fn runs(&self) -> bool {
        try_tool(self.at("stillpoint").to_str().unwrap(), &["--version"])
    }

    fn is(&self, name: &str, like: &str) -> bool {
        let length = |path: PathBuf| fs::metadata(path).map(|stat| stat.len()).ok();
        length(self.at(name)) == length(self.folder.path().join(like))
    }
}

#[test]
fn another_program_takes_the_place_of_this_one() {
    let Some(bin) = Bin::new("client: update") else {
        return;
    };
    let other = bin.make_other();
    let before = fs::metadata(PROGRAM).unwrap().len();
    let sum = crate::cli::lab::tool("sha256sum", &[&other]);
    let sum = sum.split_whitespace().next().unwrap().to_owned();
    let updated = bin
        .update(&[], &["--from", &other, "--sha256", &sum])
        .expect(0)
        .json();
    crate::cli::schema::check(&bin.host.lab, "client update", &updated);
    assert_eq!(
        (updated["sha256"].as_str(), updated["already"].as_bool()),
        (Some(&*sum), Some(false))
    );
    assert!(bin.runs() && bin.is("stillpoint", "other"));
    let kept = bin.at("stillpoint.before");
    assert_eq!(updated["before"], kept.to_str().unwrap());
    assert_eq!(fs::metadata(&kept).unwrap().len(), before);
    let again = bin.update(&[], &["--from", &other]).expect(0).json();
    crate::cli::schema::check(&bin.host.lab, "client update", &again);
    assert_eq!(again["already"], true);

    // What is none changes nothing.
    let script = bin.at("script");
    fs::write(&script, "#!/bin/sh\necho stillpoint 9.9.9\n").unwrap();
    let foreign = bin.at("foreign");
    fs::copy("/bin/true", &foreign).unwrap();
    let broken = bin.at("broken");
    let program = fs::read(PROGRAM).unwrap();
    fs::write(&broken, &program[..64]).unwrap();
    // Of another machine, which an emulator might run.
    let arm = bin.at("arm");
    let mut bytes = program.clone();
    bytes[18] = if bytes[18] == 183 { 62 } else { 183 };
    fs::write(&arm, &bytes).unwrap();
    // It was linked where glibc is later than here.
    let later = bin.at("later");
    fs::write(&later, of_a_later_glibc(program)).unwrap();
    for (from, options, code, told) in [
        (&script, &[][..], 2, "no program of Linux"),
        (&foreign, &[], 1, "does not say that it is stillpoint"),
        (&broken, &[], 1, "does not run here"),
        (&arm, &[], 2, "it is a program for"),
        (&later, &[], 1, "GLIBC_9.9"),
        (&bin.at("nowhere"), &[], 1, "nowhere"),
        (&bin.at("other"), &["--sha256", "00"], 2, "64 hexadecimal"),
    ] {
        fs::set_permissions(from, fs::Permissions::from_mode(0o755)).ok();
        let args = [&["--from", from.to_str().unwrap()], options].concat();
        let error = bin.update(&[], &args).expect(code).json();
        crate::cli::schema::check(&bin.host.lab, "error", &error);
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(bin.runs() && bin.is("stillpoint", "other"), "{told}");
        assert!(!bin.at("stillpoint.new").exists(), "{told}");
    }
}

/// The same program, which needs a glibc that nobody has.
fn of_a_later_glibc(mut program: Vec<u8>) -> Vec<u8> {
    let needed = b"\0GLIBC_2.";
    let at = program
        .windows(needed.len())
        .position(|part| part == needed);
    let number = at.expect("it is linked with glibc") + needed.len() - 2;
    program[number..number + 3].copy_from_slice(b"9.9");
    program
}

/// What was tried there could be exchanged before it is run.
#[test]
fn where_others_can_write_no_program_is_put() {
    let Some(bin) = Bin::new("client: update where others write") else {
        return;
    };
    let other = bin.make_other();
    let open = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(bin.folder.path(), mode).unwrap();
    };
    open(0o777);
    let error = bin.update(&[], &["--from", &other]).expect(2).json();
    assert!(
        error.to_string().contains("others can write to it"),
        "{error}"
    );
    assert!(!bin.is("stillpoint", "other") && bin.runs());
    assert!(!bin.at("stillpoint.new").exists());
    open(0o755);
    bin.update(&[], &["--from", &other]).expect(0);
    assert!(bin.is("stillpoint", "other"));
}

#[test]
fn one_that_a_package_manager_has_is_left_to_it() {
    let Some(bin) = Bin::new("client: update of a package") else {
        return;
    };
    let other = bin.make_other();
    // As a package has it, for this run alone.
    let script = format!(
        "mount --bind {} /usr/sbin && exec /usr/sbin/stillpoint client update --from {other} \
         --json",
        bin.folder.path().display()
    );
    let like = bin
        .host
        .command_with(&["unshare", "-m", "sh", "-c", &script], &[]);
    let mut command = like;
    let error = finish(&mut command).expect(5).json();
    assert!(error.to_string().contains("apt install"), "{error}");
    assert!(!bin.at("stillpoint.before").exists() && bin.runs());
}

#[test]
fn an_update_that_is_killed_leaves_a_whole_program() {
    let Some(bin) = Bin::new("client: update killed") else {
        return;
    };
    if !try_tool("strace", &["-qq", "-o", "/dev/null", "true"]) {
        return skipped("client: update killed", "strace cannot trace here");
    }
    let other = bin.make_other();
    let paths = [
        "stillpoint",
        "stillpoint.new",
        "stillpoint.before",
        "stillpoint.before.new",
    ];
    let paths = paths.map(|name| bin.at(name).to_str().unwrap().to_owned());
    let mut kills = 0;
    // strace counts each call by itself. Nearly all writes are of pieces of the copy, all alike.
    for call in ["rename", "linkat", "unlink", "fsync", "write"] {
        for number in 1.. {
            let inject = format!("inject={call}:signal=SIGKILL:when={number}");
            let trace = format!("trace={call}");
            let mut prefix = vec!["strace", "-qq", "-o", "/dev/null"];
            prefix.extend(["-e", &trace, "-e", &inject]);
            paths.iter().for_each(|path| prefix.extend(["-P", path]));
            let run = bin.update(&prefix, &["--from", &other]);
            assert!(bin.runs(), "{call} {number}: {run:?}");
            let was_killed = run.code == -9;
            match was_killed {
                true => kills += 1,
                false => drop(run.expect(0)),
            }
            // The same again.
            bin.update(&[], &["--from", &other]).expect(0);
            assert!(bin.is("stillpoint", "other"), "{call} {number}");
            bin.reset();
            if !was_killed || (call == "write" && number == 2) {
                break;
            }
        }
    }
    assert!(kills >= 6, "killed only {kills} times");
}
