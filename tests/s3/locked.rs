//! What snapshots need is locked in a bucket that can: in Ceph's radosgw, which is thrown away with
//! what it has locked.

use super::rados::Rados;
use super::server::{BUCKET, KEY, SECRET, Server, credentials, environment, place};
use crate::cli::lab::{PROGRAM, Run, finish};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check_all, take, vault_options};
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode,
    ObjectLockRule,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::engine::{
    LockOptions, RetentionOptions, RetentionRules, Silent, StayReason, lock, plan_prune,
    refuse_kept,
};
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{self, Blob, KeepTerm, Location, ObjectStore, S3Store, Vault};

const DAY: SignedDuration = SignedDuration::from_hours(24);
pub const PLACE: &str = "s3://bucket/vault";

/// The vault in the bucket, as the owner reaches it.
pub fn location(server: &Rados, text: &str) -> Location {
    let settings = place(&server.endpoint, &credentials(server.folder.path()), "").settings;
    Location::parse(text).unwrap().with_settings(settings)
}

pub fn made(server: &Rados, rule: &str) -> Arc<Vault> {
    made_at(server, PLACE, rule)
}

fn made_at(server: &Rados, place: &str, rule: &str) -> Arc<Vault> {
    let place = location(server, place).with_lock(rule.parse().unwrap());
    Arc::new(store::create(&place, vault_options()).unwrap())
}

pub fn disk() -> [ModelDisk; 1] {
    [ModelDisk::new(0, 300 * BLOCK_SIZE, 1)]
}

pub fn snapshot(vault: &Arc<Vault>, disks: &[ModelDisk]) -> Taken {
    disks.iter().for_each(|disk| disk.scribble(20));
    take(vault, disks, Take::default()).unwrap()
}

/// Each object of the bucket, and for how many days it is locked, in hours; `None`: it is not.
pub fn locked_hours(server: &Rados) -> BTreeMap<String, Option<i64>> {
    let found = server.keys().into_iter().map(|key| {
        let head = server.owner(async |client| {
            let head = client.head_object().bucket(BUCKET).key(&key);
            head.send().await.unwrap()
        });
        let hours = head.object_lock_retain_until_date().map(|until| {
            let left = until.secs() - Timestamp::now().as_second();
            // Half an hour more or less is of this test.
            (left + 1800) / 3600
        });
        let key = key.strip_prefix("vault/").unwrap_or(&key).to_owned();
        (key, hours)
    });
    found.collect()
}

fn rules() -> RetentionOptions {
    RetentionOptions {
        rules: RetentionRules {
            last: 1,
            ..RetentionRules::default()
        },
        host: None,
        disk: None,
        tags: BTreeMap::new(),
        take_last_good: true,
        now: Timestamp::now(),
    }
}

#[test]
fn what_a_snapshot_needs_is_locked_when_it_is_put_and_nothing_else_is() {
    let test = "what_a_snapshot_needs_is_locked_when_it_is_put_and_nothing_else_is";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_locking_bucket(BUCKET);
    let vault = made(&server, "governance:30d");
    let disks = disk();
    let first = snapshot(&vault, &disks);
    let second = snapshot(&vault, &disks);
    let snapshots = vault.snapshots().unwrap();
    let hold = KeepTerm::Hold("audit".into());
    vault.put_keep(&snapshots[0], hold, "host").unwrap();
    // What comes and goes.
    let store = S3Store::open(place(
        &server.endpoint,
        &credentials(server.folder.path()),
        "vault",
    ))
    .unwrap();
    for name in [
        "sessions/x-00000001",
        "condemned/x-00000000",
        "damaged/x",
        "verified/x",
    ] {
        let name = stillpoint::store::ObjectName::parse(name).unwrap();
        store.put(&name, Blob::from_static(b"x")).unwrap();
    }
    let mut needed = 0;
    for (key, hours) in locked_hours(&server) {
        let folder = key.split('/').next().unwrap();
        let expected = match folder {
            "snapshots" => Some(30 * 24),
            // The vault itself was locked like what a manifest refers to.
            "vault.json" | "segments" | "index" | "footers" => Some(31 * 24),
            _ => None,
        };
        needed += usize::from(expected.is_some());
        assert_eq!(hours, expected, "{key}");
    }
    assert!(needed >= 8, "{needed}");
    // Who opens the vault again locks, too.
    let again = Arc::new(store::open(&location(&server, PLACE)).unwrap());
    let before = locked_hours(&server);
    let third = snapshot(&again, &disks);
    let new = locked_hours(&server);
    let new = new.iter().filter(|(key, _)| !before.contains_key(*key));
    assert!(new.clone().count() >= 3);
    assert!(new.clone().all(|(_, hours)| hours.is_some()), "{new:?}");
    check_all(&again, &[first, second, third]);

    // Nobody deletes what is locked: it would be hidden, and nothing would be free.
    let plan = plan_prune(&again, &rules(), &Silent).unwrap();
    let stays = plan.judged.iter().map(|one| &one.stays[0]);
    let locked = stays.filter(|why| matches!(why, StayReason::Locked(_)));
    assert_eq!((locked.count(), plan.going().count()), (1, 0), "{plan:?}");
    let error = refuse_kept(&again, &snapshots[1], Timestamp::now(), &|| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("locked"), "{error}");
    // After its time it goes.
    let later = Timestamp::now() + 40 * DAY;
    let plan = plan_prune(
        &again,
        &RetentionOptions {
            now: later,
            ..rules()
        },
        &Silent,
    )
    .unwrap();
    assert_eq!(plan.going().count(), 1, "{plan:?}");
    refuse_kept(&again, &snapshots[1], later, &|| Ok(())).unwrap();
}

#[test]
fn what_must_stay_longer_is_locked_longer_and_only_that() {
    let test = "what_must_stay_longer_is_locked_longer_and_only_that";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_locking_bucket(BUCKET);
    let vault = made(&server, "compliance:20d");
    let disks = disk();
    let _first = snapshot(&vault, &disks);
    let before = locked_hours(&server);
    let _second = snapshot(&vault, &disks);
    let all = locked_hours(&server);
    let asked = |vault: &Vault| vault.requests().unwrap().put;
    let run = |days: i32, dry_run: bool| {
        let options = LockOptions {
            rule: None,
            dry_run,
            now: Timestamp::now() + days * DAY,
        };
        let puts = asked(&vault);
        let report = lock(&vault, options, &Silent).unwrap();
        assert!(
            report.unknown.is_empty() && report.missing_count + report.failed_count == 0,
            "{report:?}"
        );
        (report, asked(&vault) - puts)
    };
    // All is locked long enough.
    let (report, puts) = run(0, false);
    assert_eq!(
        (report.made, report.extended, puts),
        (0, 0, 0),
        "{report:?}"
    );
    assert_eq!((report.snapshots, report.stand), (2, all.len()));
    // The second is kept for 28 days: ten days later that is near enough for a lock. What both need
    // is locked with it, and for a quarter of the rule more; what the first alone needs is not.
    let snapshots = vault.snapshots().unwrap();
    let [first, second] = [0, 1].map(|at| snapshots[at].manifest_name().to_string());
    let until = KeepTerm::Until(Timestamp::now() + 28 * DAY);
    vault.put_keep(&snapshots[1], until, "host").unwrap();
    let (would, puts) = run(10, true);
    assert_eq!(puts, 0);
    let (report, puts) = run(10, false);
    assert_eq!((report.made, report.extended), (0, would.extended));
    assert_eq!(report.extended as u64, puts);
    for (key, hours) in locked_hours(&server) {
        let expected = match key.as_str() {
            _ if key.starts_with("keeps/") => None,
            // The vault itself is needed for ever.
            "vault.json" => Some(35 * 24),
            key if key == first => Some(20 * 24),
            key if key == second => Some(28 * 24),
            _ => Some(33 * 24),
        };
        assert_eq!(hours, expected, "{key}");
    }
    // The first is held: twenty days later it is locked for twenty more, and all that it needs.
    let hold = KeepTerm::Hold("audit".into());
    vault.put_keep(&snapshots[0], hold, "host").unwrap();
    run(20, false);
    for (key, hours) in locked_hours(&server) {
        let expected = match before.contains_key(&key) {
            _ if key.starts_with("keeps/") => None,
            true if key == first => Some(40 * 24),
            true => Some(45 * 24),
            false if key == second => Some(28 * 24),
            false => Some(33 * 24),
        };
        assert_eq!(hours, expected, "{key}");
    }
    // The same again has nothing to do; a day later neither, but for the manifest.
    assert_eq!(run(20, false).1, 0);
    assert_eq!(run(21, false).1, 1);
    // When all is over nothing is looked at but what is held.
    let (report, _) = run(400, true);
    assert_eq!((report.snapshots, report.over), (1, 1));
    // A stronger rule is for what is put from then on.
    let weak = made_at(&server, "s3://bucket/weak", "governance:20d");
    snapshot(&weak, &disks);
    let options = LockOptions {
        rule: "compliance:20d".parse().ok(),
        dry_run: false,
        now: Timestamp::now(),
    };
    let report = lock(&weak, options, &Silent).unwrap();
    assert_eq!((report.made, report.extended), (0, 0), "{report:?}");
    assert_eq!(report.weaker, report.stand);
}

/// The program, with a key.
pub fn program(server: &str, key: &str, secret: &str, args: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(args).env_clear();
    environment(&mut command, server);
    command
        .env("AWS_ACCESS_KEY_ID", key)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("STILLPOINT_CONFIG_DIR", folder.path())
        .env("STILLPOINT_CACHE_DIR", folder.path())
        .env("STILLPOINT_RUN_DIR", folder.path());
    finish(&mut command)
}

#[test]
fn where_nothing_can_be_locked_it_is_said() {
    // A store that knows no locks, and a directory.
    let strange = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("vault");
    let directory = directory.to_str().unwrap();
    for at in ["s3://bucket/vault", directory] {
        let run = program(
            &strange.endpoint,
            KEY,
            SECRET,
            &["init", at, "--lock", "compliance:7d"],
        );
        let said = run.expect(5);
        assert!(said.stderr.contains("no vault was made"), "{said:?}");
        assert!(said.stderr.contains("hint: "), "{said:?}");
        program(&strange.endpoint, KEY, SECRET, &["init", at]).expect(0);
        let lock = ["lock", "--vault", at, "--rule", "compliance:7d"];
        let said = program(&strange.endpoint, KEY, SECRET, &lock).expect(5);
        assert!(said.stderr.contains("object lock"), "{said:?}");
        let said = program(&strange.endpoint, KEY, SECRET, &["lock", "--vault", at]);
        assert!(said.expect(2).stderr.contains("--rule"), "no rule");
    }
    let Some(server) = Rados::start("where_nothing_can_be_locked_it_is_said") else {
        return;
    };
    server.make_bucket();
    server.make_locking_bucket("locking");
    let owner = |args: &[&str]| program(&server.endpoint, KEY, SECRET, args);
    let init = |at: &str| owner(&["init", at, "--lock", "governance:7d"]);
    let said = init("s3://bucket/vault").expect(5);
    assert!(
        said.stderr.contains("the bucket has no object lock"),
        "{said:?}"
    );
    assert_eq!(server.keys(), [""; 0]);
    // One whose vault.json says that it locks, in a bucket that cannot.
    init("s3://locking/vault").expect(0);
    let store = |bucket: &str| {
        let mut at = place(
            &server.endpoint,
            &credentials(server.folder.path()),
            "vault",
        );
        at.bucket = bucket.into();
        S3Store::open(at).unwrap()
    };
    let name = stillpoint::store::ObjectName::vault_info();
    let info = store("locking").get(&name, 1 << 20).unwrap();
    store(BUCKET).put(&name, info).unwrap();
    let vault = Arc::new(store::open(&location(&server, PLACE)).unwrap());
    let error = take(&vault, &disk(), Take::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("locks nothing"), "{error}");
    assert!(error.hint().unwrap().contains("object lock"), "{error:?}");
    // A check tells both.
    let told = |at: &str, code: i32| {
        let told = owner(&["check", "--vault", at, "--json"])
            .expect(code)
            .json();
        let mut rows = told["rows"].as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == "object_lock").unwrap();
        row.clone()
    };
    let row = told(PLACE, 1);
    assert_eq!(row["state"], "bad", "{row}");
    assert!(row["remedy"].to_string().contains("object lock"), "{row}");
    let row = told("s3://locking/vault", 3);
    assert_eq!(row["state"], "good", "{row}");
    assert!(row["found"].to_string().contains("governance:7d"), "{row}");
    // Where all is locked by default, notes of runs would be, too.
    let default = DefaultRetention::builder()
        .mode(ObjectLockRetentionMode::Governance)
        .days(1);
    let rule = ObjectLockRule::builder().default_retention(default.build());
    let config = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(rule.build())
        .build();
    server.owner(async |client| {
        let put = client.put_object_lock_configuration().bucket("locking");
        put.object_lock_configuration(config).send().await.unwrap();
    });
    let said = init("s3://locking/other").expect(5);
    assert!(said.stderr.contains("by default"), "{said:?}");
    let said = owner(&["lock", "--vault", "s3://locking/vault", "--json"]);
    let document: Value = said.expect(3).json();
    assert_eq!(
        document["objects"],
        json!({"stand": 1, "made": 0, "extended": 0, "weaker": 0})
    );
}
