//! The commands, on a directory and in S3: what they say to programs and to people.

use super::*;
use crate::cli::lab::{Lab, PROGRAM, Run, finish};
use crate::s3::server::{Server, environment};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command};
use stillpoint::store::LocalStore;
use tempfile::TempDir;

/// A directory with a vault of some days, beside which the program runs.
struct Place {
    folder: TempDir,
    vault: String,
    /// Where its manifests are as files.
    manifests: PathBuf,
    days: Vec<SnapshotId>,
    server: Option<Server>,
}

/// Puts one snapshot a day, made by hand, the oldest first.
fn fill(vault: &Arc<Vault>, manifests: &std::path::Path, days: i64) -> Vec<SnapshotId> {
    let disk = ModelDisk::new(0, 3 * BLOCK_SIZE, 1);
    let mut manifest = take(vault, &[disk], Take::default()).unwrap().manifest;
    let first = manifest.snapshot;
    let now = Timestamp::now();
    let made = (0..days).rev().map(|day| {
        manifest.time = now - seconds(day * DAY);
        let named = u64::try_from(manifest.time.as_millisecond()).unwrap();
        manifest.snapshot = SnapshotId::generate(named);
        let path = manifests.join(manifest.snapshot.to_string());
        std::fs::write(&path, manifest.encode(vault.sealer()).unwrap()).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(manifest.time.into()).unwrap();
        manifest.snapshot
    });
    let made = made.collect();
    vault
        .delete(&vault.find(&first.to_string()).unwrap())
        .unwrap();
    made
}

impl Place {
    fn directory() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        let store = LocalStore::create(&path).unwrap();
        let vault = Arc::new(Vault::create(Arc::new(store), vault_options()).unwrap());
        let manifests = path.join("snapshots/host");
        let days = fill(&vault, &manifests, 10);
        let vault = path.to_str().unwrap().into();
        Self {
            folder,
            vault,
            manifests,
            days,
            server: None,
        }
    }

    fn bucket() -> Self {
        let server = Server::start();
        let store: Arc<dyn ObjectStore> = Arc::new(server.store("v"));
        let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
        let manifests = server.files("v/snapshots/host");
        let days = fill(&vault, &manifests, 10);
        Self {
            folder: tempfile::tempdir().unwrap(),
            vault: "s3://bucket/v".into(),
            manifests,
            days,
            server: Some(server),
        }
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = Command::new(PROGRAM);
        if let Some(server) = &self.server {
            environment(&mut command, &server.endpoint);
        }
        command
            .args(args)
            .env("STILLPOINT_VAULT", &self.vault)
            .env("STILLPOINT_CONFIG_DIR", "/nowhere")
            .env("STILLPOINT_CACHE_DIR", self.folder.path().join("cache"));
        finish(&mut command)
    }

    fn left(&self) -> usize {
        std::fs::read_dir(&self.manifests).unwrap().count()
    }
}

fn ids(list: &Value) -> Vec<&str> {
    let all = list.as_array().unwrap().iter();
    all.map(|one| one["snapshot"].as_str().unwrap()).collect()
}

#[test]
fn it_is_asked_done_and_done_again() {
    for place in [Place::directory(), Place::bucket()] {
        let asked = place.run(&["prune", "--keep-daily", "4", "--dry-run", "--json"]);
        let mut asked = asked.expect(0).json();
        assert_eq!(place.left(), 10);
        assert_eq!(ids(&asked["removed"]).len(), 6);
        for one in asked["kept"].as_array().unwrap() {
            assert_eq!(one["why"][0]["reason"], "daily", "{one}");
        }
        let mut done = place
            .run(&["prune", "--keep-daily", "4", "--json"])
            .expect(0)
            .json();
        assert_eq!(
            (asked["dry_run"].take(), done["dry_run"].take()),
            (true.into(), false.into())
        );
        assert_eq!(asked, done);
        assert_eq!(place.left(), 4);
        let again = place.run(&["prune", "--keep-daily", "4"]).expect(0);
        assert!(again.stdout.contains("deleted 0 snapshots"), "{again:?}");
        assert_eq!(place.left(), 4);
    }
}

#[test]
fn a_rule_must_be_given() {
    let place = Place::directory();
    let refused = place.run(&["prune"]).expect(2);
    assert!(
        refused.stderr.contains("no rule says what to keep"),
        "{refused:?}"
    );
    for args in [
        ["--keep-last", "0"],
        ["--keep-daily", "-1"],
        ["--keep-within", "soon"],
    ] {
        place.run(&[&["prune"][..], &args].concat()).expect(2);
    }
    place
        .run(&["prune", "--keep-last", "1", "--host", "nosuch"])
        .expect(1);
    assert_eq!(place.left(), 10);
}

#[test]
fn what_is_kept_is_refused_and_listed_and_shown() {
    for place in [Place::directory(), Place::bucket()] {
        let id = place.days[0].to_string();
        place.run(&["keep", &id, "--hold", "audit"]).expect(0);
        let kept = place
            .run(&["keep", &id, "--for", "30d", "--json"])
            .expect(0)
            .json();
        assert_eq!(kept["kept"]["holds"][0], "audit");
        let refused = place.run(&["delete", &id]).expect(6);
        assert!(
            refused.stderr.contains("by the hold \"audit\""),
            "{refused:?}"
        );
        place.run(&["delete", &id, "--dry-run"]).expect(6);
        let pruned = place
            .run(&["prune", "--keep-last", "1", "--json"])
            .expect(0)
            .json();
        let stays = &pruned["kept"][1];
        assert_eq!(
            (&stays["snapshot"], &stays["why"][0]["reason"]),
            (&id.into(), &"kept".into())
        );
        assert_eq!(place.left(), 2);

        let id = place.days[0].to_string();
        let listed = place.run(&["list", "--json"]).expect(0).json();
        assert_eq!(listed["snapshots"][1]["kept"], stays["why"][0]["kept"]);
        assert_eq!(listed["snapshots"][0]["kept"], Value::Null);
        let shown = place.run(&["show", &id, "--json"]).expect(0).json();
        assert_eq!(shown["kept"], stays["why"][0]["kept"]);
        let text = place.run(&["list"]).expect(0).stdout;
        assert!(text.contains(&format!("kept: {id} until ")), "{text}");

        place.run(&["keep", &id, "--release", "nosuch"]).expect(1);
        place.run(&["keep", &id, "--release", "audit"]).expect(0);
        let still = place.run(&["delete", &id]).expect(6);
        assert!(still.stderr.contains("is kept until "), "{still:?}");
        place.run(&["keep", &id, "--until", "2001-01-01"]).expect(2);
        place.run(&["keep", &id, "--for", "4000d"]).expect(2);
    }
}

/// A real run, which is told how long its snapshot stays.
#[test]
fn a_snapshot_stays_for_as_long_as_its_run_was_told() {
    let Some(lab) = Lab::with_vault("prune: snapshot --keep") else {
        return;
    };
    let disk = lab.disk("a", 8 << 20);
    let device = disk.device.as_str();
    lab.run(&["snapshot", device, "--keep", "3651d"]).expect(2);
    lab.run(&["snapshot", device, "--keep", "0s"]).expect(2);
    let taken = lab
        .run(&["snapshot", device, "--keep", "3650d", "--json"])
        .json();
    let id = taken["snapshot"].as_str().unwrap();
    assert!(taken["kept"]["until"].as_str().is_some(), "{taken}");
    let refused = lab.run(&["delete", id]).expect(6);
    assert!(refused.stderr.contains("is kept until 20"), "{refused:?}");
    assert!(lab.json(&["list"])["snapshots"][0]["kept"]["until"].is_string());
    let plain = lab.run(&["snapshot", device, "--json"]).json();
    assert_eq!(plain["kept"], Value::Null);
    // The keep is the first one's alone.
    let pruned = lab.json(&["prune", "--keep-last", "1"]);
    assert_eq!(pruned["removed"], Value::Array(Vec::new()));
    assert_eq!(pruned["kept"][1]["why"][0]["reason"], "kept");
}

/// 10,000 snapshots of 100 hosts in a directory.
#[test]
fn a_prune_of_ten_thousand_takes_little_memory() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("vault");
    let store = LocalStore::create(&path).unwrap();
    let vault = Arc::new(Vault::create(Arc::new(store), vault_options()).unwrap());
    let disk = ModelDisk::new(0, 3 * BLOCK_SIZE, 1);
    let mut manifest = take(&vault, &[disk], Take::default()).unwrap().manifest;
    let now = Timestamp::now();
    for host in 0..100 {
        manifest.host = format!("host-{host}");
        let manifests = path.join("snapshots").join(&manifest.host);
        std::fs::create_dir(&manifests).unwrap();
        for day in 0..100 {
            manifest.time = now - seconds(day * DAY);
            let named = u64::try_from(manifest.time.as_millisecond()).unwrap();
            manifest.snapshot = SnapshotId::generate(named);
            let file = manifests.join(manifest.snapshot.to_string());
            std::fs::write(&file, manifest.encode(vault.sealer()).unwrap()).unwrap();
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_modified(manifest.time.into()).unwrap();
        }
    }
    let begun = std::time::Instant::now();
    let mut child = Command::new(PROGRAM)
        .args([
            "prune",
            "--keep-daily",
            "7",
            "--keep-monthly",
            "3",
            "--dry-run",
            "--json",
        ])
        .args(["--vault", path.to_str().unwrap()])
        .env("STILLPOINT_CONFIG_DIR", "/nowhere")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let memory = peak_memory(&mut child);
    println!("{} MiB, {:.1?}", memory >> 10, begun.elapsed());
    assert!(memory < 128 << 10, "{memory} KiB");
}

/// The most memory that a child has taken, as far as it was seen, in KiB.
fn peak_memory(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let seen = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        most = most.max(seen.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success() && most > 0);
            return most;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
