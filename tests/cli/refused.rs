//! What must be refused: disks, vaults, snapshots and targets, a table each.

use super::lab::{Lab, tool};
use super::table::{Held, Row, Stage, row};
use std::os::unix::fs::symlink;
use stillpoint::format::{VERSION, VaultInfo};

const DISKS: &[Row] = &[
    row("not root", "NOBODY snapshot {disk}", 5),
    row("a file", "snapshot {dir}disk", 2),
    row("a character device", "snapshot /dev/null", 2),
    row("no such path", "snapshot /dev/no-such", 1),
    row("no such name", "snapshot no-such", 1),
    row("no name", "snapshot ''", 1),
    row("a folder", "snapshot {dir}", 2),
    row("one of two", "snapshot {disk} no-such", 1),
    row("a partition", "snapshot {dir}part1", 2).after(partition),
    row("an empty drive", "snapshot {dir}empty", 5).after(|stage| {
        let disk = stage.lab.disk_with("nothing", 0, &[]);
        let link = Link::new(&stage.lab, &disk.device, "empty");
        Box::new((disk, link))
    }),
    row("tracking nothing", "track start no-such", 1),
    row("thaw, not root", "NOBODY thaw", 5),
    row("track, not root", "NOBODY track status", 5),
    row("a bad label", "snapshot {disk} --tag why", 2),
    row("two of one label", "snapshot {disk} --tag a=1 --tag a=2", 2),
    row("list, two of one label", "list --tag a=1 --tag a=2", 2),
    row(
        "prune, two of one label",
        "prune --keep-last 1 --tag a=1 --tag a=2",
        2,
    ),
    row(
        "a limit by which nothing ends",
        "snapshot {disk} --limit-read 1B",
        2,
    ),
    row(
        "settings that are no text",
        "snapshot {disk} --config {dir}latin1.toml",
        2,
    )
    .after(|stage| {
        let text = b"# of a caf\xc3\xa9\nvault = \"caf\xe9\"\n";
        std::fs::write(stage.lab.path("latin1.toml"), text).unwrap();
        Box::new(())
    }),
];

#[test]
fn disks_that_are_none() {
    let Some(stage) = Stage::new("cli: disks that are none") else {
        return;
    };
    stage.check_all(DISKS, "refused-disks");
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

const VAULTS: &[Row] = &[
    row("missing", "snapshot {disk} --vault {dir}no-such", 1),
    row("missing, list", "list --vault {dir}no-such", 1),
    row("missing, verify", "verify --all --vault {dir}no-such", 1),
    row("a file", "list --vault {dir}disk", 2),
    row("no vault", "snapshot {disk} --vault {dir}", 1),
    row("newer", "snapshot {disk} --vault {dir}newer", 1).after(newer),
    row("newer, list", "list --vault {dir}newer", 1).after(newer),
    row("init, not empty", "init {dir}", 1),
    row("init, on a file", "init {dir}disk", 2),
    row("init, no parent", "init {dir}no/such", 1),
    row("init, in a vault", "init {dir}vault/new", 2),
    row("no name", "list --vault ''", 2),
    row("init, no letters", "init {dir}new --name ''", 2),
    row("another's vault", "NOBODY list", 5),
    row("in another store", "list --vault gs://bucket/x", 2),
    row(
        "on the disk",
        "snapshot {disk} --vault {dir}disk.mnt/vault",
        2,
    )
    .after(|stage| {
        let vault = stage.lab.at("disk.mnt/vault");
        if !std::path::Path::new(&vault).exists() {
            stage.lab.run(&["init", &vault]).expect(0);
        }
        Box::new(())
    }),
    row("read-only", "snapshot {disk} --vault {dir}ro", 1).after(read_only),
];

#[test]
fn vaults_that_are_none() {
    let Some(stage) = Stage::new("cli: vaults that are none") else {
        return;
    };
    stage.check_all(VAULTS, "refused-vaults");
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

const SNAPSHOTS: &[Row] = &[
    row("unknown", "show 00", 1),
    row("unknown, restore", "restore 00 {dir}x", 1),
    row("unknown, delete", "delete latest 00", 1),
    row("unknown, verify", "verify 00", 1),
    row("unknown, diff", "diff latest 00", 1),
    row("ambiguous", "show {prefix}", 2),
    row("ambiguous, delete", "delete {prefix}", 2),
    row("empty", "show ''", 2),
    row("no such disk", "restore latest {dir}x --disk sdx", 1),
    row("latest of none", "show latest --vault {dir}none", 1).after(|stage| {
        let vault = stage.lab.at("none");
        let _ = std::fs::remove_dir_all(&vault);
        stage.lab.run(&["init", &vault]).expect(0);
        Box::new(())
    }),
];

#[test]
fn snapshots_that_are_none() {
    let Some(stage) = Stage::new("cli: snapshots that are none") else {
        return;
    };
    stage.check_all(SNAPSHOTS, "refused-snapshots");
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

const TARGETS: &[Row] = &[
    row("mounted", "restore latest {disk}", 6),
    row(
        "a device that is not there",
        "restore latest /dev/no-such-disk --force",
        1,
    ),
    row("a partition is mounted", "restore latest {dir}to-parted", 6),
    row("the vault", "restore latest {dir}vault", 2),
    row("in the vault", "restore latest {dir}vault/x", 2),
    row("too small", "restore latest {dir}to-small", 5),
    row("sectors", "restore latest {dir}to-coarse", 5),
    row("a file", "restore latest {dir}disk", 1),
    row("a folder", "restore latest {dir}folder", 1),
    row("a fifo", "restore latest {dir}fifo --force", 1),
    row("a link", "restore latest {dir}to-a-file --force", 1),
    row("a loose link", "restore latest {dir}to-nothing", 1),
    row("a character device", "restore latest /dev/null", 1),
    row("no folder", "restore latest {dir}no/such", 1),
    row(
        "an image on a device",
        "restore latest {dir}to-parted --format qcow2",
        2,
    ),
];

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
    // Nothing of it is left for the kernel to write while the test runs.
    let eager = "lazy_itable_init=0,lazy_journal_init=0";
    tool("mkfs.ext4", &["-q", "-E", eager, &part]);
    std::fs::create_dir(lab.path("mounted part")).unwrap();
    tool("mount", &[&part, &lab.at("mounted part")]);
    let _mount = Mount(lab.at("mounted part"));
    std::fs::create_dir(lab.path("folder")).unwrap();
    std::fs::write(lab.path("folder/x"), "").unwrap();
    tool("mkfifo", &[&lab.at("fifo")]);
    tool("sync", &["-f", &lab.at("mounted part")]);
    let before = [&small, &coarse, &parted].map(|disk| std::fs::read(&disk.image).unwrap());
    stage.check_all(TARGETS, "refused-targets");
    let after = [&small, &coarse, &parted].map(|disk| std::fs::read(&disk.image).unwrap());
    assert!(before == after, "a refused target was written to");
}
