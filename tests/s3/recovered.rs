//! What a thief has done to a bucket that keeps versions, and `recover` undoes: each attack is one
//! that brought back something else, or nothing, when versions were judged by anything that came
//! after the theft. In Ceph's radosgw.

use super::locked::{PLACE, disk, location, locked_hours, made, program, snapshot};
use super::rados::Rados;
use super::server::{BUCKET, KEY, SECRET, credentials, place};
use crate::cli::lab::Lab;
use crate::cli::schema;
use crate::support::vaults::check_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stillpoint::engine::{BringBackOptions, BringBackReport, Silent, bring_back};
use stillpoint::format::VaultInfo;
use stillpoint::model::SnapshotId;
use stillpoint::store::{self, Blob, KeySource, Location, ObjectName, ObjectStore, S3Store, Vault};

/// Everything in the vault, by name.
pub type Contents = BTreeMap<String, Blob>;

const FOLDERS: [&str; 6] = [
    "vault.json",
    "keys",
    "segments",
    "index",
    "footers",
    "snapshots",
];

pub fn store_of(server: &Rados) -> S3Store {
    let credentials = credentials(server.folder.path());
    S3Store::open(place(&server.endpoint, &credentials, "vault")).unwrap()
}

pub fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

/// What snapshots need, as it stands.
pub fn contents(server: &Rados) -> Contents {
    let store = store_of(server);
    let keys = server.keys().into_iter();
    let keys = keys.filter_map(|key| key.strip_prefix("vault/").map(str::to_owned));
    let needed = keys.filter(|key| {
        let is_name = ObjectName::parse(key).is_ok();
        is_name && FOLDERS.contains(&key.split('/').next().unwrap())
    });
    needed
        .map(|key| (key.clone(), store.get(&name(&key), 1 << 26).unwrap()))
        .collect()
}

/// The second after the newest thing in the bucket, by the store's clock, once that has come: what
/// was put was put before it, and what is put from here on is not, however coarse the times are.
pub fn moment(server: &Rados) -> Timestamp {
    let newest = || {
        let found = server.owner(async |client| {
            let list = client.list_object_versions().bucket(BUCKET);
            list.send().await.unwrap()
        });
        assert_ne!(found.is_truncated(), Some(true));
        let versions = found.versions().iter().map(|one| one.last_modified());
        let marks = found.delete_markers().iter().map(|one| one.last_modified());
        let times = versions.chain(marks).map(|time| {
            let time = time.unwrap();
            Timestamp::new(time.secs(), time.subsec_nanos() as i32).unwrap()
        });
        times.max().unwrap()
    };
    let then = newest();
    let store = store_of(server);
    while newest().as_second() <= then.as_second() {
        store
            .replace(&name("check/clock"), Blob::from_static(b"x"))
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Timestamp::from_second(then.as_second() + 1).unwrap()
}

pub fn recovered_at(
    place: &Location,
    at: Timestamp,
    dry_run: bool,
) -> stillpoint::Result<BringBackReport> {
    let past = store::open_as_it_stood(place, at)?;
    let now = Timestamp::now();
    bring_back(&past, BringBackOptions { dry_run, now }, &Silent)
}

pub fn recovered(server: &Rados, at: Timestamp, dry_run: bool) -> BringBackReport {
    let report = recovered_at(&location(server, PLACE), at, dry_run).unwrap();
    let bad = report.lost_count + report.failed_count + report.unknown.len();
    assert_eq!(bad, 0, "{report:?}");
    report
}

/// Bytes of the same length that are not these.
pub fn junk(bytes: &Blob) -> Blob {
    bytes
        .iter()
        .map(|byte| byte ^ 0x55)
        .collect::<Vec<u8>>()
        .into()
}

pub fn below<'a>(contents: &'a Contents, folder: &str) -> Vec<&'a String> {
    let folder = format!("{folder}/");
    contents
        .keys()
        .filter(|key| key.starts_with(&folder))
        .collect()
}

/// A manifest of this snapshot that is whole, and says something else.
pub fn forged(vault: &Vault, id: SnapshotId) -> Blob {
    let all = vault.snapshots().unwrap();
    let snapshot = all.iter().find(|one| one.id == id).unwrap();
    let mut forged = vault.manifest(snapshot).unwrap();
    forged.tags.insert("why".into(), "forged".into());
    forged.encode(vault.sealer()).unwrap().into()
}

/// `vault.json` of the same place that names another vault, and locks what is put for ten years.
fn another_info(bytes: &Blob) -> Blob {
    let mut info = VaultInfo::decode(bytes).unwrap();
    info.id = stillpoint::model::ObjectId::generate();
    info.lock = "compliance:3650d".parse().ok();
    info.encode().unwrap().into()
}

/// Keys that no vault has, and that a listing may stumble over.
fn put_odd_keys(server: &Rados) {
    let long = "x".repeat(900);
    for odd in [
        "snapshots/",
        "/snapshots/host/x",
        "snapshots//x",
        "snapshots/host/\u{1}\u{1f}",
        "snapshots/host/a\nb\rc\td",
        "segments/aa/<&>\"'%00%zz+ ",
        "index/\u{1f4be}\u{202e}",
        "index/..",
        "keys/]]>",
        &format!("footers/{long}"),
    ] {
        let key = format!("vault/{odd}");
        server.owner(async |client| {
            let put = client.put_object().bucket(BUCKET).key(&key);
            // One that this store does not take hides nothing in it.
            let _ = put.send().await;
            let _ = client.delete_object().bucket(BUCKET).key(&key).send().await;
            let put = client.put_object().bucket(BUCKET).key(&key);
            let _ = put.send().await;
        });
    }
}

pub fn assert_stands(before: &Contents, now: &Contents) {
    for (key, bytes) in before {
        assert!(now.get(key) == Some(bytes), "{key} is not what it was");
    }
}

#[test]
fn what_stood_at_the_time_stands_again_and_nothing_else_moves() {
    let test = "what_stood_at_the_time_stands_again_and_nothing_else_moves";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_locking_bucket(BUCKET);
    let vault = made(&server, "compliance:20d");
    let (disks, store) = (disk(), store_of(&server));
    let pruned = snapshot(&vault, &disks);
    let taken = [snapshot(&vault, &disks), snapshot(&vault, &disks)];
    let manifest = |id: SnapshotId| name(&format!("snapshots/host/{id}"));
    let pruned = manifest(pruned.manifest.snapshot);
    let was = store.get(&pruned, 1 << 24).unwrap();
    // Rightly, before anything was stolen.
    store.delete(&pruned).unwrap();
    let at = moment(&server);
    let before = contents(&server);

    // A host goes on, and the thief knew the name of its manifest from its session: the true one
    // lies over a false one, and a false one beneath the name that was pruned.
    let later = snapshot(&vault, &disks);
    let known = manifest(later.manifest.snapshot);
    let true_one = store.get(&known, 1 << 24).unwrap();
    let false_one = forged(&vault, later.manifest.snapshot);
    store.replace(&known, false_one).unwrap();
    store.replace(&known, true_one.clone()).unwrap();
    store.replace(&pruned, junk(&was)).unwrap();
    store.delete(&pruned).unwrap();
    // One manifest is put over by one that is whole, one is deleted twice.
    let [first, second] = [0, 1].map(|number: usize| taken[number].manifest.snapshot);
    store
        .replace(&manifest(first), forged(&vault, first))
        .unwrap();
    store.delete(&manifest(second)).unwrap();
    store.delete(&manifest(second)).unwrap();
    // Of what they need each second is deleted; the others are put over, one by more versions than
    // anybody would look at, of the same length.
    for (number, key) in before.keys().enumerate() {
        let folder = key.split('/').next().unwrap();
        match (folder, number % 2) {
            ("segments" | "index" | "footers", 0) => store.delete(&name(key)).unwrap(),
            ("segments" | "index" | "footers", _) => {
                for _ in 0..12 {
                    store.replace(&name(key), junk(&before[key])).unwrap();
                }
            }
            _ => {}
        }
    }
    let info = ObjectName::vault_info();
    store
        .replace(&info, another_info(&before["vault.json"]))
        .unwrap();
    // Names that nothing needs, all over the place.
    for junk in [
        "snapshots/host/junk",
        "segments/zz/junk",
        "index/junk",
        "snapshots/x/y/z",
    ] {
        store
            .replace(&name(junk), Blob::from_static(b"junk"))
            .unwrap();
        store
            .replace(&name(junk), Blob::from_static(b"more"))
            .unwrap();
    }
    put_odd_keys(&server);
    let attacked = contents(&server);
    let would = recovered(&server, at, true);
    assert!(contents(&server) == attacked, "a dry run puts nothing");
    let did = recovered(&server, at, false);
    let told = |report: &BringBackReport| {
        let ids: BTreeSet<SnapshotId> = report.snapshots.iter().map(|one| one.snapshot).collect();
        (ids, report.objects, report.bytes, report.opened_by.clone())
    };
    assert_eq!(told(&would), told(&did));
    assert_eq!(told(&did).0, BTreeSet::from([first, second]));
    assert_eq!(did.opened_by, std::slice::from_ref(&info));
    let replaced = |id| did.snapshots.iter().find(|one| one.snapshot == id).unwrap();
    assert!(replaced(first).replaced.is_some() && replaced(second).replaced.is_none());
    assert_eq!(
        (did.stood, did.since_count, did.since.clone()),
        (2, 1, vec![later.manifest.snapshot])
    );
    assert_eq!(did.hidden_since, 1, "{did:?}");
    // All of it is what it was; what was not there then, and what came later, is as it was left.
    let now = contents(&server);
    assert_stands(&before, &now);
    assert!(now[known.as_str()] == true_one);
    assert!(!now.contains_key(pruned.as_str()));
    let objects = did.objects + did.snapshots.len() + did.opened_by.len();
    let moved = now
        .iter()
        .filter(|(key, bytes)| attacked.get(*key) != Some(bytes));
    assert_eq!(moved.count(), objects);
    // What is back is locked as what is put is, by the rule of then.
    let hours = locked_hours(&server);
    for key in before.keys() {
        let days = if key.starts_with("snapshots/") {
            20
        } else {
            21
        };
        assert_eq!(hours[key], Some(days * 24), "{key}");
    }
    let [first, second] = taken;
    check_all(
        &Arc::new(store::open(&location(&server, PLACE)).unwrap()),
        &[first, second, later],
    );
    // The same again has nothing to do, whenever it is run.
    assert_eq!(recovered(&server, at, false).put_count(), 0);
    // Before all this there was no vault.
    let early = at - SignedDuration::from_hours(1);
    let error = recovered_at(&location(&server, PLACE), early, false).unwrap_err();
    assert!(error.to_string().contains("no vault there"), "{error}");
}

/// A file with a passphrase.
fn password(folder: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join(format!("{text}.passphrase"));
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

#[test]
fn an_encrypted_vault_opens_by_the_keys_of_then() {
    let test = "an_encrypted_vault_opens_by_the_keys_of_then";
    let (Some(lab), Some(server)) = (Lab::new(test), Rados::start(test)) else {
        return;
    };
    server.make_locking_bucket(BUCKET);
    let [right, wrong] = ["right", "wrong"].map(|text| password(server.folder.path(), text));
    let by = |file: &Path, args: &[&str]| {
        let key = ["--password-file", file.to_str().unwrap()];
        program(&server.endpoint, KEY, SECRET, &[args, &key].concat())
    };
    by(
        &right,
        &["init", PLACE, "--encrypt", "--lock", "compliance:20d"],
    )
    .expect(0);
    let place = location(&server, PLACE).with_key(KeySource::File(right.clone()));
    let vault = Arc::new(store::open(&place).unwrap());
    let disks = disk();
    let taken = [snapshot(&vault, &disks), snapshot(&vault, &disks)];
    let at = moment(&server);
    let before = contents(&server);
    let store = store_of(&server);
    // The only key is put over, others that nobody has made lie beside it, and `vault.json` says
    // that nothing is encrypted; all else is deleted.
    let mut info = VaultInfo::decode(&before["vault.json"]).unwrap();
    info.encryption = None;
    let info = info.encode().unwrap();
    for key in before.keys() {
        match key.as_str() {
            "vault.json" => store.replace(&name(key), info.clone().into()).unwrap(),
            key if key.starts_with("keys/") => {
                store.replace(&name(key), junk(&before[key])).unwrap();
                let mut beside = key.to_owned();
                beside.replace_range(beside.len() - 1.., "Z");
                store.replace(&name(&beside), before[key].clone()).unwrap();
            }
            _ => store.delete(&name(key)).unwrap(),
        }
    }
    let at = at.to_string();
    let recover = ["recover", "--at", &at, "--vault", PLACE, "--json"];
    let attacked = contents(&server);
    let said = by(&wrong, &recover).expect(5);
    assert!(said.stdout.contains("does not open the vault"), "{said:?}");
    assert!(contents(&server) == attacked, "nothing was put");
    let told = by(&right, &recover).expect(3).json();
    schema::check(&lab, "recover", &told);
    assert_eq!(told["opened_by"].as_array().unwrap().len(), 2, "{told:#}");
    assert_eq!(
        (&told["stood"], &told["keys_since"]),
        (&json!(2), &json!(1)),
        "{told:#}"
    );
    let warnings = told["warnings"].to_string();
    assert!(
        warnings.contains("vault.json had been replaced"),
        "{warnings}"
    );
    assert_stands(&before, &contents(&server));
    check_all(&Arc::new(store::open(&place).unwrap()), &taken);
    // A key that was deleted since is back, and its owner is told.
    let key = below(&before, "keys")[0];
    store.delete(&name(key)).unwrap();
    let told = by(&right, &recover).expect(3).json();
    assert_eq!(told["opened_by"], json!([key]), "{told:#}");
    assert!(
        told["warnings"]
            .to_string()
            .contains("stillpoint key remove"),
        "{told:#}"
    );
    assert_stands(&before, &contents(&server));
}
