//! The policies of the pages on S3 and on locks, on a store that heeds them: who takes snapshots
//! without being able to delete them, and who only reads.

use super::rados::Rados;
use super::server::{BUCKET, environment};
use crate::cli::lab::{Lab, Run, finish, noise};
use serde_json::{Value, json};

/// The policies that the pages show: a writer's, what a writer's key never needs, a reader's; and
/// of a bucket that locks: its rule, a host's, that of the retention and of the locks.
fn all_policies() -> [Value; 7] {
    let page = concat!(
        include_str!("../../src/cli/pages/s3.md"),
        include_str!("../../src/cli/pages/locks.md")
    );
    let blocks = page.split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let all: Vec<Value> = blocks
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    all.try_into().unwrap()
}

fn policies() -> [Value; 3] {
    let [writes, denied, reads, ..] = all_policies();
    [writes, denied, reads]
}

/// A policy of a bucket that locks, out of its file.
pub fn of_file(name: &str) -> Value {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/scripts/policies/{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_files_of_policies_are_those_of_the_page() {
    let [_, _, _, lifecycle, host, retention, locks] = all_policies();
    for (name, shown) in [
        ("lifecycle", lifecycle),
        ("host", host),
        ("retention", retention),
        ("locks", locks),
    ] {
        let file = of_file(name);
        assert_eq!(file, shown, "{name}");
        let mut allowed = file.clone();
        if let Some(statements) = allowed["Statement"].as_array_mut() {
            statements.retain(|one| one["Effect"] == "Allow");
        }
        let text = allowed.to_string();
        for never in [
            "DeleteObjectVersion",
            "Bypass",
            "s3:*",
            "PutBucket",
            "PutLifecycle",
        ] {
            assert!(!text.contains(never), "{name} has {never}");
        }
    }
}

/// The days beyond which a policy denies a lock.
fn denied_beyond(name: &str) -> u32 {
    let file = of_file(name);
    let statements = file["Statement"].as_array().unwrap().iter();
    let denied = statements.filter(|one| {
        let actions = one["Action"].to_string();
        // With the headers of a put, too.
        let all = ["\"s3:PutObject\"", "\"s3:PutObjectRetention\""];
        one["Effect"] == "Deny"
            && one["Resource"] == "arn:aws:s3:::bucket/*"
            && all.iter().all(|action| actions.contains(action))
    });
    let days: Vec<u32> = denied
        .filter_map(|one| {
            let above = &one["Condition"]["NumericGreaterThan"];
            above["s3:object-lock-remaining-retention-days"].as_str()
        })
        .map(|days| days.parse().unwrap())
        .collect();
    assert_eq!(days.len(), 1, "{name}");
    days[0]
}

#[test]
fn who_may_lock_may_not_lock_for_ages() {
    // A lock that is too long is denied, and not merely one that is short allowed: a condition
    // that stands beside an allowance bounds nothing that another statement allows.
    assert_eq!(denied_beyond("host"), 32);
    // Thirty days, and a quarter more.
    assert_eq!(denied_beyond("locks"), 40);
    assert!(
        !of_file("retention")
            .to_string()
            .contains("PutObjectRetention")
    );
}

/// What a policy allows, as a bucket's policy allows it to a user.
pub fn to(user: &str, policy: &Value) -> Vec<Value> {
    let mut statements = policy["Statement"].as_array().unwrap().clone();
    for statement in &mut statements {
        statement["Principal"] = json!({"AWS": [format!("arn:aws:iam:::user/{user}")]});
    }
    statements
}

const SECRET: &str = "s3cret/of+a+user";

#[test]
fn hosts_that_cannot_delete_take_snapshots_and_readers_read() {
    let test = "hosts_that_cannot_delete_take_snapshots_and_readers_read";
    let (Some(lab), Some(server)) = (Lab::new(test), Rados::start(test)) else {
        return;
    };
    server.make_bucket();
    let [writes, denied, reads] = policies();
    let mut strict = writes.clone();
    let allowed = strict["Statement"].as_array_mut().unwrap();
    let deletes = allowed.pop().unwrap();
    assert_eq!(deletes["Action"], "s3:DeleteObject");
    assert!(!allowed.iter().any(|one| one.to_string().contains("Delete")));
    allowed.extend(denied.as_array().unwrap().iter().cloned());
    let mut statements = Vec::new();
    for (user, policy) in [("writer", &writes), ("strict", &strict), ("reader", &reads)] {
        server.make_user(user, SECRET);
        statements.extend(to(user, policy));
    }
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    server.set_policy(&policy.to_string());
    let run = |user: &str, args: &[&str]| -> Run {
        let mut command = lab.command(&[args, &["--json"]].concat());
        environment(&mut command, &server.endpoint);
        if user != "owner" {
            command
                .env("AWS_ACCESS_KEY_ID", user)
                .env("AWS_SECRET_ACCESS_KEY", SECRET);
        }
        command.env("STILLPOINT_CACHE_DIR", lab.at(&format!("cache-{user}")));
        finish(command.env("STILLPOINT_VAULT", format!("s3://{BUCKET}/prefix")))
    };
    run("owner", &["init", "s3://bucket/prefix"]).expect(0);
    let sessions = || {
        let found = server.keys();
        found
            .iter()
            .filter(|key| key.contains("/sessions/"))
            .count()
    };
    let disk = lab.disk("a", 16 << 20);
    let contents = noise(16 << 20, 1);
    std::fs::write(&disk.device, &contents).unwrap();
    let taken = run("writer", &["snapshot", &disk.device]).expect(0).json();
    assert_eq!(sessions(), 0);
    let incremental = run("strict", &["snapshot", &disk.device]).expect(0).json();
    // It cannot take its note away.
    assert_eq!(sessions(), 1);
    for id in [&taken, &incremental].map(|taken| taken["snapshot"].as_str().unwrap()) {
        for user in ["writer", "strict", "reader"] {
            let image = lab.at("image");
            run(user, &["restore", id, &image, "--force"]).expect(0);
            assert!(std::fs::read(&image).unwrap() == contents, "{user}");
        }
        for user in ["writer", "strict", "reader"] {
            run(user, &["delete", id]).expect(5);
        }
    }
    run("reader", &["verify", "--all"]).expect(0);
    run("reader", &["snapshot", &disk.device]).expect(5);
    let listed = run("reader", &["list"]).expect(0).json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 2);

    // What each may do is told before anything rests on it.
    let told = |user: &str, code: i32| {
        let found = run(user, &["check"]).expect(code).json();
        let rows = found["rows"].as_array().unwrap().clone();
        let state = move |name: &str| {
            let row = rows.iter().find(|row| row["name"] == name);
            row.map(|row| row["state"].as_str().unwrap().to_owned())
        };
        (found, state)
    };
    let (found, state) = told("writer", 0);
    assert_eq!(found["left_behind"], json!([]), "{found:#}");
    for question in ["versioning", "object_lock", "rules"] {
        assert_eq!(state(question).as_deref(), Some("unknown"), "{found:#}");
    }
    // What may be kept for long is not large, and is told.
    assert_eq!(state("largest").as_deref(), Some("unknown"), "{found:#}");
    assert_eq!(state("versions").as_deref(), Some("unknown"), "{found:#}");
    let (found, state) = told("strict", 3);
    assert_eq!(state("delete").as_deref(), Some("warning"), "{found:#}");
    let left = found["left_behind"].as_array().unwrap();
    let keys = server.keys();
    let there = keys.iter().filter_map(|key| key.strip_prefix("prefix/"));
    let there: Vec<&str> = there.filter(|key| key.starts_with("check/")).collect();
    assert_eq!(
        left.iter()
            .map(|name| name.as_str().unwrap())
            .collect::<Vec<_>>(),
        there
    );
    let (_, state) = told("reader", 1);
    assert_eq!(state("put").as_deref(), Some("bad"));
}
