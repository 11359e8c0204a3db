//! What is taken back, what is left because somebody has changed it, and when nothing is.

use super::Host;
use crate::cli::lab::finish;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

#[test]
fn nothing_is_taken_from_under_what_is_at_work() {
    let Some(host) = Host::new("client: busy") else {
        return;
    };
    host.activated(&host.usual_token("token"));
    let before = host.stands();
    fs::create_dir(host.lab.path("plans")).unwrap();
    fs::set_permissions(host.lab.path("plans"), fs::Permissions::from_mode(0o700)).unwrap();
    let lock = File::create(host.lab.path("plans/daily.lock")).unwrap();
    let held = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    for args in [
        &["client", "deactivate"][..],
        &["client", "update", "--from", "/nowhere"],
    ] {
        let error = host.checked("error", args, 6);
        let said = error["error"]["message"].as_str().unwrap();
        assert_eq!(said, "plan daily is being run; nothing was changed");
        assert_eq!(host.stands(), before);
    }
    drop(held);
    // Another one at the same time.
    let lock = File::create(host.lab.path("run/client.lock")).unwrap();
    let held = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    let error = host.checked("error", &["client", "deactivate"], 6);
    assert!(
        error.to_string().contains("another `stillpoint client`"),
        "{error}"
    );
    drop(held);
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}

#[test]
fn a_job_that_runs_is_waited_for() {
    let Some(host) = Host::new("client: a job runs") else {
        return;
    };
    host.activated(&host.usual_token("token"));
    let before = host.stands();
    // It runs until nobody reads what it writes any more.
    let disk = host.lab.disk("disk", 24 << 20);
    fs::write(&disk.device, crate::cli::lab::noise(8 << 20, 1)).unwrap();
    host.run(&["snapshot", &disk.device]).expect(0);
    let mut restore = host.command_with(&[], &["restore", "latest", "-"]);
    restore
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut job = restore.spawn().unwrap();
    let mut first = [0; 1];
    use std::io::Read;
    job.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let error = host.checked("error", &["client", "deactivate"], 6);
    let said = error["error"]["message"].as_str().unwrap();
    assert!(
        said.contains("(restore) runs; nothing was changed"),
        "{said}"
    );
    assert_eq!(host.stands(), before);
    drop(job.stdout.take());
    job.wait().unwrap();
    host.run(&["client", "deactivate"]).expect(0);
}

/// Tracking is all plans' own: without it those that go on would read whole disks.
#[test]
fn what_other_plans_live_on_stays() {
    let Some(host) = Host::new("client: other plans live on") else {
        return;
    };
    let disk = host.lab.disk("disk", 24 << 20);
    host.run(&["init", &host.lab.at("other")]).expect(0);
    host.activated(&host.usual_token("token"));
    let plan = ["plan", "create", "theirs", "--vault", &host.lab.at("other")];
    let words = ["--start", "2199-01-01T03:30:00", "--every", "1d"];
    let create = [&plan[..], &words, &["--disk", &disk.device]].concat();
    assert!([0, 3].contains(&host.run(&create).code));
    host.run(&["snapshot", &disk.device]).expect(0);
    let tracked = || {
        let told = host.run(&["track", "status", "--json"]).expect(0).json();
        told["tracked"].as_array().unwrap().len()
    };
    assert_eq!(tracked(), 1);
    let down = host.checked("client deactivate", &["client", "deactivate"], 0);
    let steps = down["steps"].as_array().unwrap();
    let tracking = steps.iter().find(|one| one["step"] == "tracking").unwrap();
    assert_eq!(tracking["outcome"], "kept", "{down}");
    assert_eq!(tracked(), 1, "{down}");
    host.run(&["plan", "show", "theirs"]).expect(0);
    host.run(&["track", "stop"]).expect(0);
}

#[test]
fn what_was_changed_since_stays_and_is_told() {
    let Some(host) = Host::without_vault("client: changed since") else {
        return;
    };
    let passphrase = host.text("passphrase", b"x");
    let vault = host.lab.at("vault");
    host.run(&["init", &vault, "--encrypt", "--password-file", &passphrase])
        .expect(0);
    let options = ["--password-file", &passphrase, "--plan", super::PLAN];
    let token = host.token("token", &options);
    host.activated(&token);
    host.run(&["plan", "modify", "daily", "--every", "2d"])
        .expect(0);
    let path = host.lab.path("etc/config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let mine = text.replace(
        "[vaults.main]\n",
        "[vaults.main]\nlimits = { requests = 5 }\n",
    );
    fs::write(&path, &mine).unwrap();
    // Nor does activation write over it.
    let error = host.activate(&token).expect(1);
    assert!(error.stderr.contains("changed by hand"), "{error:?}");
    let down = host.checked("client deactivate", &["client", "deactivate"], 3);
    assert_eq!(
        down["state"], "failed",
        "the key stays, and only the note knows whose it is"
    );
    let left = |step: &str| {
        let steps = down["steps"].as_array().unwrap().iter();
        let mut steps = steps.filter(|one| one["step"] == step);
        steps.next().map(|one| one["outcome"].clone())
    };
    for step in ["plan", "configuration", "files"] {
        assert_eq!(left(step), Some(json!("left")), "{step}: {down}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), mine);
    assert!(host.lab.path("etc/main.key").exists(), "the table names it");
    let plan = host
        .run(&["plan", "show", "daily", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        (&plan["suspended"], &plan["every"]),
        (&json!(true), &json!("2d"))
    );
    // Where it is put right, the rest goes.
    fs::write(&path, &text).unwrap();
    let down = host.checked("client deactivate", &["client", "deactivate"], 0);
    assert_eq!(down["state"], "installed");
    assert!(!host.lab.path("etc/main.key").exists() && !path.exists());
}

#[test]
fn a_second_token_of_the_vault_brings_other_keys() {
    let Some(host) = Host::without_vault("client: other keys") else {
        return;
    };
    let passphrase = host.text("passphrase", b"x");
    let vault = host.lab.at("vault");
    host.run(&["init", &vault, "--encrypt", "--password-file", &passphrase])
        .expect(0);
    let options = ["--password-file", &passphrase, "--plan", super::PLAN];
    let writer = host.token("writer", &options);
    let reader = host.token(
        "reader",
        &[&options[..], &["--key-file", &passphrase]].concat(),
    );
    host.activated(&writer);
    let key = || fs::read(host.lab.path("etc/main.key")).unwrap();
    let before = key();
    let other = host.activated(&reader);
    assert_eq!(other["already"], false);
    assert_eq!(key(), b"x\n");
    // One that does not open the vault replaces nothing.
    let mut wrong = host.made_up(|_| ());
    wrong.key = Some(stillpoint::client::TokenSecret::new("wrong".into()));
    host.activate(&host.written("wrong", &wrong)).expect(5);
    assert_eq!(key(), b"x\n");
    host.activated(&writer);
    assert_eq!(key(), before);
    // A key that somebody has put there is his.
    host.text("etc/main.key", b"mine");
    let error = host.activate(&reader).expect(1);
    assert!(
        error.stderr.contains("not as activation has written it"),
        "{error:?}"
    );
    assert_eq!(key(), b"mine");
    host.run(&["client", "deactivate"]).expect(3);
    assert_eq!(key(), b"mine");
}

/// What follows a block is part of its table until the next one begins.
#[test]
fn what_was_written_below_the_block_is_nobody_elses() {
    let Some(host) = Host::new("client: below the block") else {
        return;
    };
    let token = host.usual_token("token");
    fs::create_dir_all(host.lab.path("etc")).unwrap();
    let path = host.lab.path("etc/config.toml");
    let other = format!("[vaults.other]\nurl = {:?}\n", host.lab.at("other"));
    for before in ["", &other] {
        host.text("etc/config.toml", before.as_bytes());
        host.activated(&token);
        let text = fs::read_to_string(&path).unwrap() + "limits = { upload = \"1MiB/s\" }\n";
        fs::write(&path, &text).unwrap();
        let down = host.checked("client deactivate", &["client", "deactivate"], 3);
        assert_eq!(down["state"], "failed", "{down}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        host.run(&["plan", "list"]).expect(0);
        // In a table of its own it is no obstacle.
        let apart = text.replace("limits = {", "[reading]\nlimit = \"1MiB/s\" #");
        fs::write(&path, &apart).unwrap();
        host.run(&["client", "deactivate"]).expect(0);
        let left = fs::read_to_string(&path).unwrap();
        assert!(
            left.starts_with(before) && left.contains("[reading]"),
            "{left}"
        );
        assert!(!left.contains("main"), "{left}");
    }
}

#[test]
fn a_configuration_that_is_a_link_is_told_before_anything_is_done() {
    let Some(host) = Host::new("client: linked settings") else {
        return;
    };
    let token = host.usual_token("token");
    fs::create_dir_all(host.lab.path("etc")).unwrap();
    let (path, target) = (
        host.lab.path("etc/config.toml"),
        host.lab.path("target.toml"),
    );
    fs::write(&target, "# mine\n").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let error = host.activate(&token).expect(1);
    assert!(error.stderr.contains("is a link"), "{error:?}");
    assert!(!host.lab.path("client.json").exists());
    fs::remove_file(&path).unwrap();
    host.activated(&token);
    fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let before = host.stands();
    let error = host.checked("error", &["client", "deactivate"], 1);
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(host.stands(), before);
    fs::rename(&target, &path).unwrap();
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}

#[test]
fn what_only_the_note_knows_is_not_lost_with_it() {
    let Some(host) = Host::new("client: lost notes") else {
        return;
    };
    let token = host.usual_token("token");
    host.activated(&token);
    let note = fs::read_to_string(host.lab.path("client.json")).unwrap();
    // Another version's is neither believed nor replaced.
    let newer = note.replacen("\"version\":1", "\"version\":2", 1);
    host.text("client.json", newer.as_bytes());
    for args in [
        &["client", "activate", "--token-file", &token][..],
        &["client", "deactivate"],
    ] {
        let error = host.checked("error", args, 1);
        assert!(error.to_string().contains("another version"), "{error}");
        assert_eq!(
            fs::read_to_string(host.lab.path("client.json")).unwrap(),
            newer
        );
    }
    // One that cannot be read is put back where the activation fails.
    host.text("client.json", b"{");
    let mine = "[vaults.main]\nurl = \"/elsewhere\"\n";
    let config = fs::read(host.lab.path("etc/config.toml")).unwrap();
    host.text("etc/config.toml", mine.as_bytes());
    host.activate(&token).expect(1);
    assert_eq!(fs::read(host.lab.path("client.json")).unwrap(), b"{");
    host.text("etc/config.toml", &config);
    // Lost: it is said that something stands, and the token notes it again.
    fs::remove_file(host.lab.path("client.json")).unwrap();
    let down = host.checked("client deactivate", &["client", "deactivate"], 3);
    assert!(
        down["warnings"].to_string().contains("no note says"),
        "{down}"
    );
    host.activated(&token);
    host.run(&["client", "deactivate"]).expect(3);
    assert!(
        host.lab.path("etc/plans.d/daily.toml").exists(),
        "nobody knows who made it"
    );
    assert!(!host.lab.path("etc/config.toml").exists());
}

#[test]
fn who_is_not_root_changes_nothing() {
    let Some(host) = Host::new("client: not root") else {
        return;
    };
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    for args in [
        &["client", "activate", "--token-file", "-"][..],
        &["client", "deactivate"],
        &["client", "update", "--from", "/x"],
        &["client", "status"],
    ] {
        let run = finish(&mut host.command_with(&nobody, args));
        assert_eq!(run.code, 5, "{run:?}");
        assert!(run.stderr.contains("only root"), "{run:?}");
    }
}
