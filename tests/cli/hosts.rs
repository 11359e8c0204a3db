//! Hosts that lack something: no io_uring, no type information, no BPF filesystem, a run directory
//! that is not to be trusted. Each is made by a mount namespace or by strace for one run alone.

use super::lab::{Lab, Run, finish, is_frozen, noise, tool, try_tool};
use super::table::two_sentences;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

#[test]
fn without_io_uring_it_reads_with_threads() {
    let Some(lab) = Lab::with_vault("cli: no io_uring") else {
        return;
    };
    if !try_tool("strace", &["-V"]) {
        crate::support::host::skipped("cli: no io_uring", "needs strace");
        return;
    }
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    std::fs::write(place.join("file"), noise(3 << 20, 1)).unwrap();
    for errno in ["EPERM", "ENOSYS"] {
        let inject = format!("inject=io_uring_setup:error={errno}");
        let prefix = ["strace", "-f", "-qq", "-o", &lab.at("trace"), "-e"];
        let prefix = [&prefix[..], &["trace=io_uring_setup", "-e", &inject]].concat();
        let args = ["snapshot", &disk.device, "--full", "--json"];
        let run = finish(&mut lab.command_with(&prefix, &args)).expect(0);
        assert_eq!(run.json()["level"], "filesystem");
        let trace = std::fs::read_to_string(lab.path("trace")).unwrap();
        assert!(
            trace.contains("(INJECTED)"),
            "io_uring was not asked for: {trace}"
        );
        let doctor = finish(&mut lab.command_with(&prefix, &["doctor"]));
        assert!(doctor.stdout.contains("threads"), "{doctor:?}");
    }
    lab.run(&["restore", "latest", &lab.at("out")]).expect(0);
    lab.run(&["verify", "--all"]).expect(0);
}

/// Each step that waits for a grace period: epochs before the cut, the start of a guardian, the
/// freeze, its end. The switch is off after each.
#[test]
fn grace_periods_are_expedited_where_they_are_waited_for_and_nowhere_else() {
    let Some(lab) = Lab::with_vault("cli: grace periods") else {
        return;
    };
    if !try_tool("strace", &["-V"]) {
        crate::support::host::skipped("cli: grace periods", "needs strace");
        return;
    }
    let mut disk = lab.disk("disk", 24 << 20);
    disk.mount("ext4");
    lab.run(&["snapshot", &disk.device]).expect(0);
    let switch = lab.at("run/rcu_expedited");
    let prefix = ["strace", "-f", "-qq", "-o", &lab.at("trace"), "-P", &switch];
    let prefix = [&prefix[..], &["-e", "trace=pwrite64"]].concat();
    for (level, least) in [("filesystem", 7), ("crash", 5)] {
        let args = ["snapshot", &disk.device, "--level", level];
        finish(&mut lab.command_with(&prefix, &args)).expect(0);
        let trace = std::fs::read_to_string(lab.path("trace")).unwrap();
        let words = trace.split_whitespace();
        let words: Vec<_> = words.filter(|word| word.starts_with('"')).collect();
        let (pairs, rest) = words.as_chunks::<2>();
        assert!(rest.is_empty(), "{trace}");
        assert!(pairs.len() >= least, "{level}: {trace}");
        let on_off = ["\"1\",", "\"0\","];
        assert!(pairs.iter().all(|pair| *pair == on_off), "{trace}");
        assert_eq!(std::fs::read_to_string(&switch).unwrap(), "0\n");
    }
}

/// Runs it in a mount namespace of its own, after `setup`.
fn elsewhere(lab: &Lab, setup: &str, args: &[&str]) -> Run {
    let script = format!("{setup} && exec \"$@\"");
    let prefix = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    finish(&mut lab.command_with(&prefix, args))
}

#[test]
fn without_type_information_it_refuses_and_says_so() {
    let Some(lab) = Lab::with_vault("cli: no BTF") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    let before = lab.files();
    let hide = "mount -t tmpfs none /sys/kernel/btf";
    let run = elsewhere(&lab, hide, &["snapshot", &disk.device]).expect(5);
    let (message, _) = two_sentences("no BTF", &run.stderr);
    assert!(
        message.contains("btf") || message.contains("types"),
        "{message}"
    );
    assert_eq!(lab.files(), before);
    let doctor = elsewhere(&lab, hide, &["doctor"]).expect(3);
    assert!(doctor.stdout.contains("refused"), "{doctor:?}");
}

#[test]
fn a_missing_bpf_filesystem_is_mounted_or_named() {
    let Some(lab) = Lab::with_vault("cli: no bpffs") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    let run = elsewhere(&lab, "umount -R /sys/fs/bpf", &["snapshot", &disk.device]);
    assert!([0, 3].contains(&run.code), "{run:?}");
    // Mounted by the run, in a namespace that is gone: the next one starts tracking anew.
    let taken = lab.json(&["snapshot", &disk.device]);
    assert_eq!(taken["disks"][0]["mode"], "compare", "{taken}");
    let hide = "mount -t tmpfs -o ro none /sys/fs";
    let run = elsewhere(&lab, hide, &["snapshot", &disk.device]).expect(5);
    two_sentences("no /sys/fs/bpf", &run.stderr);
    lab.run(&["verify", "--all"]).expect(0);
}

/// What is wrong with a run directory, and how it is made so.
type OddPlace = (&'static str, fn(&Path));

#[test]
fn a_run_directory_that_others_could_write_is_refused() {
    let Some(lab) = Lab::with_vault("cli: run directories") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    let setups: [OddPlace; 5] = [
        ("another's", |path| {
            std::fs::create_dir(path).unwrap();
            chown(path, Some(65534), Some(65534)).unwrap();
        }),
        ("for all", |path| {
            std::fs::create_dir(path).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }),
        ("a link", |path| symlink("/tmp", path).unwrap()),
        ("a file", |path| std::fs::write(path, "").unwrap()),
        ("a loose link", |path| symlink("/no-such", path).unwrap()),
    ];
    for (name, set_up) in setups {
        let path = lab.path("odd");
        set_up(&path);
        let before = lab.files();
        let args = [
            "snapshot",
            &disk.device,
            "--run-dir",
            path.to_str().unwrap(),
        ];
        let run = lab.run(&args);
        assert!([1, 5].contains(&run.code), "{name}: {run:?}");
        let (message, _) = two_sentences(name, &run.stderr);
        assert!(message.contains("odd"), "{name}: {message}");
        assert_eq!(lab.files(), before, "{name}");
        assert!(!is_frozen(&place), "{name}");
        tool("rm", &["-r", path.to_str().unwrap()]);
    }
    let hide = "mount -t tmpfs -o ro none /run";
    let args = ["snapshot", &disk.device, "--run-dir", "/run/stillpoint"];
    let run = elsewhere(&lab, hide, &args);
    assert!([1, 5].contains(&run.code), "{run:?}");
    let (message, _) = two_sentences("/run read-only", &run.stderr);
    assert!(message.contains("/run/stillpoint"), "{message}");
}
