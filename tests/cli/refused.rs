//! One table of what must be refused: the exit code, one sentence that says what happened, one that
//! says what to do, and nothing left behind. Each row runs twice, for people and with `--json`.

use super::lab::{Disk, Lab, Run, finish, is_frozen, noise, tool};
use std::any::Any;
use std::os::unix::fs::symlink;
use stillpoint::format::{VERSION, VaultInfo};

/// What a row's setting up leaves, undone when dropped.
type Held = Box<dyn Any>;

fn nothing(_: &Stage) -> Held {
    Box::new(())
}

/// What the rows share: a mounted disk with two snapshots in the vault.
struct Stage {
    disk: Disk,
    lab: Lab,
}

struct Row {
    name: &'static str,
    set_up: fn(&Stage) -> Held,
    /// `{disk}`, `{name}`, `{dir}` and `{prefix}` (of all IDs) are filled in.
    command: &'static str,
    code: i32,
    message: &'static str,
    hint: &'static str,
}

const fn row(
    name: &'static str,
    command: &'static str,
    code: i32,
    message: &'static str,
    hint: &'static str,
) -> Row {
    Row {
        name,
        set_up: nothing,
        command,
        code,
        message,
        hint,
    }
}

impl Row {
    const fn after(self, set_up: fn(&Stage) -> Held) -> Self {
        Self { set_up, ..self }
    }
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let lab = Lab::with_vault(test)?;
        let mut disk = lab.disk("disk", 24 << 20);
        let place = disk.mount("ext4");
        std::fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
        for _ in 0..2 {
            lab.run(&["snapshot", &disk.device]).expect(0);
        }
        Some(Self { disk, lab })
    }

    fn fill_in(&self, command: &str) -> Vec<String> {
        let listed = self.lab.vault_files();
        let snapshots = self.lab.path("vault/snapshots");
        let mut names = listed
            .iter()
            .filter(|(path, _)| path.starts_with(&snapshots));
        let prefix = names.next().map_or(String::new(), |(path, _)| {
            path.file_name().unwrap().to_str().unwrap()[..6].to_owned()
        });
        let text = command
            .replace("{disk}", &self.disk.device)
            .replace("{name}", self.disk.name())
            .replace("{dir}", &self.lab.at(""))
            .replace("{prefix}", &prefix);
        let words = text.split_whitespace();
        words.map(|word| word.replace("''", "")).collect()
    }

    fn run(&self, row: &Row, json: bool) -> Run {
        let mut args = self.fill_in(row.command);
        if json {
            args.push("--json".into());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match args.strip_prefix(&["NOBODY"]) {
            None => self.lab.run(&args),
            Some(args) => {
                let prefix = [
                    "setpriv",
                    "--reuid=65534",
                    "--regid=65534",
                    "--clear-groups",
                ];
                finish(&mut self.lab.command_with(&prefix, args))
            }
        }
    }

    fn check(&self, row: &Row) {
        let _held = (row.set_up)(self);
        let before = self.lab.files();
        let run = self.run(row, false).expect(row.code);
        assert_eq!(run.stdout, "", "{}", row.name);
        let (message, hint) = two_sentences(row.name, &run.stderr);
        let run = self.run(row, true).expect(row.code);
        assert_eq!(run.stderr, "", "{}: --json", row.name);
        let error = run.json()["error"].clone();
        let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["hint", "kind", "message"], "{}", row.name);
        let again = error["message"].as_str().unwrap();
        assert_eq!(without_ids(again), without_ids(&message), "{}", row.name);
        assert_eq!(error["hint"], hint.as_str(), "{}", row.name);
        for (text, words) in [(&message, row.message), (&hint, row.hint)] {
            let words = self.fill_in(words).join(" ");
            assert!(text.contains(&words), "{}: {text:?}: {words:?}", row.name);
        }
        assert_eq!(self.lab.files(), before, "{}: files", row.name);
        assert!(self.lab.freeze_records().is_empty(), "{}", row.name);
        assert!(
            self.disk
                .mounted
                .as_ref()
                .is_none_or(|place| !is_frozen(place))
        );
    }

    fn check_all(&self, rows: &[Row]) {
        // All that is wrong is told at once.
        let failed = rows.iter().filter(|row| {
            let checked = std::panic::AssertUnwindSafe(|| self.check(row));
            let failed = std::panic::catch_unwind(checked).is_err();
            if failed {
                eprintln!("FAILED: {}", row.name);
            }
            failed
        });
        let failed: Vec<&str> = failed.map(|row| row.name).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

/// Each run has another ID.
fn without_ids(text: &str) -> String {
    let words = text.split_inclusive(['/', ' ']);
    words.filter(|word| !word.starts_with("01")).collect()
}

/// What happened, and what to do, as people are told it: one line each.
pub fn two_sentences(name: &str, stderr: &str) -> (String, String) {
    // On a busy machine a run may have told how far it is.
    let begin = stderr.find("stillpoint: ").unwrap_or_default();
    let lines: Vec<&str> = stderr[begin..].lines().collect();
    let [first, second] = lines[..] else {
        panic!("{name}: not a message and a hint: {stderr:?}");
    };
    let message = first.strip_prefix("stillpoint: ").expect(stderr);
    let hint = second.strip_prefix("  ").expect(stderr);
    for text in [message, hint] {
        let one = text.len() > 8 && !text.contains(". ") && !text.ends_with(['.', ':']);
        assert!(one, "{name}: not one sentence: {text:?}");
    }
    (message.to_owned(), hint.to_owned())
}

#[test]
fn disks_that_are_none() {
    let Some(stage) = Stage::new("cli: disks that are none") else {
        return;
    };
    stage.check_all(&[
        row("not root", "NOBODY snapshot {disk}", 5, "only root", "sudo"),
        row(
            "a file",
            "snapshot {dir}disk",
            2,
            "is not a block device",
            "stillpoint disks",
        ),
        row(
            "a character device",
            "snapshot /dev/null",
            2,
            "not a block device",
            "disks",
        ),
        row(
            "no such path",
            "snapshot /dev/no-such",
            1,
            "/dev/no-such",
            "stillpoint disks",
        ),
        row(
            "no such name",
            "snapshot no-such",
            1,
            "\"no-such\"",
            "stillpoint disks",
        ),
        row("no name", "snapshot ''", 1, "\"\"", "stillpoint disks"),
        row(
            "a folder",
            "snapshot {dir}",
            2,
            "is not a block device",
            "disks",
        ),
        row(
            "one of two",
            "snapshot {disk} no-such",
            1,
            "no-such",
            "stillpoint disks",
        ),
        row("a partition", "snapshot {dir}part1", 2, "partition", "").after(partition),
        row(
            "an empty drive",
            "snapshot {dir}empty",
            5,
            "has no size",
            "",
        )
        .after(|stage| {
            let disk = stage.lab.disk_with("nothing", 0, &[]);
            let link = Link::new(&stage.lab, &disk.device, "empty");
            Box::new((disk, link))
        }),
        row(
            "tracking nothing",
            "track start no-such",
            1,
            "no-such",
            "disks",
        ),
        row("thaw, not root", "NOBODY thaw", 5, "only root", "sudo"),
        row(
            "track, not root",
            "NOBODY track status",
            5,
            "only root",
            "sudo",
        ),
        row(
            "a level not there yet",
            "snapshot {disk} --level application",
            5,
            "application",
            "",
        ),
        row(
            "throttle",
            "snapshot {disk} --on-busy throttle",
            5,
            "slow down",
            "--on-busy freeze",
        ),
        row(
            "a bad label",
            "snapshot {disk} --tag why",
            2,
            "\"why\" is not",
            "why=upgrade",
        ),
    ]);
}

/// A link to a device whose name a row cannot know.
struct Link(std::path::PathBuf);

impl Link {
    fn new(lab: &Lab, device: &str, name: &str) -> Self {
        let path = lab.path(name);
        symlink(device, &path).unwrap();
        Self(path)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn partition(stage: &Stage) -> Held {
    let disk = stage.lab.disk_with("parted", 24 << 20, &["--partscan"]);
    let link = Link::new(&stage.lab, &disk.partition(), "part1");
    Box::new((link, disk))
}

#[test]
fn vaults_that_are_none() {
    let Some(stage) = Stage::new("cli: vaults that are none") else {
        return;
    };
    let missing = "no-such: No such file";
    let init = "stillpoint init";
    stage.check_all(&[
        row(
            "missing",
            "snapshot {disk} --vault {dir}no-such",
            1,
            missing,
            init,
        ),
        row(
            "missing, list",
            "list --vault {dir}no-such",
            1,
            missing,
            init,
        ),
        row(
            "missing, verify",
            "verify --all --vault {dir}no-such",
            1,
            missing,
            init,
        ),
        row(
            "a file",
            "list --vault {dir}disk",
            2,
            "Not a directory",
            "a vault is a directory",
        ),
        row(
            "no vault",
            "snapshot {disk} --vault {dir}",
            1,
            "is not a vault",
            init,
        ),
        row(
            "newer",
            "snapshot {disk} --vault {dir}newer",
            1,
            "newer than format",
            "newest",
        )
        .after(newer),
        row(
            "newer, list",
            "list --vault {dir}newer",
            1,
            "newer than format",
            "newest",
        )
        .after(newer),
        row(
            "init, not empty",
            "init {dir}vault",
            1,
            "is not empty",
            "empty directory",
        ),
        row(
            "init, on a file",
            "init {dir}disk",
            2,
            "{dir}disk",
            "directory",
        ),
        row(
            "init, no parent",
            "init {dir}no/such",
            1,
            "{dir}no/such",
            "",
        ),
        row(
            "no name",
            "list --vault ''",
            2,
            "no vault was named",
            "STILLPOINT_VAULT",
        ),
        row(
            "init, no letters",
            "init {dir}new --name ''",
            2,
            "1 to 64 characters",
            "",
        ),
        row("another's vault", "NOBODY list", 5, "Permission denied", ""),
        row(
            "in a bucket",
            "list --vault s3://bucket/x",
            5,
            "directories only",
            "directory",
        ),
        row(
            "on the disk",
            "snapshot {disk} --vault {dir}disk.mnt/vault",
            2,
            "lies on {name}",
            "another",
        )
        .after(|stage| {
            let vault = stage.lab.at("disk.mnt/vault");
            if !std::path::Path::new(&vault).exists() {
                stage.lab.run(&["init", &vault]).expect(0);
            }
            Box::new(())
        }),
        row(
            "read-only",
            "snapshot {disk} --vault {dir}ro",
            1,
            "Read-only file system",
            "writable",
        )
        .after(read_only),
    ]);
}

fn newer(stage: &Stage) -> Held {
    let old = std::fs::read(stage.lab.path("vault/vault.json")).unwrap();
    let info = VaultInfo {
        format: VERSION + 1,
        ..VaultInfo::decode(&old).unwrap()
    };
    std::fs::create_dir_all(stage.lab.path("newer")).unwrap();
    std::fs::write(stage.lab.path("newer/vault.json"), info.encode().unwrap()).unwrap();
    Box::new(())
}

/// A mount that goes away.
struct Mount(String);

impl Drop for Mount {
    fn drop(&mut self) {
        super::lab::try_tool("umount", &[&self.0]);
    }
}

fn read_only(stage: &Stage) -> Held {
    let at = stage.lab.at("ro");
    std::fs::create_dir_all(&at).unwrap();
    tool("mount", &["-t", "tmpfs", "-o", "size=8m", "tmpfs", &at]);
    let mount = Mount(at.clone());
    stage.lab.run(&["init", &at]).expect(0);
    tool("mount", &["-o", "remount,ro", &at]);
    Box::new(mount)
}

#[test]
fn snapshots_that_are_none() {
    let Some(stage) = Stage::new("cli: snapshots that are none") else {
        return;
    };
    let see = "stillpoint list";
    stage.check_all(&[
        row("unknown", "show 00", 1, "no snapshot \"00\"", see),
        row(
            "unknown, restore",
            "restore 00 {dir}x",
            1,
            "no snapshot \"00\"",
            see,
        ),
        row(
            "unknown, delete",
            "delete latest 00",
            1,
            "no snapshot \"00\"",
            see,
        ),
        row("unknown, verify", "verify 00", 1, "no snapshot \"00\"", see),
        row(
            "unknown, diff",
            "diff latest 00",
            1,
            "no snapshot \"00\"",
            see,
        ),
        row(
            "ambiguous",
            "show {prefix}",
            2,
            "could be",
            "more of the ID",
        ),
        row(
            "ambiguous, delete",
            "delete {prefix}",
            2,
            "could be",
            "more of the ID",
        ),
        row("empty", "show ''", 2, "empty ID", see),
        row(
            "no such disk",
            "restore latest {dir}x --disk sdx",
            1,
            "no disk \"sdx\"",
            "{name}",
        ),
        row(
            "latest of none",
            "show latest --vault {dir}none",
            1,
            "no snapshot yet",
            see,
        )
        .after(|stage| {
            let vault = stage.lab.at("none");
            let _ = std::fs::remove_dir_all(&vault);
            stage.lab.run(&["init", &vault]).expect(0);
            Box::new(())
        }),
    ]);
    // What was deleted is as if it had never been; the others are whole.
    let list = stage.lab.json(&["list"]);
    let id = list["snapshots"][0]["snapshot"].as_str().unwrap();
    stage.lab.run(&["delete", id]).expect(0);
    stage.lab.run(&["show", id]).expect(1);
    stage
        .lab
        .run(&["restore", id, &stage.lab.at("x")])
        .expect(1);
    stage.lab.run(&["verify", "--all"]).expect(0);
}

#[test]
fn targets_that_are_refused() {
    let Some(stage) = Stage::new("cli: targets that are refused") else {
        return;
    };
    let lab = &stage.lab;
    let small = lab.disk("small", 16 << 20);
    let coarse = lab.disk_with("coarse", 24 << 20, &["--sector-size", "4096"]);
    let parted = lab.disk_with("parted", 24 << 20, &["--partscan"]);
    let _links = [
        Link::new(lab, &small.device, "to-small"),
        Link::new(lab, &coarse.device, "to-coarse"),
        Link::new(lab, &parted.device, "to-parted"),
        Link::new(lab, &lab.at("disk"), "to-a-file"),
        Link::new(lab, &lab.at("no-such"), "to-nothing"),
    ];
    let part = parted.partition();
    tool("mkfs.ext4", &["-q", &part]);
    std::fs::create_dir(lab.path("mounted part")).unwrap();
    tool("mount", &[&part, &lab.at("mounted part")]);
    let _mount = Mount(lab.at("mounted part"));
    std::fs::create_dir(lab.path("folder")).unwrap();
    tool("mkfifo", &[&lab.at("fifo")]);
    let before = [&small, &coarse, &parted].map(|disk| std::fs::read(&disk.image).unwrap());
    stage.check_all(&[
        row("mounted", "restore latest {disk}", 6, "{disk}", "unmount"),
        row(
            "a partition is mounted",
            "restore latest {dir}to-parted",
            6,
            "to-parted",
            "unmount",
        ),
        row(
            "the vault",
            "restore latest {dir}vault",
            2,
            "inside the vault",
            "outside",
        ),
        row(
            "in the vault",
            "restore latest {dir}vault/x",
            2,
            "inside the vault",
            "outside",
        ),
        row(
            "too small",
            "restore latest {dir}to-small",
            5,
            "16777216 bytes",
            "at least as large",
        ),
        row(
            "sectors",
            "restore latest {dir}to-coarse",
            5,
            "sectors have 4096",
            "to a file",
        ),
        row("a file", "restore latest {dir}disk", 1, "exists", "--force"),
        row(
            "a folder",
            "restore latest {dir}folder",
            1,
            "is a directory",
            "name a file",
        ),
        row(
            "a fifo",
            "restore latest {dir}fifo --force",
            1,
            "neither a file",
            "another target",
        ),
        row(
            "a link",
            "restore latest {dir}to-a-file --force",
            1,
            "neither a file",
            "another",
        ),
        row(
            "a loose link",
            "restore latest {dir}to-nothing",
            1,
            "neither a file",
            "another",
        ),
        row(
            "a character device",
            "restore latest /dev/null",
            1,
            "neither a file",
            "another",
        ),
        row("no folder", "restore latest {dir}no/such", 1, "{dir}no", ""),
        row(
            "a format not there yet",
            "restore latest {dir}x --format qcow2",
            5,
            "raw",
            "qemu-img",
        ),
    ]);
    let after = [&small, &coarse, &parted].map(|disk| std::fs::read(&disk.image).unwrap());
    assert!(before == after, "a refused target was written to");
}
