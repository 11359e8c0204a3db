//! What a run says that it has asked of its vault, against what stands before the store has seen:
//! each request by its kind, tries that failed among them, and the bytes each way.

use super::proxy::{Fault, Plan, Proxy, Seen};
use super::server::{BUCKET, Server, environment};
use crate::cli::lab::{Lab, Run, finish, noise};
use serde_json::{Value, json};
use std::path::Path;

/// What was seen, by the kinds of the product.
fn kinds(seen: &[Seen]) -> Value {
    let count = |is: &dyn Fn(&Seen) -> bool| seen.iter().filter(|one| is(one)).count();
    let is_list = |one: &Seen| one.path.contains("list-type=2");
    json!({
        "put": count(&|one| one.method == "PUT"),
        "get": count(&|one| one.method == "GET" && !is_list(one)),
        "size": count(&|one| one.method == "HEAD"),
        "list": count(&|one| one.method == "GET" && is_list(one)),
        "delete": count(&|one| one.method == "DELETE"),
        "sent_bytes": seen.iter().map(|one| one.body).sum::<usize>(),
    })
}

/// A host whose vault is in a bucket behind a proxy.
struct Stage {
    lab: Lab,
    _server: Server,
    proxy: Proxy,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let lab = Lab::new(test)?;
        let server = Server::start();
        let plan = Plan {
            seed: 7,
            percent: 0,
            faults: vec![
                Fault::Refused(503, "SlowDown"),
                Fault::Refused(500, "InternalError"),
                Fault::Reset,
            ],
        };
        let proxy = Proxy::start(&server.endpoint, plan);
        Some(Self {
            lab,
            _server: server,
            proxy,
        })
    }

    fn run(&self, args: &[&str]) -> Run {
        self.proxy.seen();
        self.proxy.answered();
        let mut command = self.lab.command(args);
        environment(&mut command, &self.proxy.endpoint);
        finish(command.env("STILLPOINT_VAULT", format!("s3://{BUCKET}/v")))
    }

    /// Runs it with `--json`. What it says of its requests is what the proxy has seen, and so is
    /// what its job's record says. Returns the document and what was seen.
    fn agrees(&self, args: &[&str], code: i32) -> (Value, Vec<Seen>) {
        let args = [args, &["--json"]].concat();
        let document = self.run(&args).expect(code).json();
        let (seen, answered) = (self.proxy.seen(), self.proxy.answered());
        let mut said = document["requests"].clone();
        assert_eq!(said["received_bytes"], answered, "{document:#}");
        let job = document["job"].as_str().unwrap();
        let record = self.lab.json(&["job", "status", job]);
        assert_eq!(record["requests"], said, "{record:#}");
        assert_eq!(record["result"]["requests"], said, "{record:#}");
        said.as_object_mut().unwrap().remove("received_bytes");
        assert_eq!(said, kinds(&seen), "{document:#}");
        (document, seen)
    }
}

#[test]
fn what_a_run_says_it_has_asked_is_what_was_asked() {
    let Some(stage) = Stage::new("what_a_run_says_it_has_asked_is_what_was_asked") else {
        return;
    };
    stage.run(&["init", "s3://bucket/v"]).expect(0);
    let mut disk = stage.lab.disk("a", 48 << 20);
    let place = disk.mount("ext4");
    std::fs::write(place.join("one"), noise(20 << 20, 1)).unwrap();
    let (taken, seen) = stage.agrees(&["snapshot", &disk.device], 0);
    // The manifest holds what was asked before it.
    let is_manifest = |one: &Seen| one.method == "PUT" && one.path.contains("/snapshots/");
    let at = seen.iter().position(is_manifest).unwrap();
    let shown = stage.run(&["show", "latest", "--json"]).expect(0).json();
    let mut before = shown["requests"].clone();
    let received = before.as_object_mut().unwrap().remove("received_bytes");
    assert!(received.unwrap().as_u64() <= taken["requests"]["received_bytes"].as_u64());
    assert_eq!(before, kinds(&seen[..at]));
    let text = stage.run(&["show", "latest"]).expect(0).stdout;
    assert!(text.contains("asked of the vault: "), "{text}");

    std::fs::write(place.join("two"), noise(1 << 20, 2)).unwrap();
    let (_, calm) = stage.agrees(&["snapshot", &disk.device], 0);
    let listed = stage.run(&["list", "--json"]).expect(0).json();
    assert_eq!(listed["snapshots"][1]["requests"], shown["requests"]);
    let image = stage.lab.at("image");
    stage.agrees(&["verify", "--all"], 0);
    stage.agrees(&["restore", "latest", &image], 0);

    // Each try is a request.
    stage.proxy.worse(20);
    std::fs::write(place.join("three"), noise(1 << 20, 3)).unwrap();
    let faults = stage.proxy.faults();
    let (_, seen) = stage.agrees(&["snapshot", &disk.device], 0);
    assert!(stage.proxy.faults() > faults && seen.len() > calm.len());
    stage.agrees(&["restore", "latest", &image, "--force"], 0);
}

/// A job that failed says it in its record.
#[test]
fn a_run_that_failed_says_what_it_has_asked() {
    let Some(stage) = Stage::new("a_run_that_failed_says_what_it_has_asked") else {
        return;
    };
    stage.run(&["init", "s3://bucket/v"]).expect(0);
    let disk = stage.lab.disk("a", 8 << 20);
    std::fs::write(&disk.device, noise(8 << 20, 1)).unwrap();
    stage.run(&["snapshot", &disk.device]).expect(0);
    let failed = stage.run(&[
        "restore",
        "latest",
        &stage.lab.at("no/such/folder/x"),
        "--json",
    ]);
    failed.expect(1);
    let mut seen = kinds(&stage.proxy.seen());
    let record = stage.lab.json(&["job", "status", "latest"]);
    assert_eq!(record["result"], Value::Null);
    let mut said = record["requests"].clone();
    said.as_object_mut().unwrap().remove("received_bytes");
    assert_eq!(said.take(), seen.take(), "{record:#}");
    let text = stage.lab.run(&["job", "status", "latest"]).expect(0).stdout;
    assert!(text.contains("  asked of the vault: 0 put, "), "{text}");
}

/// In a directory an operation is a request; what was put is what is there, and the session's
/// record, which is not any more.
#[test]
fn a_directory_counts_too() {
    let Some(lab) = Lab::with_vault("a_directory_counts_too") else {
        return;
    };
    let disk = lab.disk("a", 24 << 20);
    std::fs::write(&disk.device, noise(8 << 20, 1)).unwrap();
    let before = lab.vault_files();
    let taken = lab.json(&["snapshot", &disk.device]);
    let said = &taken["requests"];
    let now = lab.vault_files();
    let new = now.iter().filter(|one| !before.contains(one));
    let sizes: Vec<u64> = new.map(|(_, size)| *size).collect();
    assert_eq!(said["put"], sizes.len() + 1, "{said}");
    let counts = json!({"get": 1, "size": 2, "list": 2, "delete": 1});
    for (kind, count) in counts.as_object().unwrap() {
        assert_eq!(&said[kind], count, "{kind}: {said}");
    }
    let session = said["sent_bytes"].as_u64().unwrap() - sizes.iter().sum::<u64>();
    assert!((1..64 << 10).contains(&session), "{session}");
    // `vault.json`.
    let info = Path::new(&lab.at("vault")).join("vault.json");
    let info = info.metadata().unwrap().len();
    assert_eq!(said["received_bytes"], info);
    let restored = lab.json(&["restore", "latest", &lab.at("image")]);
    assert_eq!(restored["requests"]["put"], 0);
    assert!(restored["requests"]["received_bytes"].as_u64() > Some(8 << 20));
}
