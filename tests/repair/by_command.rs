//! By the command line, on a real disk, a directory and a bucket: what it says, what it does to the
//! files, and its exit codes.

use crate::cli::lab::{Lab, Run, finish, noise};
use crate::s3::server::{Server, environment};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BUCKET: &str = "s3://bucket/second";

struct Scene {
    lab: Lab,
    server: Server,
    id: String,
}

impl Scene {
    /// A vault with a snapshot, and its second place in a bucket.
    fn new(test: &str) -> Option<Self> {
        let lab = Lab::with_vault(test)?;
        let disk = lab.disk("disk", 8 << 20);
        fs::write(&disk.device, noise(8 << 20, 1)).unwrap();
        let mut scene = Self {
            lab,
            server: Server::start(),
            id: String::new(),
        };
        let taken = scene.json(&["snapshot", &disk.device], 0);
        scene.id = taken["snapshot"].as_str().unwrap().to_owned();
        scene.run(&["mirror", "--to", BUCKET, "--init"]).expect(0);
        Some(scene)
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = self.lab.command(args);
        environment(&mut command, &self.server.endpoint);
        finish(&mut command)
    }

    fn json(&self, args: &[&str], code: i32) -> Value {
        let run = self.run(&[args, &["--json"]].concat());
        run.expect(code).json()
    }
}

/// The file of a segment.
fn segment_in(vault: &Path) -> PathBuf {
    let mut found = vec![vault.join("segments")];
    while let Some(path) = found.pop() {
        if path.is_file() {
            return path;
        }
        found.extend(
            fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
    }
    panic!("there is no segment");
}

/// Changes a chunk of a segment.
fn rot(segment: &Path) {
    let file = fs::File::options().write(true).open(segment).unwrap();
    file.write_all_at(&[0xff; 8], 4096).unwrap();
}

#[test]
fn a_vault_is_repaired_from_a_bucket_and_a_bucket_from_a_directory() {
    let test = "a_vault_is_repaired_from_a_bucket_and_a_bucket_from_a_directory";
    let Some(scene) = Scene::new(test) else {
        return;
    };
    let first = scene.lab.at("vault");
    let places = [
        (first.as_str(), BUCKET, scene.lab.path("vault")),
        (BUCKET, first.as_str(), scene.server.files("second")),
    ];
    for (place, other, files) in places {
        let segment = segment_in(&files);
        let good = fs::read(&segment).unwrap();
        let at = ["--vault", place];
        let repair = |more: &[&str], code| scene.json(&[&["repair"], &at[..], more].concat(), code);
        let well = repair(&[], 0);
        assert_eq!(
            (&well["repaired"], &well["damaged"]),
            (&json!([]), &json!([]))
        );
        rot(&segment);
        let said = scene
            .run(&[&["verify", "--all"], &at[..]].concat())
            .expect(4);
        assert!(
            said.stdout
                .contains("on the disk, of which no partitions are known"),
            "{said:?}"
        );
        assert!(said.stdout.contains("stillpoint repair --from"), "{said:?}");
        let listed = scene.run(&[&["list"], &at[..]].concat()).expect(0);
        assert!(
            listed.stdout.contains("damage was found in this vault"),
            "{listed:?}"
        );
        let show = scene.run(&[&["show", "latest"], &at[..]].concat());
        let said = show.expect(0).stdout;
        assert!(
            said.contains("64.00 KiB of this data was found damaged before"),
            "{said}"
        );
        let alone = repair(&[], 4);
        assert_eq!(alone["damaged"][0]["snapshot"], scene.id.as_str());
        assert_eq!(alone["left"].as_array().unwrap().len(), 1, "{alone}");
        let from = ["--from", other];
        let planned = repair(&[&from[..], &["--dry-run"]].concat(), 4);
        assert_eq!(planned["repaired"][0]["how"], "from_second", "{planned}");
        assert_ne!(
            fs::read(&segment).unwrap(),
            good,
            "a dry run has put it right"
        );
        let done = repair(&from, 0);
        assert_eq!(done["repaired"], planned["repaired"]);
        let show = scene.json(&[&["show", "latest"], &at[..]].concat(), 0);
        assert_eq!(show["disks"][0]["blocks"]["noted_damaged_bytes"], 0);
        assert_eq!(fs::read(&segment).unwrap(), good);
        scene
            .run(&[&["verify", "--all"], &at[..]].concat())
            .expect(0);
        assert!(
            !files.join("damaged").exists()
                || fs::read_dir(files.join("damaged"))
                    .unwrap()
                    .next()
                    .is_none()
        );
    }
}

#[test]
fn a_lost_vault_json_is_put_back() {
    let Some(scene) = Scene::new("a_lost_vault_json_is_put_back") else {
        return;
    };
    let file = scene.lab.path("vault/vault.json");
    let good = fs::read(&file).unwrap();
    for rotten in [None, Some(&b"rubbish"[..]), Some(&b""[..])] {
        match rotten {
            None => fs::remove_file(&file).unwrap(),
            Some(bytes) => fs::write(&file, bytes).unwrap(),
        }
        scene.run(&["repair"]).expect(4);
        let planned = scene.json(&["repair", "--from", BUCKET, "--dry-run"], 4);
        assert_eq!(planned["repaired"][0]["object"], "vault.json", "{planned}");
        assert_ne!(fs::read(&file).ok().as_deref(), Some(&good[..]));
        let done = scene.json(&["repair", "--from", BUCKET], 0);
        assert_eq!(done["vault_json_put_back"], true, "{done}");
        assert_eq!(fs::read(&file).unwrap(), good);
    }
    // Another vault is no second place.
    scene.run(&["init", &scene.lab.at("other")]).expect(0);
    fs::remove_file(&file).unwrap();
    let said = scene.json(&["repair", "--from", &scene.lab.at("other")], 4);
    assert!(!file.exists(), "{said}");
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no manifest there says"),
        "{said}"
    );
    fs::write(&file, good).unwrap();
    let said = scene.json(&["repair", "--from", &scene.lab.at("other")], 1);
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("another vault"),
        "{said}"
    );
    scene.json(&["repair", "--from", &scene.lab.at("vault")], 2);
    scene.json(&["repair", "--from", "s3://bucket/none"], 2);
    scene.json(&["repair", "--from", BUCKET, "--vault", BUCKET], 2);
}
