//! What packages hold, and what their scripts do when the program is removed or purged. The
//! packages themselves are made by `scripts/package`, and tried in roots of distributions by
//! `scripts/try-packages`.

use crate::cli::lab::{Lab, PROGRAM, Run, finish, tool};
use crate::hooks::Stage;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use toml::{Table, Value};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// A name that a job, a run or a vault could have.
const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn script(name: &str) -> PathBuf {
    Path::new(ROOT).join("scripts/packaging").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
}

/// The sources of a kind of package, and where each goes.
fn assets(manifest: &Table, kind: &str) -> BTreeMap<String, String> {
    let listed = manifest["package"]["metadata"][kind]["assets"].as_array();
    let pair = |asset: &Value| match asset {
        Value::Array(parts) => (parts[0].clone(), parts[1].clone()),
        other => (other["source"].clone(), other["dest"].clone()),
    };
    let text = |value: &Value| value.as_str().unwrap().trim_start_matches('/').to_owned();
    let pairs = listed.unwrap().iter().map(pair);
    pairs.map(|(from, to)| (text(&from), text(&to))).collect()
}

#[test]
fn both_kinds_hold_the_same_and_leave_nothing_out() {
    let manifest: Table = text("Cargo.toml").parse().unwrap();
    let deb = assets(&manifest, "deb");
    let rpm = assets(&manifest, "generate-rpm");
    let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<BTreeSet<_>>();
    let only =
        |one, other| -> Vec<String> { names(one).difference(&names(other)).cloned().collect() };
    assert_eq!(only(&deb, &rpm), ["scripts/packaging/copyright"]);
    assert_eq!(only(&rpm, &deb), ["LICENSE-*"]);

    // What is not made by `scripts/package` is here, and all of two folders is taken.
    let made = text("scripts/package");
    for source in deb.keys().chain(rpm.keys()) {
        let (folder, name) = source.rsplit_once('/').unwrap_or((".", source));
        if folder.starts_with("scripts/packaging/stage") {
            assert!(name == "*" || made.contains(name), "nobody makes {source}");
            continue;
        }
        let (start, end) = name.split_once('*').unwrap_or((name, ""));
        let mut there = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
        let fits = |name: &str| name.starts_with(start) && name.ends_with(end);
        let found = there.any(|entry| fits(entry.unwrap().file_name().to_str().unwrap()));
        assert!(found, "{source}");
    }
    for folder in ["scripts/hooks", "scripts/policies"] {
        for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = ["*".into(), name.clone()];
            let by_end = name.ends_with(".sh").then(|| "*.sh".to_owned());
            let mut known = known.into_iter().chain(by_end);
            let is_taken = known.any(|known| deb.contains_key(&format!("{folder}/{known}")));
            assert!(is_taken, "no package has {folder}/{name}");
        }
    }

    let program = "scripts/packaging/stage/stillpoint";
    assert_eq!(deb[program], "usr/sbin/stillpoint");
    assert_eq!(rpm[program], deb[program]);
    // Both ask for the same C library, and `scripts/package` compares the binary with one of them.
    let metadata = &manifest["package"]["metadata"];
    let depends = metadata["deb"]["depends"].as_str().unwrap();
    let version = depends.strip_prefix("libc6 (>= ").unwrap();
    let version = version.split(')').next().unwrap();
    let requires = metadata["generate-rpm"]["requires"].as_table().unwrap();
    assert!(requires.contains_key(&format!("libc.so.6(GLIBC_{version})(64bit)")));
}

#[test]
fn scripts_of_packages_can_be_run_by_any_shell() {
    for name in ["prerm", "postrm"] {
        let path = script(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o111, 0o111);
        tool("sh", &["-n", path.to_str().unwrap()]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#!/bin/sh\n"), "{name}");
    }
}

/// A root in which the program has run, and others have put things.
struct Tree(TempDir);

impl Tree {
    fn new(files: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for file in files {
            let path = tree.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        tree
    }

    /// Runs the script that comes after the removal.
    fn postrm(&self, what: &str) -> Run {
        let mut command = Command::new(script("postrm"));
        command.arg(what).env("DPKG_ROOT", self.0.path());
        finish(&mut command).expect(0)
    }

    /// What is there: each file, each link, and each empty folder.
    fn left(&self) -> Vec<String> {
        let folder = self.0.path().to_str().unwrap();
        let kinds = [
            "(", "-type", "f", "-o", "-type", "l", "-o", "-type", "d", "-empty", ")",
        ];
        let listed = tool(
            "find",
            &[&[folder], &kinds[..], &["-printf", "%P\\n"]].concat(),
        );
        let mut left: Vec<String> = listed.lines().map(Into::into).collect();
        left.sort();
        left
    }
}

fn ours() -> Vec<String> {
    let cache = format!("var/cache/stillpoint/{ULID}-0123456789abcdef");
    vec![
        format!("var/lib/stillpoint/jobs/{ULID}.json"),
        format!("var/lib/stillpoint/jobs/{ULID}.log"),
        format!("var/lib/stillpoint/jobs/.{ULID}.tmp"),
        format!("{cache}/manifests+{ULID}"),
        format!("{cache}/.draft-7-0"),
        format!("var/cache/stillpoint/sent/{ULID}-12"),
        "run/stillpoint/disk-7-0.lock".into(),
        "run/stillpoint/mounts.lock".into(),
        "run/stillpoint/expedited".into(),
        "etc/stillpoint/config.toml".into(),
        "etc/stillpoint/plans.d/nightly.toml".into(),
        "var/lib/stillpoint/client.json".into(),
        "run/stillpoint/client.draft.credentials".into(),
        "var/lib/stillpoint/plans/nightly.json".into(),
        "var/lib/stillpoint/plans/nightly.lock".into(),
        "var/lib/stillpoint/plans/.nightly.json.17.new".into(),
        "etc/stillpoint/plans.d/.nightly.toml.17.new".into(),
    ]
}

#[test]
fn a_purge_leaves_nothing_that_the_program_wrote() {
    let files = ours();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for harmless in ["remove", "upgrade", "abort-install", "disappear", ""] {
        let tree = Tree::new(&files);
        let before = tree.left();
        tree.postrm(harmless);
        assert_eq!(tree.left(), before, "{harmless}");
    }
    let tree = Tree::new(&files);
    let run = tree.postrm("purge");
    assert_eq!(tree.left(), ["etc", "run", "var/cache", "var/lib"]);
    assert_eq!(run.stderr, "");
    // A second time, and on a host on which it has never run.
    assert_eq!(tree.postrm("purge").stderr, "");
    assert_eq!(Tree::new(&[]).postrm("purge").stderr, "");
}

#[test]
fn a_purge_leaves_vaults_keys_and_what_is_not_ours_and_names_it() {
    let other = [
        "etc/stillpoint/main.key",
        "etc/stillpoint/s3.env",
        "etc/stillpoint/config.toml.old",
        "etc/stillpoint/hooks.d/10-redis/prescript",
        "etc/stillpoint/plans.d/notes.txt",
        "var/lib/stillpoint/vault/vault.json",
        "var/lib/stillpoint/vault/segments/aa/bb",
        "var/lib/stillpoint/jobs/mine.json",
        "var/cache/stillpoint/vault/vault.json",
        "var/cache/stillpoint/sent/README",
    ];
    // A vault whose folder has a name like a cache's.
    let alike = format!("var/cache/stillpoint/{ULID}-fedcba9876543210");
    let alike = ["vault.json", "lies/here"].map(|file| format!("{alike}/{file}"));
    // What is below a folder of ours is nobody's business, whatever its name.
    let below = format!("var/lib/stillpoint/jobs/below/{ULID}.json");
    let mut kept: Vec<&str> = other
        .into_iter()
        .chain(alike.iter().chain([&below]).map(String::as_str))
        .collect();
    let all = ours();
    let files: Vec<&str> = kept
        .iter()
        .copied()
        .chain(all.iter().map(String::as_str))
        .collect();
    let tree = Tree::new(&files);
    let run = tree.postrm("purge");
    kept.push("run");
    kept.sort_unstable();
    assert_eq!(tree.left(), kept);
    for named in [
        "main.key",
        "s3.env",
        "hooks.d",
        "lib/stillpoint/vault",
        "stillpoint/sent",
    ] {
        assert!(run.stderr.contains(named), "{named} is not named: {run:?}");
    }
}

/// Folders that lead elsewhere, or are a vault themselves.
#[test]
fn a_purge_follows_no_link_and_empties_no_vault() {
    let job = format!("{ULID}.json");
    let tree = Tree::new(&[&format!("data/{job}"), "var/lib/stillpoint/x"]);
    symlink(
        tree.0.path().join("data"),
        tree.0.path().join("var/lib/stillpoint/jobs"),
    )
    .unwrap();
    tree.postrm("purge");
    assert!(tree.0.path().join("data").join(&job).exists());

    let vault = ["vault.json", &job].map(|file| format!("var/lib/stillpoint/jobs/{file}"));
    let settings = ["vault.json", "config.toml"].map(|file| format!("etc/stillpoint/{file}"));
    let files: Vec<&str> = vault.iter().chain(&settings).map(String::as_str).collect();
    let tree = Tree::new(&files);
    let before = tree.left();
    tree.postrm("purge");
    assert_eq!(tree.left(), before);
}

/// Units of a plan: a timer that the program wrote, one of somebody's, and a link.
fn units(folder: &Path) -> [PathBuf; 3] {
    fs::create_dir_all(folder).unwrap();
    let name = |plan: &str| folder.join(format!("stillpoint-plan-{plan}.timer"));
    let [ours, theirs, link] = ["ours", "theirs", "link"].map(name);
    let first = "# Written by stillpoint for the plan ours. Do not edit it:\n";
    fs::write(&ours, format!("{first}[Timer]\n")).unwrap();
    fs::write(&theirs, "[Timer]\n").unwrap();
    symlink(&ours, &link).unwrap();
    [ours, theirs, link]
}

#[test]
fn timers_of_plans_are_stopped_and_a_purge_takes_those_that_are_ours() {
    let Some(lab) = Lab::new("packages: timers") else {
        return;
    };
    let folder = lab.path("units");
    let [ours, theirs, link] = units(&folder);
    for other in ["upgrade", "1", ""] {
        let run = prerm(&lab, PROGRAM, other).expect(0);
        assert_eq!(run.stderr, "", "{run:?}");
    }
    assert!(!lab.path("asked").exists());
    let run = prerm(&lab, PROGRAM, "remove").expect(0);
    let asked = fs::read_to_string(lab.path("asked")).unwrap();
    assert_eq!(asked, "disable --now --quiet stillpoint-plan-ours.timer\n");
    assert!(
        run.stderr.contains("timers of plans are stopped"),
        "{run:?}"
    );
    assert!(ours.exists() && theirs.exists() && link.exists());

    let tree = Tree::new(&[]);
    let [ours, theirs, link] = units(&tree.0.path().join("etc/systemd/system"));
    tree.postrm("remove");
    assert!(ours.exists());
    tree.postrm("purge");
    assert!(!ours.exists() && theirs.exists() && link.is_symlink());
}

/// The script that comes before the removal, about the lab's own folders and another program.
fn prerm(lab: &Lab, program: &str, what: &str) -> Run {
    let mut text = fs::read_to_string(script("prerm")).unwrap();
    for (usual, here) in [
        (
            "program=/usr/sbin/stillpoint\n",
            format!("program={program}\n"),
        ),
        (
            "pins=/sys/fs/bpf/stillpoint\n",
            format!("pins={}\n", pins(lab).display()),
        ),
        (
            "units=/etc/systemd/system\n",
            format!("units='{}'\n", lab.path("units").display()),
        ),
    ] {
        assert_eq!(text.matches(usual).count(), 1, "{usual}");
        text = text.replace(usual, &here);
    }
    // Who would ask systemd is asked instead, and notes it.
    let systemctl = lab.path("bin/systemctl");
    fs::create_dir_all(systemctl.parent().unwrap()).unwrap();
    let notes = format!(
        "#!/bin/sh\necho \"$@\" >>'{}'\n",
        lab.path("asked").display()
    );
    fs::write(&systemctl, notes).unwrap();
    fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
    let path = lab.path("prerm");
    fs::write(&path, text).unwrap();
    let search = format!("PATH={}:$PATH", systemctl.parent().unwrap().display());
    // The lab's program comes after its own arguments, and is of no use here.
    let start = format!("{search} exec sh \"$0\" $2");
    let prefix = ["sh", "-c", &start, path.to_str().unwrap()];
    finish(lab.command_with(&prefix, &[what]).env_remove("DPKG_ROOT"))
}

fn pins(lab: &Lab) -> PathBuf {
    Path::new("/sys/fs/bpf").join(lab.pins())
}

fn tracked(lab: &Lab) -> usize {
    let status = lab.json(&["track", "status"]);
    status["tracked"].as_array().unwrap().len()
}

#[test]
fn nothing_is_removed_while_a_run_is_at_work_and_tracking_ends_after() {
    let Some(stage) = Stage::new("packages: removal") else {
        return;
    };
    let mut run = stage.at_work();
    for removal in ["remove", "0"] {
        let refused = prerm(&stage.lab, PROGRAM, removal).expect(1);
        assert!(refused.stderr.contains("a job runs"), "{refused:?}");
    }
    // An upgrade is none of its business, and so is a root that is not the machine's.
    for other in ["upgrade", "1", "failed-upgrade", "deconfigure", ""] {
        prerm(&stage.lab, PROGRAM, other).expect(0);
    }
    assert_eq!(tracked(&stage.lab), 1);
    stage.let_go();
    assert!(run.wait().unwrap().success());
    assert_eq!(tracked(&stage.lab), 1);
    assert!(pins(&stage.lab).exists());

    let removed = prerm(&stage.lab, PROGRAM, "remove").expect(0);
    assert_eq!(removed.stderr, "", "{removed:?}");
    assert!(!pins(&stage.lab).exists());
    assert_eq!(tracked(&stage.lab), 0);
    prerm(&stage.lab, PROGRAM, "remove").expect(0);
    stage.assert_sound();
}

/// A mounted snapshot goes away with the test.
struct Mounted<'a>(&'a Lab, &'a str);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = self
            .0
            .command(&["unmount", self.0.at(self.1).as_str(), "--lazy"])
            .output();
    }
}

#[test]
fn nothing_is_removed_while_a_snapshot_is_mounted() {
    let Some(lab) = Lab::with_vault("packages: mounted") else {
        return;
    };
    let disk = lab.disk("disk", 8 << 20);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let folder = lab.at("then");
    fs::create_dir(&folder).unwrap();
    lab.run(&["mount", "latest", &folder]).expect(0);
    let mounted = Mounted(&lab, "then");
    let refused = prerm(&lab, PROGRAM, "remove").expect(1);
    assert!(refused.stderr.contains("job list"), "{refused:?}");
    lab.run(&["unmount", &folder]).expect(0);
    prerm(&lab, PROGRAM, "remove").expect(0);
    drop(mounted);
}

/// A program that says what it is told to say.
fn stand_in(lab: &Lab, cases: &str) -> String {
    let path = lab.path("stand-in");
    let text = format!("#!/bin/sh\ncase \"$*\" in\n--version) ;;\n{cases}\nesac\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_cannot_be_undone_keeps_the_program() {
    let Some(lab) = Lab::new("packages: refused") else {
        return;
    };
    let disk = lab.disk("disk", 8 << 20);
    lab.run(&["track", "start", &disk.device]).expect(0);
    let starting = r#""job list --json") echo '{"jobs":[{"state":"starting"}]}' ;;"#;
    let dead = r#""mount list --json") echo '{"mounts":[{"state":"dead"}]}' ;;"#;
    let frozen = "thaw) echo '/srv is frozen still' >&2; exit 1 ;;";
    let busy = "\"track stop\") echo 'another process changes it' >&2; exit 6 ;;";
    for (cases, words) in [
        (starting, "a job runs"),
        (dead, "a snapshot is mounted"),
        (frozen, "/srv is frozen still"),
        (busy, "another process changes it"),
    ] {
        let refused = prerm(&lab, &stand_in(&lab, cases), "remove").expect(1);
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
        assert_eq!(tracked(&lab), 1, "{words}");
    }
    // What could not be asked is told, and what is pinned goes whatever the command does.
    let deaf = "*) exit 1 ;;";
    let deaf = stand_in(&lab, &format!("thaw) ;;\n{deaf}"));
    let removed = prerm(&lab, &deaf, "remove").expect(0);
    assert!(removed.stderr.contains("is not known"), "{removed:?}");
    assert!(!pins(&lab).exists());
    assert_eq!(tracked(&lab), 0);
}

#[test]
fn a_program_that_cannot_be_run_is_removed_and_its_tracking_with_it() {
    let Some(lab) = Lab::new("packages: broken") else {
        return;
    };
    let disk = lab.disk("disk", 8 << 20);
    lab.run(&["track", "start", &disk.device]).expect(0);
    let broken = lab.path("broken");
    fs::write(&broken, "\x7fELF").unwrap();
    fs::set_permissions(&broken, Permissions::from_mode(0o755)).unwrap();
    let removed = prerm(&lab, broken.to_str().unwrap(), "remove").expect(0);
    assert!(removed.stderr.contains("cannot be run"), "{removed:?}");
    assert_eq!(tracked(&lab), 0);
}
