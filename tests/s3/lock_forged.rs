//! What a host may put to keep others' snapshots from being locked, in Ceph's radosgw: manifests
//! that name what is not theirs, names that lead nowhere, and objects that nobody can read.

use super::locked::{PLACE, disk, location, locked_hours, made, snapshot};
use super::policies::to;
use super::rados::Rados;
use super::server::{BUCKET, credentials, place};
use crate::support::vaults::Taken;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use stillpoint::engine::{LockOptions, LockReport, Silent, lock};
use stillpoint::format::{IndexRef, Manifest, encode_index};
use stillpoint::model::{
    BLOCK_SIZE, BlockIndex, Bytes, Content, ObjectId, Run, RunMap, SnapshotId,
};
use stillpoint::store::{self, KeepTerm, ObjectName, ObjectStore, S3Store, Vault};

const SECRET: &str = "s3cret/of+a+user";
/// More than are asked for where no listing has them.
const INVENTED: u64 = 5000;

/// A vault with a snapshot that is held, and the means of a host that lies.
struct Forger {
    server: Rados,
    store: S3Store,
    vault: Arc<Vault>,
    first: Taken,
}

impl Forger {
    fn start(test: &str) -> Option<Self> {
        let server = Rados::start(test)?;
        server.make_locking_bucket(BUCKET);
        let vault = made(&server, "governance:30d");
        let first = snapshot(&vault, &disk());
        let credentials = credentials(server.folder.path());
        let store = S3Store::open(place(&server.endpoint, &credentials, "vault")).unwrap();
        let forger = Self {
            server,
            store,
            vault,
            first,
        };
        forger.hold(forger.first.manifest.snapshot);
        Some(forger)
    }

    fn hold(&self, snapshot: SnapshotId) {
        let found = self.vault.find(&snapshot.to_string()).unwrap();
        let hold = KeepTerm::Hold("audit".into());
        self.vault.put_keep(&found, hold, "host").unwrap();
    }

    /// Puts a manifest that is older than all, by its name, and held.
    fn put(&self, change: impl FnOnce(&mut Manifest)) -> SnapshotId {
        let mut lie = self.first.manifest.clone();
        lie.host = "evil".into();
        lie.snapshot = SnapshotId::generate(1_000_000_000_000);
        change(&mut lie);
        let bytes = lie.encode(self.vault.sealer()).unwrap();
        let name = ObjectName::manifest(&lie.host, lie.snapshot);
        self.store.put(&name, bytes.into()).unwrap();
        self.hold(lie.snapshot);
        lie.snapshot
    }

    /// An index object that names segments that are nowhere.
    fn invented(&self) -> IndexRef {
        let mut map = RunMap::new();
        for start in 0..INVENTED {
            map.insert(Run {
                start: BlockIndex(start),
                count: 1,
                content: Content::Data {
                    segment: ObjectId::generate(),
                    slot: 0,
                },
            });
        }
        let plain = encode_index(&map, INVENTED).remove(0);
        let (id, bytes) = self.vault.sealer().seal_index(&plain).unwrap();
        self.store
            .put(&ObjectName::index(id), bytes.into())
            .unwrap();
        IndexRef {
            id,
            runs: map.len() as u64,
            base: true,
        }
    }

    /// Locks what must be, so many days from now.
    fn lock(&self, vault: &Vault, days: i32) -> LockReport {
        let options = LockOptions {
            rule: None,
            dry_run: false,
            now: Timestamp::now() + days * SignedDuration::from_hours(24),
        };
        lock(vault, options, &Silent).unwrap()
    }

    /// What the first snapshot needs that is not locked for so many hours at least.
    fn too_short(&self, hours: i64) -> Vec<String> {
        let disk = &self.first.manifest.disks[0];
        let blocks = stillpoint::model::block_count(disk.identity.size);
        let found = self.vault.load_index(&disk.index, blocks).unwrap();
        let mut needed: BTreeSet<String> = found
            .iter()
            .filter_map(|run| run.segment())
            .map(|id| ObjectName::segment(id).to_string())
            .collect();
        needed.extend(
            disk.index
                .iter()
                .map(|part| ObjectName::index(part.id).to_string()),
        );
        let manifest = &self.first.manifest;
        let manifest = ObjectName::manifest(&manifest.host, manifest.snapshot);
        needed.insert(manifest.to_string());
        assert!(needed.len() >= 3, "{needed:?}");
        let all = locked_hours(&self.server);
        let short = needed.into_iter();
        let short = short.filter(|key| all[key].is_none_or(|found| found < hours));
        short.collect()
    }
}

fn unknown(report: &LockReport) -> BTreeSet<SnapshotId> {
    report.unknown.iter().map(|one| one.snapshot).collect()
}

#[test]
fn no_forged_manifest_keeps_what_others_need_from_being_locked() {
    let test = "no_forged_manifest_keeps_what_others_need_from_being_locked";
    let Some(forger) = Forger::start(test) else {
        return;
    };
    // A disk of one block that names the other's index objects.
    let one_block = forger.put(|lie| {
        lie.disks[0].identity.size = Bytes(BLOCK_SIZE);
    });
    // Two disks that are made of names.
    let part = forger.invented();
    let invented = |lie: &mut Manifest| {
        lie.disks[0].identity.size = Bytes(INVENTED * BLOCK_SIZE);
        lie.disks[0].index = vec![part];
    };
    let invented = [forger.put(invented), forger.put(invented)];
    // One that nobody can read, and that the rule's time has passed over since.
    let unreadable = SnapshotId::generate(1_000_000_000_000);
    let unreadable_name = ObjectName::manifest("evil", unreadable);
    forger
        .store
        .put(&unreadable_name, vec![b'x'; 99].into())
        .unwrap();
    let asked = forger.vault.requests().unwrap();
    let report = forger.lock(&forger.vault, 40);
    let now = forger.vault.requests().unwrap();
    let lies = BTreeSet::from([one_block, invented[0], invented[1], unreadable]);
    assert_eq!(unknown(&report), lies, "{report:?}");
    assert_eq!((report.snapshots, report.over), (5, 0), "{report:?}");
    assert_eq!(forger.too_short(70 * 24), [""; 0]);
    let hours = locked_hours(&forger.server);
    assert_eq!(hours[unreadable_name.as_str()], Some(70 * 24));
    // What was invented is asked for up to a bound.
    assert!(report.missing_count < INVENTED as usize, "{report:?}");
    let heads = now.get - asked.get + now.size - asked.size;
    assert!(heads < 4300, "{heads}");
}

#[test]
fn an_object_that_cannot_be_locked_is_named_and_all_others_are_locked() {
    let test = "an_object_that_cannot_be_locked_is_named_and_all_others_are_locked";
    let Some(forger) = Forger::start(test) else {
        return;
    };
    let user = "someone";
    forger.server.make_user(user, SECRET);
    let disk = &forger.first.manifest.disks[0];
    let denied = ObjectName::index(disk.index[0].id).to_string();
    let all = json!({"Statement": [{"Effect": "Allow", "Action": "s3:*",
        "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]}]});
    let none = json!({"Statement": [{"Effect": "Deny", "Action": "s3:PutObjectRetention",
        "Resource": format!("arn:aws:s3:::bucket/vault/{denied}")}]});
    let statements = [to(user, &all), to(user, &none)].concat();
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    forger.server.set_policy(&policy.to_string());
    let file = forger.server.folder.path().join("someone.env");
    let text = format!("AWS_ACCESS_KEY_ID={user}\nAWS_SECRET_ACCESS_KEY={SECRET}\n");
    std::fs::write(&file, text).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = place(&forger.server.endpoint, &file, "").settings;
    let at = location(&forger.server, PLACE).with_settings(settings);
    let vault = store::open(&at).unwrap();
    let report = forger.lock(&vault, 40);
    let failed: Vec<_> = report.failed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((failed, report.failed_count), (vec![&*denied], 1));
    assert_eq!(forger.too_short(70 * 24), [denied]);
}
