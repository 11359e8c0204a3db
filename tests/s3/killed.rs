//! A run that is killed at each of its requests, before the store has got it and after: what was
//! reported stays whole, nothing half-done is seen, the disk goes on, and so does the next run.

use super::proxy::{Plan, Proxy};
use super::server::{BUCKET, Server, environment};
use crate::cli::lab::{Lab, Run, finish, noise, tool};
use crate::support::host::LoopDisk;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// More requests than an incremental makes.
const MANY: usize = 60;

struct Bench<'a> {
    lab: &'a Lab,
    proxy: &'a Proxy,
    device: &'a str,
    place: &'a Path,
    /// Where the server keeps the vault.
    vault: PathBuf,
    /// The same as it was before the first kill.
    base: PathBuf,
}

impl Bench<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        environment(&mut command, &self.proxy.endpoint);
        command.env("STILLPOINT_VAULT", format!("s3://{BUCKET}/hosts/one"));
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        finish(&mut self.command(args)).expect(0)
    }

    fn ids(&self) -> Vec<String> {
        let listed = self.run(&["list", "--json"]).json();
        let all = listed["snapshots"].as_array().unwrap();
        let id = |one: &serde_json::Value| one["snapshot"].as_str().unwrap().to_owned();
        all.iter().map(id).collect()
    }

    /// Starts a run and kills it when its request after `before` others has come. Whether it was
    /// killed: false when it has ended before, with success.
    fn killed_at(&self, before: usize, passed_on: bool) -> bool {
        let file = self.place.join(format!("file-{before}-{passed_on}"));
        std::fs::write(file, noise(300_000, before as u64)).unwrap();
        // What killed runs leave would be asked for by the next ones: counts would grow.
        std::fs::remove_dir_all(&self.vault).unwrap();
        let (from, to) = (self.base.to_str().unwrap(), self.vault.to_str().unwrap());
        tool("cp", &["-a", from, to]);
        let told = self.proxy.hold(before, passed_on);
        let mut run = self.command(&["snapshot", self.device, "--quiet"]);
        let mut child = run.spawn().unwrap();
        let killed = loop {
            match told.recv_timeout(Duration::from_millis(20)) {
                Ok(()) => break true,
                Err(RecvTimeoutError::Disconnected) => panic!("the proxy has let go"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break false;
            }
        };
        if killed {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
            child.wait().unwrap();
        }
        self.proxy.let_go();
        killed
    }
}

#[test]
fn a_run_that_is_killed_at_any_request_leaves_whole_snapshots() {
    let Some(lab) = Lab::new("a_run_that_is_killed_at_any_request_leaves_whole_snapshots") else {
        return;
    };
    let server = Server::start();
    let plan = Plan {
        seed: 0,
        percent: 0,
        faults: Vec::new(),
    };
    let proxy = Proxy::start(&server.endpoint, plan);
    let mut disk = lab.disk("a", 64 << 20);
    let place = disk.mount("ext4");
    let bench = Bench {
        lab: &lab,
        proxy: &proxy,
        device: &disk.device,
        place: &place,
        vault: server.files("hosts/one"),
        base: lab.path("base"),
    };
    bench.run(&["init", "s3://bucket/hosts/one"]);
    bench.run(&["snapshot", bench.device]);
    tool(
        "cp",
        &["-a", bench.vault.to_str().unwrap(), &lab.at("base")],
    );
    let known = bench.ids();
    let mut ends = [0; 2];
    for passed_on in [false, true] {
        for before in 0..MANY {
            if !bench.killed_at(before, passed_on) {
                break;
            }
            assert!(before + 1 < MANY, "no end of requests");
            let now = bench.ids();
            // One more at most, if its manifest, which comes last, has arrived.
            let added = now.iter().filter(|id| !known.contains(id)).count();
            assert!(known.iter().all(|id| now.contains(id)), "{known:?} {now:?}");
            assert!(added <= 1, "{added} after {before} requests");
            ends[added] += 1;
            bench.run(&["verify", "--all"]);
        }
    }
    // Most requests come before the manifest's, and some after it.
    assert!(ends[0] >= 14 && ends[1] >= 2, "{ends:?}");
    bench.run(&["snapshot", bench.device]);
    let target = lab.at("restored.img");
    bench.run(&["restore", "latest", &target]);
    let files = std::fs::read_dir(&place).unwrap();
    let names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
    let restored = LoopDisk::of_file(target.as_ref(), &[]);
    let mount = lab.path("restored.mnt");
    std::fs::create_dir_all(&mount).unwrap();
    let at = mount.to_str().unwrap();
    tool("mount", &["-o", "ro,noload", &restored.device, at]);
    let differs = |name: &&std::ffi::OsString| {
        name.to_str().is_some_and(|name| name.starts_with("file-"))
            && std::fs::read(mount.join(name)).ok() != std::fs::read(place.join(name)).ok()
    };
    let different: Vec<_> = names.iter().filter(differs).collect();
    tool("umount", &[at]);
    assert!(different.is_empty(), "{different:?}");
    assert!(names.len() >= ends[0], "{} files", names.len());
    disk.unmount();
}
