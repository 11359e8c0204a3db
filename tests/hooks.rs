//! Hooks around the cut: what qualifies one, what becomes of the run when one fails, and that no
//! prescript goes without its postscript, whatever dies in between.

mod at_once;
mod bad;
pub mod killed;
mod pending;
mod planted;
mod unfit;

use crate::cli::lab::{Disk, Lab, Run, is_frozen, noise, wait};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use stillpoint::format::SEGMENT_TARGET;

/// Size of the disk in use.
const DISK: u64 = 160 << 20;

/// A disk in use, and two scripts.
pub struct Stage {
    /// Before the lab, which stops what knows it.
    pub disk: Disk,
    pub place: PathBuf,
    pub lab: Lab,
}

impl Stage {
    pub fn new(test: &str) -> Option<Self> {
        let lab = Lab::with_vault(test)?;
        let mut disk = lab.disk("disk", DISK);
        let place = disk.mount("ext4");
        fs::write(place.join("file"), noise(8 << 20, 1)).unwrap();
        fs::create_dir(lab.path("hooks")).unwrap();
        fs::set_permissions(lab.path("hooks"), Permissions::from_mode(0o700)).unwrap();
        Some(Self { disk, place, lab })
    }

    fn pre(&self) -> PathBuf {
        self.lab.path("hooks/pre.sh")
    }

    fn post(&self) -> PathBuf {
        self.lab.path("hooks/post.sh")
    }

    /// What the scripts have noted.
    pub fn noted(&self) -> Vec<String> {
        let text = fs::read_to_string(self.lab.path("noted")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A script that does this; `note` writes a line that [`Stage::noted`] tells.
    fn write(&self, path: &Path, body: &str) {
        let _ = fs::remove_file(path);
        let noted = self.lab.at("noted");
        let script = format!("#!/bin/bash\nnote() {{ echo \"$*\" >>{noted}; }}\n{body}\n");
        fs::write(path, script).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    }

    pub fn scripts(&self, pre: &str, post: &str) {
        self.write(&self.pre(), pre);
        self.write(&self.post(), post);
    }

    /// A run that is at work until it is let go, or stopped: its prescript waits.
    pub fn at_work(&self) -> Child {
        // Or until all of it is removed, when the test has failed.
        let (lab, go) = (self.lab.dir.path().display(), self.lab.path("go"));
        let more = format!("[ -d {lab} ] && [ ! -e {} ]", go.display());
        let wait = format!("note waits; while {more}; do sleep 0.02; done");
        self.scripts(&wait, "note post");
        let args = self.args(&["--hook-timeout", "120s"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.lab.command(&args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        killed::wait_for(|| {
            assert!(child.try_wait().unwrap().is_none(), "it did not wait");
            !self.noted().is_empty()
        });
        child
    }

    /// The run that is at work goes on.
    pub fn let_go(&self) {
        fs::write(self.lab.path("go"), "").unwrap();
    }

    pub fn args(&self, more: &[&'static str]) -> Vec<String> {
        let (pre, post) = (self.pre(), self.post());
        let usual = [
            "snapshot",
            &self.disk.device,
            "--json",
            "--level",
            "application",
            "--prescript",
            pre.to_str().unwrap(),
            "--postscript",
            post.to_str().unwrap(),
        ];
        let all = usual.iter().chain(more);
        all.map(|arg| (*arg).to_owned()).collect()
    }

    pub fn snapshot(&self, more: &[&'static str]) -> Run {
        let args = self.args(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.lab.run(&args)
    }

    /// Nothing is frozen, nobody is waited for, and the vault is whole.
    pub fn assert_sound(&self) {
        assert!(!is_frozen(&self.place), "it stays frozen");
        assert!(self.lab.freeze_records().is_empty());
        if self.snapshots() > 0 {
            self.lab.run(&["verify", "--all"]).expect(0);
        }
    }

    pub fn snapshots(&self) -> usize {
        let list = self.lab.json(&["list"]);
        list["snapshots"].as_array().unwrap().len()
    }
}

fn status(document: &Value, hook: &str) -> String {
    let status = &document["hooks"][hook]["status"];
    status.as_str().unwrap().to_owned()
}

fn warned(document: &Value, part: &str) -> bool {
    let warnings = document["warnings"].as_array().unwrap();
    warnings
        .iter()
        .any(|warning| warning.as_str().unwrap().contains(part))
}

/// The prescript puts a file on the disk, the postscript takes it away: the snapshot has it. What
/// was there before was copied before.
#[test]
fn the_cut_is_between_the_hooks_and_the_copying_is_before() {
    let Some(stage) = Stage::new("the_cut_is_between_the_hooks") else {
        return;
    };
    // Two segments and a half: what is in the third is in memory until the end.
    fs::write(stage.place.join("bulk"), noise(72 << 20, 2)).unwrap();
    let (place, vault) = (stage.place.to_str().unwrap(), stage.lab.at("vault"));
    let pre = format!(
        "echo of pre; note pre $STILLPOINT_PHASE $STILLPOINT_DISKS $STILLPOINT_MOUNT_POINTS\n\
         note tell $(basename $STILLPOINT_HOOK) $# $(pwd) $HOME $(readlink /proc/self/fd/0)\n\
         note stored $(du -sm {vault} | cut -f 1)\n\
         touch {place}/held; sleep 0.2"
    );
    let post = format!(
        "note post $STILLPOINT_PHASE $STILLPOINT_OUTCOME\n\
         note held $(ls {place}/held)\nrm {place}/held"
    );
    stage.scripts(&pre, &post);
    let document = stage.snapshot(&[]).expect(0).json();
    assert_eq!(document["level"], "application");
    assert_eq!(document["requested_level"], "application");
    assert_eq!(document["disks"][0]["level"], "application");
    assert_eq!(status(&document, "prescript"), "ran");
    assert_eq!(status(&document, "postscript"), "ran");
    assert_eq!(document["hooks"]["prescript"]["output"], "of pre\n");
    let held = document["hooks"]["held_ms"].as_f64().unwrap();
    let took = document["hooks"]["prescript"]["took_ms"].as_f64().unwrap();
    assert!(took >= 200.0 && held >= took, "{document}");
    let name = stage.disk.name();
    assert_eq!(
        stage.noted(),
        [
            format!("pre pre {name} {place}"),
            "tell pre.sh 0 / /root /dev/null".to_owned(),
            format!("stored {}", stage.noted()[2].split(' ').nth(1).unwrap()),
            "post post cut".to_owned(),
            format!("held {place}/held"),
        ]
    );
    let stored: u64 = stage.noted()[2]["stored ".len()..].parse().unwrap();
    assert!(
        stored >= (2 * SEGMENT_TARGET as u64) >> 20,
        "{stored} MiB were stored before the prescript"
    );
    // The same is told later.
    let shown = stage.lab.json(&["show", "latest"]);
    assert_eq!(shown["hooks"], document["hooks"]);

    let image = stage.lab.at("image");
    stage.lab.run(&["restore", "latest", &image]).expect(0);
    let mut copy = stage.lab.disk("copy", DISK);
    fs::copy(&image, &copy.device).unwrap();
    let copied = copy.mount_again("ext4");
    assert!(copied.join("held").exists(), "not cut between the hooks");
    copy.unmount();
    stage.assert_sound();
}

#[test]
fn without_the_level_no_hook_runs() {
    let Some(stage) = Stage::new("without_the_level_no_hook_runs") else {
        return;
    };
    stage.scripts("note pre", "note post");
    let device = stage.disk.device.as_str();
    let (pre, post) = (stage.pre(), stage.post());
    let document = stage.lab.json(&["snapshot", device]);
    assert_eq!(status(&document, "prescript"), "not_run");
    let (pre, post) = (pre.to_str().unwrap(), post.to_str().unwrap());
    let named = ["snapshot", device, "--prescript", pre, "--postscript", post];
    let refused = stage.lab.run(&named).expect(2);
    assert!(
        refused.stderr.contains("--level application"),
        "{refused:?}"
    );
    assert_eq!(stage.noted(), Vec::<String>::new());
}

#[test]
fn a_configuration_file_names_the_hooks() {
    let Some(stage) = Stage::new("a_configuration_file_names_the_hooks") else {
        return;
    };
    stage.scripts("note pre", "note post");
    let config = stage.lab.path("config.toml");
    let (pre, post) = (stage.pre(), stage.post());
    let run = |text: &str, mode: u32| {
        fs::write(&config, text).unwrap();
        fs::set_permissions(&config, Permissions::from_mode(mode)).unwrap();
        let args = ["snapshot", &stage.disk.device, "--level", "application"];
        let mut command = stage.lab.command(&args);
        command.env("STILLPOINT_CONFIG", &config);
        crate::cli::lab::finish(&mut command)
    };
    let text = format!("[hooks]\nprescript = {pre:?}\npostscript = {post:?}\ntimeout = \"5s\"\n");
    run(&text, 0o600).expect(0);
    assert_eq!(stage.noted(), ["pre", "post"]);
    let open = run(&text, 0o666).expect(2);
    assert!(open.stderr.contains("others than root"), "{open:?}");
    let wrong = run("[hooks]\nprescrip = \"/x\"\n", 0o600).expect(2);
    assert!(wrong.stderr.contains("prescrip"), "{wrong:?}");
    let late = run("[hooks]\ntimeout = \"0s\"\n", 0o600).expect(2);
    assert!(late.stderr.contains("1s to 1h"), "{late:?}");
    fs::remove_file(&config).unwrap();
    let mut missing = stage.lab.command(&["snapshot", &stage.disk.device]);
    missing.env("STILLPOINT_CONFIG", &config);
    crate::cli::lab::finish(&mut missing).expect(1);
    assert_eq!(stage.snapshots(), 1);
}

/// The second run waits for nothing and holds nothing.
#[test]
fn of_two_runs_at_once_one_holds() {
    let Some(stage) = Stage::new("of_two_runs_at_once_one_holds") else {
        return;
    };
    stage.scripts("note pre; sleep 1", "note post");
    let args = stage.args(&[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut first = stage.lab.command(&args);
    first.stdout(std::process::Stdio::null());
    let mut first = first.spawn().unwrap();
    killed::wait_for(|| stage.noted() == ["pre"]);
    stage.snapshot(&[]).expect(6);
    assert_eq!(crate::cli::lab::code_of(wait(&mut first, "the first")), 0);
    assert_eq!(stage.noted(), ["pre", "post"]);
}

#[test]
fn the_path_of_a_hook_need_not_be_text() {
    let Some(stage) = Stage::new("the_path_of_a_hook_need_not_be_text") else {
        return;
    };
    stage.scripts("note pre", "note post");
    let odd = stage
        .pre()
        .with_file_name(std::ffi::OsStr::from_bytes(b"\xff.sh"));
    fs::rename(stage.pre(), &odd).unwrap();
    let mut command = stage.lab.command(&["snapshot", &stage.disk.device]);
    command.args(["--level", "application", "--prescript"]);
    command.arg(&odd).arg("--postscript").arg(stage.post());
    crate::cli::lab::finish(&mut command).expect(0);
    assert_eq!(stage.noted(), ["pre", "post"]);
    fs::remove_file(&odd).unwrap();
    let run = crate::cli::lab::finish(&mut command).expect(3);
    assert!(run.stdout.contains("prescript: "), "{run:?}");
    assert_eq!(stage.noted(), ["pre", "post"]);
}
