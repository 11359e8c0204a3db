//! What is printed with `--json` is what `schema` says: real documents against the printed schema,
//! in which no key may stand that is not described.

use super::golden::make_older;
use super::lab::{Lab, noise, tool};
use crate::hooks::Stage;
use crate::hooks::killed::wait_for;
use crate::job::detached::Job;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The schema of one document, closed: an undocumented key is an error.
fn closed(lab: &Lab, command: &str) -> Value {
    let words: Vec<&str> = command.split(' ').collect();
    let printed = lab.run(&[&["schema"], &words[..]].concat()).expect(0);
    let schema = printed.json();
    assert_eq!(schema, lab.json(&[&["schema"], &words[..]].concat()));
    closed_of(command, schema)
}

fn closed_of(command: &str, mut schema: Value) -> Value {
    assert!(jsonschema::meta::is_valid(&schema), "{command}: {schema}");
    let mut shared = schema["$defs"].take();
    for part in shared.as_object_mut().into_iter().flatten() {
        // Its use is closed, as it may stand for a part of something larger.
        close_parts(part.1);
    }
    close(&mut schema);
    schema["$defs"] = if shared.is_null() { json!({}) } else { shared };
    schema
}

fn close(schema: &mut Value) {
    close_parts(schema);
    let keys = schema.as_object_mut().unwrap();
    let says = ["properties", "$ref"];
    if says.iter().any(|key| keys.contains_key(*key)) {
        keys.insert("unevaluatedProperties".into(), false.into());
    }
}

fn close_parts(schema: &mut Value) {
    let keys = schema.as_object_mut().unwrap();
    if let Some(Value::Object(parts)) = keys.get_mut("properties") {
        parts.values_mut().for_each(close);
    }
    if let Some(items) = keys.get_mut("items") {
        close(items);
    }
    if let Some(Value::Array(parts)) = keys.get_mut("anyOf") {
        parts.iter_mut().for_each(close);
    }
}

/// What is wrong with a document.
fn faults(schema: &Value, document: &Value) -> Vec<String> {
    let options = jsonschema::options().should_validate_formats(true);
    let validator = options.build(schema).unwrap();
    let errors = validator.iter_errors(document);
    let place = |error: &jsonschema::ValidationError<'_>| error.instance_path().to_string();
    errors
        .map(|error| format!("{}: {error}", place(&error)))
        .collect()
}

/// A document is as the schema of `command` says.
pub fn check(lab: &Lab, command: &str, document: &Value) {
    let faults = faults(&closed(lab, command), document);
    assert!(faults.is_empty(), "{command}: {faults:#?}\n{document:#}");
}

/// A document is as the schema of that name says, which the library has.
pub fn check_named(name: &str, document: &Value) {
    let schema = stillpoint::report::schema(Some(name)).unwrap();
    let faults = faults(&closed_of(name, schema), document);
    assert!(faults.is_empty(), "{name}: {faults:#?}\n{document:#}");
}

/// A document is as a schema says that was printed.
pub fn check_printed(schema: &str, document: &Value) {
    let schema = closed_of("printed", serde_json::from_str(schema).unwrap());
    let faults = faults(&schema, document);
    assert!(faults.is_empty(), "{faults:#?}\n{document:#}");
}

/// Runs it with `--json`, however it ends; the document is as the schema of `command` says.
fn answered(lab: &Lab, command: &str, args: &[&str]) -> Value {
    let document = lab.run(&[args, &["--json"]].concat()).json();
    check(lab, command, &document);
    document
}

/// The same, and it ends with this code.
fn checked(lab: &Lab, command: &str, args: &[&str], code: i32) -> Value {
    let run = lab.run(&[args, &["--json"]].concat()).expect(code);
    let document = run.json();
    check(lab, command, &document);
    document
}

/// The commands that a help lists.
fn listed(lab: &Lab, args: &[&str]) -> Vec<String> {
    let help = lab.run(&[args, &["--help"]].concat()).expect(0).stdout;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let starts = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = starts.filter_map(|line| line.split_whitespace().next());
    names.map(Into::into).collect()
}

/// Every key is described, and every object says what it requires.
fn assert_told(place: &str, schema: &Value) {
    let Some(keys) = schema.as_object() else {
        return;
    };
    for (name, part) in keys
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let told = part["description"].is_string() || part["$ref"].is_string();
        assert!(told, "{place}/{name} is not described");
        assert_told(&format!("{place}/{name}"), part);
    }
    if keys.contains_key("properties") {
        assert!(keys.contains_key("required"), "{place} requires nothing");
    }
    if let Some(items) = keys.get("items") {
        assert_told(&format!("{place}[]"), items);
    }
    for part in keys
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        assert_told(place, part);
    }
}

#[test]
fn every_command_has_a_schema() {
    let Some(lab) = Lab::new("cli: schemas") else {
        return;
    };
    let mut commands = listed(&lab, &[]);
    assert!(commands.len() > 12, "{commands:?}");
    commands.retain(|command| !["client", "fleet", "job", "plan"].contains(&command.as_str()));
    let jobs = listed(&lab, &["job"]);
    assert!(jobs.len() > 4, "{jobs:?}");
    commands.extend(jobs.iter().map(|word| format!("job {word}")));
    let plans = listed(&lab, &["plan"]);
    assert!(plans.len() > 7, "{plans:?}");
    commands.extend(plans.iter().map(|word| format!("plan {word}")));
    let clients = listed(&lab, &["client"]);
    assert!(clients.len() > 4, "{clients:?}");
    commands.extend(clients.iter().map(|word| format!("client {word}")));
    let fleets = listed(&lab, &["fleet"]);
    assert!(fleets.len() > 2, "{fleets:?}");
    commands.extend(fleets.iter().map(|word| format!("fleet {word}")));
    commands.extend(["error", "detach", "mount list", "notification"].map(String::from));
    let all = checked(&lab, "schema", &["schema"], 0);
    assert!(jsonschema::meta::is_valid(&all));
    for command in &commands {
        let schema = closed(&lab, command);
        // All references lead somewhere.
        jsonschema::options().build(&schema).unwrap();
        assert!(all["$defs"][command].is_object(), "{command}");
    }
    for (name, part) in all["$defs"].as_object().unwrap() {
        assert_told(name, part);
        let is_shared = name.starts_with(char::is_uppercase);
        assert!(is_shared || commands.contains(name), "{name} is no command");
    }
    checked(&lab, "error", &["schema", "frobnicate"], 2);
    checked(&lab, "error", &["schema", "job", "list", "more"], 2);
}

/// The validation itself: what is not as described is found.
#[test]
fn a_document_that_is_not_as_described_is_found() {
    let Some(lab) = Lab::with_vault("cli: schema faults") else {
        return;
    };
    let (job, schema) = ("01ARZ3NDEKTSV4RRFFQ69G5FAV", closed(&lab, "detach"));
    assert_eq!(faults(&schema, &json!({"job": job})), [""; 0]);
    for wrong in [json!({}), json!({"job": 1}), json!({"job": job, "more": 1})] {
        assert_eq!(faults(&schema, &wrong).len(), 1, "{wrong}");
    }
    // Also deep within, and through what is shared.
    let mut document = lab.json(&["disks"]);
    document["disks"][0] = json!({"disk": "vda"});
    assert!(!faults(&closed(&lab, "disks"), &document).is_empty());
    let error = json!({"error": {"kind": "usage", "message": "", "hint": "", "more": 1}});
    assert!(!faults(&closed(&lab, "error"), &error).is_empty());
    assert!(!faults(&closed(&lab, "job wait"), &error).is_empty());
    let document = json!({"from": job, "to": job, "changed_bytes": 1,
        "ranges": [{"offset": 1, "length": 1, "more": 1}]});
    assert!(!faults(&closed(&lab, "diff"), &document).is_empty());
}

fn script(lab: &Lab, name: &str) -> PathBuf {
    let path = lab.path(name);
    fs::write(&path, "#!/bin/sh\necho of hook\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn documents_are_as_their_schema_says() {
    let Some(lab) = Lab::with_vault("cli: schema") else {
        return;
    };
    let mut disk = lab.disk("disk", 64 << 20);
    let device = disk.device.clone();
    let place = disk.mount("ext4");
    fs::write(place.join("file"), noise(4 << 20, 1)).unwrap();
    tool("sync", &["-f", place.to_str().unwrap()]);
    let empty = lab.disk("empty", 8 << 20);

    let other = lab.at("other");
    checked(&lab, "init", &["init", &other, "--description", "x"], 0);
    let (sealed, file) = (lab.at("sealed"), lab.at("passphrase"));
    fs::write(&file, "passphrase").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let made = ["init", &sealed, "--encrypt", "--password-file", &file];
    assert_eq!(checked(&lab, "init", &made, 0)["encrypted"], true);
    let keys = ["key", "list", "--vault", &sealed];
    assert_ne!(checked(&lab, "key", &keys, 0)["keys"], json!([]));
    checked(&lab, "thaw", &["thaw"], 0);
    checked(&lab, "help", &["help", "rescue"], 0);
    checked(&lab, "completions", &["completions", "bash"], 0);
    checked(&lab, "job list", &["job", "list"], 0);
    checked(&lab, "error", &["job", "status", "latest"], 1);
    checked(&lab, "list", &["list"], 0);

    let snapshot = ["snapshot", &device, &empty.device, "--tag", "a=b"];
    let full = answered(&lab, "snapshot", &snapshot);
    fs::write(place.join("more"), noise(1 << 20, 2)).unwrap();
    let (pre, post) = (script(&lab, "pre.sh"), script(&lab, "post.sh"));
    let (pre, post) = (pre.to_str().unwrap(), post.to_str().unwrap());
    let hooks = ["--level", "application", "--prescript", pre, "--postscript"];
    let args = [&["snapshot", &device], &hooks[..], &[post]].concat();
    let second = checked(&lab, "snapshot", &args, 0);
    assert_eq!(second["hooks"]["prescript"]["status"], "ran");
    assert_eq!(second["disks"][0]["mode"], "incremental");
    let missing = [&["snapshot", &device], &hooks[..], &["/no/such"]].concat();
    let below = checked(&lab, "snapshot", &missing, 3);
    assert_ne!(below["warnings"], json!([]));
    // The other one cannot be read any more.
    let image = fs::File::options().write(true).open(&empty.image).unwrap();
    image.set_len(1 << 20).unwrap();
    let partial = ["snapshot", &device, &empty.device, "--partial", "--full"];
    let partial = checked(&lab, "snapshot", &partial, 3);
    assert_eq!(partial["left_out"][0]["disk"], empty.name());

    answered(&lab, "drill", &["drill", "latest"]);
    checked(&lab, "disks", &["disks"], 0);
    let tracked = checked(&lab, "track", &["track", "status"], 0);
    assert_ne!(tracked["tracked"], json!([]));
    let doctor = answered(&lab, "doctor", &["doctor", "--freeze-test", &device]);
    assert_ne!(doctor["freeze_test"]["filesystems"], json!([]));
    answered(&lab, "doctor", &["doctor"]);
    let elsewhere = answered(&lab, "doctor", &["doctor", "--restorable"]);
    assert_ne!(elsewhere["restorable"]["looked_at"], json!([]));

    let id = |document: &Value| document["snapshot"].as_str().unwrap().to_owned();
    let (full, second) = (id(&full), id(&second));
    checked(&lab, "list", &["list"], 0);
    checked(&lab, "show", &["show", &full], 0);
    checked(&lab, "show", &["show", &second], 0);
    let diff = ["diff", &full, &second, "--disk", disk.name()];
    assert_ne!(checked(&lab, "diff", &diff, 0)["ranges"], json!([]));
    checked(&lab, "verify", &["verify", "--all"], 0);
    let to = lab.at("second");
    checked(
        &lab,
        "mirror",
        &["mirror", "--to", &to, "--init", "--dry-run"],
        0,
    );
    let sent = checked(&lab, "mirror", &["mirror", "--to", &to, "--init"], 0);
    assert_ne!(sent["sent"], json!([]));
    restores_and_jobs(&lab, &full, &second, &empty.device);
    let then = lab.path("then");
    fs::create_dir(&then).unwrap();
    let then = then.to_str().unwrap();
    let mounted = checked(&lab, "mount", &["mount", &full, then], 0);
    assert_ne!(mounted["filesystems"], json!([]));
    checked(&lab, "mount list", &["mount", "list"], 0);
    checked(&lab, "unmount", &["unmount", then], 0);
    checked(&lab, "keep", &["keep", &full, "--hold", "x"], 0);
    checked(&lab, "list", &["list"], 0);
    checked(&lab, "show", &["show", &full], 0);
    checked(&lab, "error", &["delete", &full], 6);
    let asked = [
        "prune",
        "--keep-last",
        "1",
        "--keep-within",
        "1d",
        "--dry-run",
    ];
    let pruned = checked(&lab, "prune", &asked, 0);
    assert_ne!(pruned["kept"], json!([]));
    checked(&lab, "keep", &["keep", &full, "--release", "x"], 0);
    checked(&lab, "delete", &["delete", &full, &second], 0);
    checked(&lab, "error", &["show", &full], 1);
    checked(&lab, "error", &["snapshot", "--no-such-flag"], 2);
    collections(&lab);
    damage(&lab);
}

/// A plan, one that is too young, one that is carried out, and one that cannot be read.
fn collections(lab: &Lab) {
    let folder = lab.path("vault/segments/aa");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("aa".repeat(16)), "x").unwrap();
    make_older(lab, "vault/segments/aa");
    let held = checked(lab, "info", &["info"], 0);
    assert_ne!(held["unneeded"]["segments"]["objects"], json!(0));
    let planned = checked(lab, "gc", &["gc", "--dry-run"], 0);
    assert_ne!(planned["planned"], json!(null));
    assert_eq!(planned["rewriting"], json!(null), "nobody has asked for it");
    let told = checked(lab, "gc", &["gc", "--dry-run", "--rewrite"], 0);
    assert_ne!(told["rewriting"], json!(null));
    checked(lab, "gc", &["gc"], 0);
    let young = checked(lab, "gc", &["gc"], 0);
    assert_eq!(young["plans"][0]["state"], "too_young");
    make_older(lab, "vault/condemned");
    let done = checked(lab, "gc", &["gc"], 0);
    assert_eq!(done["plans"][0]["state"], "carried_out");
    let folder = lab.path("vault/condemned");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("01ARZ3NDEKTSV4RRFFQ69G5FAV-00000000"), "x").unwrap();
    let bad = checked(lab, "gc", &["gc"], 3);
    assert_eq!(bad["plans"][0]["state"], "withdrawn");
}

/// Jobs that are stopped or killed while their hook holds them.
#[test]
fn jobs_that_end_badly_are_as_their_schema_says() {
    let Some(stage) = Stage::new("cli: schema of bad ends") else {
        return;
    };
    stage.scripts("note pre; sleep 1000", "note post");
    let lab = &stage.lab;
    let args = stage.args(&["--detach"]);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.retain(|arg| *arg != "--json");
    let begin = || {
        let _ = fs::remove_file(lab.path("noted"));
        let started = checked(lab, "detach", &args, 0);
        wait_for(|| stage.noted() == ["pre"]);
        Job::named(lab, started["job"].as_str().unwrap())
    };
    let job = begin();
    let id = job.id.to_string();
    checked(lab, "job status", &["job", "status", &id], 0);
    let late = ["job", "wait", &id, "--timeout", "1ms"];
    checked(lab, "job wait", &late, 6);
    let cancelled = checked(lab, "job cancel", &["job", "cancel", &id], 0);
    assert_eq!(cancelled["state"], "cancelled");
    checked(lab, "job wait", &["job", "wait", &id], 143);
    checked(lab, "job status", &["job", "status", &id], 0);
    let job = begin();
    let id = job.id.to_string();
    kill(job.pid(), Signal::SIGKILL).unwrap();
    checked(lab, "job wait", &["job", "wait", &id], 1);
    let died = checked(lab, "job status", &["job", "status", &id], 0);
    assert_eq!(died["state"], "died");
    checked(lab, "job cancel", &["job", "cancel", &id], 3);
    checked(lab, "job list", &["job", "list"], 0);
    wait_for(|| stage.noted() == ["pre", "post"]);
}

fn restores_and_jobs(lab: &Lab, full: &str, second: &str, device: &str) {
    let (image, folder) = (lab.at("image"), lab.at("folder"));
    fs::create_dir(&folder).unwrap();
    let one = checked(lab, "restore", &["restore", second, &image], 0);
    assert_eq!(one["disks"].as_array().unwrap().len(), 1);
    let both = checked(lab, "restore", &["restore", full, &folder], 0);
    assert_eq!(both["disks"].as_array().unwrap().len(), 2);
    checked(lab, "error", &["restore", second, &image], 1);

    let detached = ["verify", "--all", "--detach"];
    let started = checked(lab, "detach", &detached, 0);
    let job = Job::named(lab, started["job"].as_str().unwrap());
    let id = job.id.to_string();
    checked(lab, "job wait", &["job", "wait", &id], 0);
    checked(lab, "job logs", &["job", "logs", &id], 0);
    let done = checked(lab, "job status", &["job", "status", &id], 0);
    assert!(done["log"].is_string() && done["result"].is_object());
    checked(lab, "job cancel", &["job", "cancel", &id], 3);
    let failing = ["snapshot", "no-such-disk", "--detach"];
    let failed = checked(lab, "detach", &failing, 0);
    let failed = Job::named(lab, failed["job"].as_str().unwrap());
    let id = failed.id.to_string();
    checked(lab, "job wait", &["job", "wait", &id], 1);
    checked(lab, "job status", &["job", "status", &id], 0);
    fs::write(lab.path("jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV.json"), "{}").unwrap();
    let jobs = checked(lab, "job list", &["job", "list"], 3);
    assert_eq!(jobs["unreadable"].as_array().unwrap().len(), 1);
    for job in jobs["jobs"].as_array().unwrap() {
        let id = job["job"].as_str().unwrap();
        checked(lab, "job status", &["job", "status", id], 0);
    }
    answered(lab, "error", &["restore", second, device, "--disk", "x"]);
}

/// Every segment loses its end, first in the second place.
fn damage(lab: &Lab) {
    let second = lab.path("second/segments");
    let files = lab.files().into_iter();
    for (path, length) in files.filter(|(path, _)| path.starts_with(&second)) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(length / 2).unwrap();
    }
    let wrong = checked(lab, "mirror", &["mirror", "--to", &lab.at("second")], 4);
    assert_ne!(wrong["wrong"], json!([]));
    let files = lab.vault_files().into_iter();
    for (path, length) in files.filter(|(path, _)| path.to_str().unwrap().contains("segment")) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(length / 2).unwrap();
    }
    let third = lab.at("third");
    let mirrored = checked(lab, "mirror", &["mirror", "--to", &third, "--init"], 4);
    assert_ne!(mirrored["damaged"], json!([]));
    let verified = checked(lab, "verify", &["verify", "--all"], 4);
    assert_ne!(verified["damaged"], json!([]));
    let args = ["restore", "latest", &lab.at("holed"), "--keep-going"];
    let restored = checked(lab, "restore", &args, 4);
    assert_ne!(restored["damaged"], json!([]));
    let alone = checked(lab, "repair", &["repair"], 4);
    assert_ne!(alone["damaged"], json!([]));
    let from = ["repair", "--from", &lab.at("second"), "--dry-run"];
    checked(lab, "repair", &from, 4);
    let done = checked(lab, "repair", &from[..3], 0);
    assert_ne!(done["repaired"], json!([]));
    checked(lab, "verify", &["verify", "--all", "--sample", "50%"], 0);
    checked(lab, "verify", &["verify", "--all", "--fast"], 0);
}
