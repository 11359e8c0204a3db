//! `check` on real servers: what it tells of each, that nothing stays, and how little is asked.

use super::proxy::{Fault, Plan, Proxy};
use super::rados::{Rados, Rule, Then};
use super::server::{SECRET, Server, credentials, environment};
use crate::cli::lab::{PROGRAM, Run, finish};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// `check --json` of a place behind an endpoint, by settings of a configuration.
fn check(endpoint: &str, vault: &str, settings: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let keys = credentials(folder.path());
    let text = format!(
        "[vaults.it]\nurl = {vault:?}\nendpoint = {endpoint:?}\nregion = \"us-east-1\"\n\
         credentials = {{ file = {keys:?} }}\n{settings}\n"
    );
    std::fs::write(folder.path().join("config.toml"), text).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .args(["check", "--json", "--vault", "it"])
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("STILLPOINT_CONFIG_DIR", folder.path())
        .env("STILLPOINT_RUN_DIR", folder.path())
        .stdin(Stdio::null());
    let run = finish(&mut command);
    assert!(!format!("{run:?}").contains(SECRET), "{run:?}");
    run
}

fn row<'a>(document: &'a Value, name: &str) -> &'a Value {
    let mut rows = document["rows"].as_array().unwrap().iter();
    rows.find(|row| row["name"] == name)
        .unwrap_or_else(|| panic!("no row {name}: {document:#}"))
}

/// The states of all rows that are not good.
fn amiss(document: &Value) -> Vec<(String, String)> {
    let rows = document["rows"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["state"] != "good");
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.map(|row| (word(row, "name"), word(row, "state")))
        .collect()
}

fn no_faults() -> Plan {
    Plan {
        seed: 0,
        percent: 0,
        faults: Vec::new(),
    }
}

#[test]
fn a_bucket_is_told_and_left_as_it_was() {
    let server = Server::start();
    let proxy = Proxy::start(&server.endpoint, no_faults());
    for vault in ["s3://bucket", "s3://bucket/deep/er"] {
        proxy.seen();
        let document = check(&proxy.endpoint, vault, "").json();
        let seen = proxy.seen();
        let asked = document["requests"].clone();
        let count = |kind: &str| asked[kind].as_u64().unwrap() as usize;
        let all = ["put", "get", "size", "list", "delete"].map(count);
        assert_eq!(all.iter().sum::<usize>(), seen.len(), "{document:#}");
        assert!(seen.len() < 80, "{}", seen.len());
        for name in [
            "list", "put", "get", "range", "size", "listed", "largest", "delete",
        ] {
            assert_eq!(row(&document, name)["state"], "good", "{document:#}");
        }
        assert_eq!(document["left_behind"], json!([]));
        let bucket = server.files("");
        let left = crate::check::all_below(&bucket);
        let left: Vec<_> = left.iter().filter(|path| path.contains("check/")).collect();
        assert!(left.is_empty(), "{left:?}");
        let lines = document["settings"].as_array().unwrap();
        assert!(
            lines.contains(&json!(format!("url = {vault:?}"))),
            "{lines:?}"
        );
        assert!(
            lines.contains(&json!("region = \"us-east-1\"")),
            "{lines:?}"
        );
    }
    // A vault in it is known, and one within it is warned of.
    let mut init = Command::new(PROGRAM);
    environment(&mut init, &server.endpoint);
    finish(init.args(["init", "s3://bucket/deep", "--name", "mine"])).expect(0);
    let document = check(&server.endpoint, "s3://bucket/deep", "").json();
    assert!(
        row(&document, "place")["found"]
            .as_str()
            .unwrap()
            .contains("\"mine\"")
    );
    let document = check(&server.endpoint, "s3://bucket/deep/er", "").json();
    assert_eq!(row(&document, "neighbours")["state"], "warning");
    // Among other things nothing is put.
    std::fs::write(server.files("other"), "x").unwrap();
    proxy.seen();
    let document = check(&proxy.endpoint, "s3://bucket", "").expect(1).json();
    assert_eq!(row(&document, "place")["state"], "bad");
    assert!(proxy.seen().iter().all(|one| one.method != "PUT"));
}

#[test]
fn what_cannot_be_reached_is_told_in_a_row() {
    let server = Server::start();
    let document = check(&server.endpoint, "s3://nobucket/x", "")
        .expect(1)
        .json();
    let found = row(&document, "addressing");
    assert_eq!(found["state"], "bad", "{document:#}");
    assert!(found["remedy"].as_str().unwrap().contains("bucket"));
    assert_eq!(document["settings"].as_array().unwrap()[0], "[vaults.NAME]");
    let document = check("http://127.0.0.1:1", "s3://bucket/x", "")
        .expect(1)
        .json();
    assert_eq!(row(&document, "addressing")["state"], "bad");
    for (status, code, marker) in [
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
    ] {
        let plan = Plan {
            seed: 0,
            percent: 100,
            faults: vec![Fault::Refused(status, code)],
        };
        let proxy = Proxy::start(&server.endpoint, plan);
        let run = check(&proxy.endpoint, "s3://bucket/vault", "").expect(1);
        assert!(run.stdout.contains(marker), "{code}: {run:?}");
    }
    // No vault was named: that is usage.
    let mut command = Command::new(PROGRAM);
    command.args(["check", "--json"]).env_clear();
    command.env("STILLPOINT_CONFIG_DIR", "/nowhere");
    finish(&mut command).expect(2);
}

#[test]
fn radosgw_is_told_with_versions_locks_and_rules() {
    let Some(server) = Rados::start("radosgw_is_told_with_versions_locks_and_rules") else {
        return;
    };
    server.make_bucket();
    let run = check(&server.endpoint, "s3://bucket/vault", "");
    let document = run.json();
    assert_eq!(amiss(&document), [], "{document:#}");
    assert_eq!(run.code, 0);
    assert!(
        row(&document, "versioning")["found"]
            .as_str()
            .unwrap()
            .starts_with("off")
    );
    let works = row(&document, "checksums")["found"].as_str().unwrap();
    assert_eq!(works, "these work: none, md5, crc32");
    let wrong = row(&document, "wrong_body")["found"].as_str().unwrap();
    assert!(
        wrong.contains("its signature") && wrong.contains("md5"),
        "{wrong}"
    );
    assert_eq!(server.versions(), 0);

    let none = check(
        &server.endpoint,
        "s3://bucket/vault",
        "storage_class = \"NOSUCH\"",
    );
    let none = none.json();
    assert_eq!(row(&none, "storage_class")["state"], "warning", "{none:#}");
    assert!(!none["settings"].to_string().contains("storage_class"));

    let set = |id, prefix, then| server.set_rules(&[Rule { id, prefix, then }]);
    server.switch_versioning_on();
    let document = check(&server.endpoint, "s3://bucket/vault", "")
        .expect(3)
        .json();
    assert_eq!(
        amiss(&document),
        [("versioning".to_owned(), "warning".to_owned())]
    );
    // Not even versions stay.
    assert_eq!(server.versions(), 0);
    set("old", "", Then::VersionsExpire(30));
    let document = check(&server.endpoint, "s3://bucket/vault", "")
        .expect(0)
        .json();
    let versioning = row(&document, "versioning")["found"].as_str().unwrap();
    assert!(versioning.contains("30 days"), "{versioning}");

    // A rule for beats does no harm, one for segments does.
    set("beats", "vault/sessions/", Then::Expires(7));
    let document = check(&server.endpoint, "s3://bucket/vault", "").json();
    assert_eq!(row(&document, "rules")["state"], "good", "{document:#}");
    set("segments", "vault/segments/", Then::Expires(7));
    let document = check(&server.endpoint, "s3://bucket/vault", "")
        .expect(1)
        .json();
    let rules = row(&document, "rules");
    assert_eq!(rules["state"], "bad");
    assert!(
        rules["found"]
            .as_str()
            .unwrap()
            .contains("\"segments\" deletes"),
        "{rules}"
    );
}

/// Where each object is locked by default, no more is put than is needed.
#[test]
fn what_is_locked_by_default_is_told_and_little_is_put() {
    let server = Server::start();
    let proxy = Proxy::start(&server.endpoint, no_faults());
    proxy.answer_to(
        "object-lock",
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>\
         <DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule>\
         </ObjectLockConfiguration>",
    );
    let document = check(&proxy.endpoint, "s3://bucket/vault", "")
        .expect(3)
        .json();
    let lock = row(&document, "object_lock");
    assert_eq!(lock["state"], "warning", "{document:#}");
    assert!(
        lock["found"]
            .as_str()
            .unwrap()
            .contains("30 days, GOVERNANCE"),
        "{lock}"
    );
    assert!(document["requests"]["sent_bytes"].as_u64().unwrap() < 64 << 10);
    let names = document["rows"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|row| row["name"].as_str().unwrap()).collect();
    assert!(
        !names.contains(&"largest") && !names.contains(&"wrong_body"),
        "{names:?}"
    );
}

/// Where it may not be asked whether what is put is locked or kept, no more is put than is needed,
/// and what may stay is told.
#[test]
fn what_may_be_kept_or_locked_is_told_and_little_is_put() {
    let server = Server::start();
    for (hidden, size) in [
        (&["?version", "?object-lock"][..], "a few KiB"),
        (&["?version"], "32 MiB"),
    ] {
        let proxy = Proxy::start(&server.endpoint, no_faults());
        proxy.refuse(|seen, _| {
            let hides = hidden.iter().any(|query| seen.path.contains(query));
            hides.then_some((403, "AccessDenied"))
        });
        let document = check(&proxy.endpoint, "s3://bucket/vault", "").json();
        assert_eq!(row(&document, "versioning")["state"], "unknown");
        let versions = row(&document, "versions");
        assert_eq!(versions["state"], "unknown");
        let found = versions["found"].as_str().unwrap();
        assert!(found.starts_with("if versions are kept"), "{found}");
        assert!(found.contains(size), "{found}");
        let largest = row(&document, "largest");
        let sent = document["requests"]["sent_bytes"].as_u64().unwrap();
        match hidden.contains(&"?object-lock") {
            true => {
                assert_eq!(largest["state"], "unknown", "{document:#}");
                assert!(sent < 64 << 10, "{sent}");
            }
            false => assert_eq!(largest["state"], "good", "{document:#}"),
        }
    }
}

/// A checksum that the store refuses always is no way to see that a body is another.
#[test]
fn a_checksum_that_is_always_refused_is_not_recommended() {
    let server = Server::start();
    let wrong_crc = |value: &str| value == "AAAAAA==";
    let any_crc = |_: &str| true;
    for which in [any_crc as fn(&str) -> bool, wrong_crc] {
        for (status, code) in [
            (400, "InvalidRequest"),
            (501, "NotImplemented"),
            (400, "BadDigest"),
        ] {
            let proxy = Proxy::start(&server.endpoint, no_faults());
            proxy.refuse(move |seen, body| {
                // A byte was changed after it was signed: that is not seen.
                if body.starts_with(b"rtillpoint") || seen.header("content-md5").is_some() {
                    return Some((200, ""));
                }
                let sum = seen.header("x-amz-checksum-crc32");
                sum.is_some_and(which).then_some((status, code))
            });
            let run = check(&proxy.endpoint, "s3://bucket/vault", "");
            let document = run.json();
            let wrong = row(&document, "wrong_body");
            assert_eq!(wrong["state"], "warning", "{document:#}");
            // It is one only where the right sum is taken, and the wrong one is named as such.
            let is_seen = which("1") == which("AAAAAA==");
            let will_do = !is_seen && code == "BadDigest";
            assert_eq!(wrong.to_string().contains("crc32"), will_do, "{wrong}");
            let settings = document["settings"].to_string();
            assert_eq!(settings.contains("crc32"), will_do, "{settings}");
        }
    }
}

/// What a check that was killed, or is at work, has put is nothing; what else is there is not.
#[test]
fn what_another_check_has_put_is_nothing() {
    let server = Server::start();
    let folder = server.files("vault/check");
    std::fs::create_dir_all(&folder).unwrap();
    for number in 1..=3 {
        let name = format!("01ARZ3NDEKTSV4RRFFQ69G5FAV-{number:08}");
        std::fs::write(folder.join(name), "x").unwrap();
    }
    std::fs::write(folder.join("thesis.txt"), "x").unwrap();
    let told = || check(&server.endpoint, "s3://bucket/vault", "").json();
    assert_eq!(row(&told(), "place")["state"], "bad");
    let init = |code| {
        let mut init = Command::new(PROGRAM);
        environment(&mut init, &server.endpoint);
        finish(init.args(["init", "s3://bucket/vault"])).expect(code);
    };
    init(1);
    std::fs::remove_file(folder.join("thesis.txt")).unwrap();
    assert_eq!(row(&told(), "place")["state"], "good");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    init(0);
    // Other things that come first or last are seen beside them.
    for other in ["a.txt", "z.txt"] {
        let folder = server.files(&format!("vault-{other}"));
        std::fs::create_dir_all(folder.join("check")).unwrap();
        std::fs::write(
            folder.join("check/01ARZ3NDEKTSV4RRFFQ69G5FAV-00000001"),
            "x",
        )
        .unwrap();
        std::fs::write(folder.join(other), "x").unwrap();
        let place = format!("s3://bucket/vault-{other}");
        let document = check(&server.endpoint, &place, "").expect(1).json();
        assert_eq!(row(&document, "place")["state"], "bad", "{other}");
    }
}
