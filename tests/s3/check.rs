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
