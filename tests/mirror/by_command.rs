//! By the command line: a directory to a bucket and back, with real disks; what hosts do when the
//! first place is lost; and what the command says.

use crate::cli::lab::{Lab, Run, finish, noise, wait};
use crate::s3::server::{SECRET, Server, environment};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// A host with a disk, a vault in a directory, and a server with a bucket.
struct Scene {
    lab: Lab,
    server: Server,
}

const BUCKET: &str = "s3://bucket/second";

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let lab = Lab::with_vault(test)?;
        let server = Server::start();
        Some(Self { lab, server })
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = self.lab.command(args);
        environment(&mut command, &self.server.endpoint);
        let run = finish(&mut command);
        assert!(!format!("{run:?}").contains(SECRET), "{run:?}");
        run
    }

    fn json(&self, args: &[&str], code: i32) -> Value {
        let run = self.run(&[args, &["--json"]].concat());
        run.expect(code).json()
    }

    /// A snapshot of the disk, in this mode; one from which a write was hidden is taken again.
    fn snapshot(&self, vault: &str, device: &str, mode: &str) -> String {
        for _ in 0..5 {
            let args = ["snapshot", device, "--vault", vault];
            let taken = self.json(&args, 0);
            let id = taken["snapshot"].as_str().unwrap().to_owned();
            if taken["disks"][0]["mode"] == mode {
                return id;
            }
            let reason = taken["disks"][0]["reason"].as_str().unwrap();
            assert!(reason.contains("did not see"), "{taken}");
            self.run(&["delete", &id, "--vault", vault]).expect(0);
        }
        panic!("writes were hidden from tracking five times in a row");
    }

    /// What a snapshot's disk is in a vault.
    fn restored(&self, vault: &str, id: &str) -> Vec<u8> {
        let target = self.lab.at("restored.img");
        let args = ["restore", id, &target, "--force", "--vault", vault];
        self.run(&args).expect(0);
        fs::read(target).unwrap()
    }
}

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one.as_str().unwrap()).collect()
}

#[test]
fn hosts_go_on_with_the_second_place_when_the_first_is_lost() {
    let Some(scene) = Scene::new("hosts_go_on_with_the_second_place_when_the_first_is_lost") else {
        return;
    };
    let (lab, first) = (&scene.lab, scene.lab.at("vault"));
    let mut disk = lab.disk("disk", 64 << 20);
    let place = disk.mount("ext4");
    fs::write(place.join("one"), noise(36 << 20, 1)).unwrap();
    let full = scene.snapshot(&first, &disk.device, "full");
    fs::write(place.join("two"), noise(2 << 20, 2)).unwrap();
    let second = scene.snapshot(&first, &disk.device, "incremental");

    for more in [&[][..], &["--dry-run"]] {
        let refused = scene.json(&[&["mirror", "--to", BUCKET], more].concat(), 2);
        let hint = refused["error"]["hint"].as_str().unwrap();
        assert!(hint.contains("--init"), "{refused}");
        assert!(!scene.server.files("second").exists(), "something was put");
    }
    let planned = scene.json(&["mirror", "--to", BUCKET, "--init", "--dry-run"], 0);
    assert!(!scene.server.files("second").exists(), "nothing was put");
    let sent = scene.json(&["mirror", "--to", BUCKET, "--init"], 0);
    assert_eq!(strings(&sent["sent"]), [second.as_str(), &full]);
    for key in ["sent", "sent_objects", "sent_bytes", "snapshots"] {
        assert_eq!(sent[key], planned[key], "{key}");
    }
    assert_eq!(
        (&planned["dry_run"], &sent["dry_run"]),
        (&true.into(), &false.into())
    );
    assert_eq!(sent["to"], BUCKET);
    // Besides what is sent: the note that it is at work, and `vault.json`.
    let put = |answer: &Value| answer["requests_there"]["put"].as_u64().unwrap();
    assert_eq!(put(&sent), sent["sent_objects"].as_u64().unwrap() + 2);
    assert!(planned["requests_there"].is_null(), "nobody was asked");
    assert!(sent["requests"]["get"].as_u64().unwrap() > 0, "{sent}");
    let again = scene.json(&["mirror", "--to", BUCKET], 0);
    assert_eq!(
        (&again["sent_objects"], &again["there_before"]),
        (&0.into(), &2.into())
    );

    // A third place, from the second one.
    let third = lab.at("third");
    let args = [
        "mirror", "--vault", BUCKET, "--to", &third, "latest", "--init",
    ];
    assert_eq!(strings(&scene.json(&args, 0)["sent"]), [second.as_str()]);

    let truth = [&full, &second].map(|id| scene.restored(&first, id));
    fs::rename(&first, lab.at("lost")).unwrap();
    let back = [&full, &second].map(|id| scene.restored(BUCKET, id));
    assert!(truth == back, "other bytes");
    assert!(scene.restored(&third, &second) == truth[1]);
    scene.run(&["verify", "--all", "--vault", BUCKET]).expect(0);
    // The marks prove what has changed, whichever place the parent is read from.
    fs::write(place.join("three"), noise(1 << 20, 3)).unwrap();
    let next = scene.snapshot(BUCKET, &disk.device, "incremental");
    let shown = scene.json(&["show", "latest", "--vault", BUCKET], 0);
    assert_eq!(shown["snapshot"], next.as_str());
    assert_eq!(shown["disks"][0]["parent"], second.as_str());

    // The first place comes back, and gets what it lacks.
    fs::rename(lab.at("lost"), &first).unwrap();
    let home = scene.json(&["mirror", "--vault", BUCKET, "--to", &first], 0);
    assert_eq!(strings(&home["sent"]), [next.as_str()]);
    assert!(scene.restored(&first, &next) == scene.restored(BUCKET, &next));
    scene.run(&["verify", "--all"]).expect(0);
    disk.unmount();
}

#[test]
fn a_segment_cut_short_in_a_bucket_is_put_right() {
    let Some(scene) = Scene::new("a_segment_cut_short_in_a_bucket_is_put_right") else {
        return;
    };
    let disk = scene.lab.disk("disk", 8 << 20);
    fs::write(&disk.device, noise(8 << 20, 1)).unwrap();
    let first = scene.lab.at("vault");
    let id = scene.snapshot(&first, &disk.device, "full");
    scene.run(&["mirror", "--to", BUCKET, "--init"]).expect(0);
    let cut = longest_below(&scene.server.files("second/segments"));
    let file = fs::File::options().write(true).open(&cut).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let name = cut.file_name().unwrap().to_str().unwrap();

    let said = scene
        .run(&["mirror", "--to", BUCKET, "--dry-run"])
        .expect(4);
    assert!(said.stdout.contains(name), "{said:?}");
    let said = scene.json(&["mirror", "--to", BUCKET], 4);
    assert_eq!(said["wrong"].as_array().unwrap().len(), 1, "{said}");
    assert!(
        said["wrong"][0]["object"].as_str().unwrap().contains(name),
        "{said}"
    );
    assert_eq!(said["wrong"][0]["replaced"], true);
    scene.run(&["mirror", "--to", BUCKET]).expect(0);
    scene.run(&["verify", "--all", "--vault", BUCKET]).expect(0);
    assert!(scene.restored(BUCKET, &id) == scene.restored(&first, &id));

    // Damage of the first place is not carried into a new one.
    let segment = longest_below(&scene.lab.path("vault/segments"));
    let file = fs::File::options().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 8], 4096).unwrap();
    let said = scene.json(&["mirror", "--to", "s3://bucket/third", "--init"], 4);
    assert_eq!(said["damaged"][0]["snapshot"], id.as_str(), "{said}");
    assert_eq!(said["damaged"][0]["there"], false);
    let listed = scene.json(&["list", "--vault", "s3://bucket/third"], 0);
    assert_eq!(listed["snapshots"], serde_json::json!([]));
}

fn longest_below(folder: &Path) -> std::path::PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push((path.metadata().unwrap().len(), path)),
            }
        }
    }
    files.into_iter().max().unwrap().1
}

#[test]
fn what_is_no_second_place_is_refused_in_words() {
    let Some(scene) = Scene::new("what_is_no_second_place_is_refused_in_words") else {
        return;
    };
    let lab = &scene.lab;
    let (first, other) = (lab.at("vault"), lab.at("other"));
    scene.run(&["init", &other]).expect(0);
    scene.run(&["init", "s3://bucket/other"]).expect(0);
    fs::write(lab.path("file"), "x").unwrap();
    let within = format!("{first}/within");
    for (to, code) in [
        (first.as_str(), 2),
        (&within, 2),
        (&other, 1),
        (&lab.at("file"), 2),
        (&lab.at("no/such/folder"), 1),
        ("s3://bucket/other", 1),
        ("s3://none/second", 1),
        ("gs://bucket/second", 2),
        ("", 2),
    ] {
        let said = scene.json(&["mirror", "--to", to, "--init"], code);
        assert!(said["error"]["hint"].as_str().unwrap().len() > 8, "{said}");
    }
    let far = ["mirror", "--vault", "s3://bucket/other", "--to"];
    for to in [
        "s3://bucket/other",
        "s3://bucket/other/within",
        "s3://bucket",
    ] {
        let said = scene.json(&[&far[..], &[to]].concat(), 2);
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains("second copy"), "{said}");
    }
    let unknown = scene.json(&["mirror", "--to", BUCKET, "00"], 1);
    let message = unknown["error"]["message"].as_str().unwrap();
    assert!(message.contains("nothing was mirrored"), "{unknown}");
    assert!(!scene.server.files("second").exists(), "nothing was put");
    // An empty vault has a second place, too.
    let empty = scene.run(&["mirror", "--to", BUCKET, "--init"]).expect(0);
    assert!(empty.stdout.contains("nothing is missing"), "{empty:?}");
}

#[test]
fn it_runs_as_a_job_and_ends_by_a_signal() {
    let Some(scene) = Scene::new("it_runs_as_a_job_and_ends_by_a_signal") else {
        return;
    };
    let disk = scene.lab.disk("disk", 8 << 20);
    fs::write(&disk.device, noise(8 << 20, 1)).unwrap();
    scene.snapshot(&scene.lab.at("vault"), &disk.device, "full");
    let to = scene.lab.at("second");
    let started = scene.json(&["mirror", "--to", &to, "--init", "--detach"], 0);
    let job = started["job"].as_str().unwrap();
    let ended = scene.json(&["job", "wait", job], 0);
    assert_eq!(ended["sent"].as_array().unwrap().len(), 1, "{ended}");

    // At ten kilobytes a second the segment takes minutes.
    let (folder, server) = (scene.lab.path("config"), &scene.server);
    fs::create_dir(&folder).unwrap();
    let text = "[vaults.slow]\nurl = \"s3://bucket/slow\"\nlimits = { upload = \"10kB/s\" }\n";
    fs::write(folder.join("config.toml"), text).unwrap();
    let mut command = scene
        .lab
        .command(&["mirror", "--to", "slow", "--init", "--json"]);
    environment(&mut command, &server.endpoint);
    command.env("STILLPOINT_CONFIG_DIR", &folder);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    while !server.files("slow/sessions").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = wait(&mut child, "a mirror that was told to stop");
    let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    // It may have come through: the first object over a limit waits for nothing.
    assert!([Some(143), Some(0)].contains(&status.code()), "{said}");
    if status.code() == Some(143) {
        assert!(said.contains("is whole there"), "{said}");
    }
    scene.run(&["mirror", "--to", "s3://bucket/slow"]).expect(0);
    scene
        .run(&["verify", "--all", "--vault", "s3://bucket/slow"])
        .expect(0);
}
