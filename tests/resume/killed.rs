//! The program killed with -9 in the middle of a full of a loop disk, into a directory and into a
//! bucket of S3: the next one puts only the rest, and what is restored is the disk.

use super::noise;
use crate::cli::lab::{Disk, Lab, Run, finish};
use crate::s3::server::{BUCKET, Server, environment};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stillpoint::model::BLOCK_SIZE;

/// Seven segments, the last one of which is not full.
const SIZE: u64 = 200 << 20;
const SEGMENTS: usize = 7;
/// Blocks of the disk in a full segment.
const FULL: u64 = 496;

/// A vault in a directory, or in a bucket.
struct Place {
    lab: Lab,
    server: Option<Server>,
}

impl Place {
    fn new(test: &str, far: bool) -> Option<Self> {
        let place = Self {
            lab: Lab::new(test)?,
            server: far.then(Server::start),
        };
        let name = match far {
            true => format!("s3://{BUCKET}/vault"),
            false => place.lab.at("vault"),
        };
        place
            .run(&["init", &name, "--compression", "none"])
            .expect(0);
        Some(place)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        if let Some(server) = &self.server {
            environment(&mut command, &server.endpoint);
            command.env("STILLPOINT_VAULT", format!("s3://{BUCKET}/vault"));
        }
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        finish(&mut self.command(args))
    }

    /// How many segments are in the vault.
    fn segments(&self) -> usize {
        let vault = match &self.server {
            Some(server) => server.files("vault"),
            None => self.lab.path("vault"),
        };
        let folders = std::fs::read_dir(vault.join("segments")).into_iter();
        let files = folders.flatten().flatten().filter_map(|folder| {
            let name = folder.file_name();
            let files = std::fs::read_dir(folder.path()).ok()?;
            let whole = move |file: &std::fs::DirEntry| {
                let file = file.file_name();
                let (file, folder) = (file.to_str().unwrap(), name.to_str().unwrap());
                file.len() == 32 && file.starts_with(folder)
            };
            Some(files.flatten().filter(whole).count())
        });
        files.sum()
    }

    /// Kills a snapshot when there are so many segments; returns how many there are then.
    fn kill_at(&self, disk: &Disk, segments: usize) -> usize {
        let mut command = self.command(&["snapshot", &disk.device, "--level", "crash"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(120);
        while self.segments() < segments {
            assert!(
                child.try_wait().unwrap().is_none(),
                "it ended before it was killed"
            );
            assert!(Instant::now() < until, "it puts nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success(), "it was done before it was killed");
        // A request that was under way may still be served.
        std::thread::sleep(Duration::from_millis(200));
        self.segments()
    }

    /// How many segments the runs have noted that were killed.
    fn noted(&self) -> usize {
        let notes = std::fs::read_dir(self.lab.path("cache/sent")).unwrap();
        let entries = notes.map(|note| {
            let bytes = std::fs::read(note.unwrap().path()).unwrap();
            let (mut entries, mut at) = (0, 0);
            while let Some(length) = bytes.get(at..at + 4) {
                at += 4 + u32::from_le_bytes(length.try_into().unwrap()) as usize + 32;
                entries += usize::from(at <= bytes.len());
            }
            // The first one says whose note it is.
            entries - 1
        });
        entries.sum()
    }

    fn snapshot(&self, disk: &Disk) -> Value {
        let args = ["snapshot", &disk.device, "--level", "crash", "--json"];
        self.run(&args).expect(0).json()
    }

    /// The newest snapshot of the disk is what the disk holds.
    fn check(&self, truth: &Path) {
        let target = self.lab.at("restored.img");
        self.run(&["restore", "latest", &target, "--force"])
            .expect(0);
        let (one, two) = (
            std::fs::read(&target).unwrap(),
            std::fs::read(truth).unwrap(),
        );
        assert!(one == two, "what is restored is not the disk");
        self.run(&["verify", "--all"]).expect(0);
    }
}

fn noisy_disk(place: &Place) -> (Disk, PathBuf) {
    let disk = place.lab.disk("disk", SIZE);
    write(&disk, 0, &noise(SIZE, 1));
    let file = place.lab.path("disk");
    (disk, file)
}

fn write(disk: &Disk, offset: u64, bytes: &[u8]) {
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(bytes, offset).unwrap();
    device.sync_all().unwrap();
}

/// Blocks of the disk that a run did not put again.
fn resumed(taken: &Value) -> u64 {
    taken["disks"][0]["resumed_bytes"].as_u64().unwrap() / BLOCK_SIZE
}

/// `at_once`: how many segments may have been put and not noted yet.
fn killed_and_gone_on(far: bool, at_once: usize) {
    for moment in [1, 3, 5] {
        let test = "a run that was killed is gone on from";
        let Some(place) = Place::new(test, far) else {
            return;
        };
        let (disk, file) = noisy_disk(&place);
        let there = place.kill_at(&disk, moment);
        // Written after it was killed. The last segment is put at the end only.
        write(&disk, 0, &noise(10, 7));
        write(&disk, SIZE - 10, &noise(10, 8));
        let noted = place.noted();
        assert!(
            (there.saturating_sub(at_once)..=there).contains(&noted),
            "{noted} of {there}"
        );
        let taken = place.snapshot(&disk);
        let put = place.segments() - there;
        let what = format!("{moment}: {noted} of {there} were noted, {put} were put: {taken}");
        // What was not put, and the first block, which has changed.
        assert!(put <= SEGMENTS - noted + 1, "{what}");
        // The first block was in the first segment, or in none.
        let known = (noted as u64 * FULL).saturating_sub(1);
        assert!((known..=known + 1).contains(&resumed(&taken)), "{what}");
        assert_eq!(taken["disks"][0]["mode"], "full", "{what}");
        let notes = std::fs::read_dir(place.lab.path("cache/sent")).unwrap();
        assert_eq!(notes.count(), 0, "{what}");
        place.check(&file);
        // The next one is like any other.
        write(&disk, 5 * BLOCK_SIZE, &noise(10, 9));
        let next = place.snapshot(&disk);
        assert_eq!(resumed(&next), 0, "{next}");
        place.check(&file);
    }
}

#[test]
fn a_run_into_a_directory_that_was_killed_is_gone_on_from() {
    killed_and_gone_on(false, 1);
}

#[test]
fn a_run_into_a_bucket_that_was_killed_is_gone_on_from() {
    killed_and_gone_on(true, 4);
}

#[test]
fn runs_that_are_killed_again_and_again_get_there() {
    let Some(place) = Place::new("killed again and again", false) else {
        return;
    };
    let (disk, file) = noisy_disk(&place);
    let mut there = 0;
    for killed in 1..=3 {
        there = place.kill_at(&disk, there + 1);
        let notes = std::fs::read_dir(place.lab.path("cache/sent")).unwrap();
        assert!(notes.count() <= killed);
    }
    let noted = place.noted();
    // Of each that was killed one may not have been noted.
    assert!(noted + 3 >= there, "{noted} of {there}");
    let taken = place.snapshot(&disk);
    let put = place.segments() - there;
    assert!(
        put <= SEGMENTS - noted + 1,
        "{there} were there, {put} put: {taken}"
    );
    assert_eq!(resumed(&taken), noted as u64 * FULL, "{there}: {taken}");
    place.check(&file);
}

#[test]
fn what_was_gone_on_from_is_told_in_words() {
    let Some(place) = Place::new("gone on from, in words", false) else {
        return;
    };
    let (disk, _) = noisy_disk(&place);
    place.kill_at(&disk, 3);
    let said = place
        .run(&["snapshot", &disk.device, "--level", "crash", "-v"])
        .expect(0);
    assert!(
        said.stdout
            .contains("were in the vault from a run that was cut off"),
        "{said:?}"
    );
    assert!(
        said.stderr.contains("what is the same is not put again"),
        "{said:?}"
    );
}
