//! `recover` against whoever could put, delete and list in a bucket that keeps versions, as far as
//! no server is needed: what it costs, what it believes, what it says. A store in memory, with a
//! clock of its own. (`s3` has it against Ceph's radosgw.)

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check_all, take, vault_options, verify_all};
use crate::support::versions::VersionStore;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use stillpoint::engine::{BringBackOptions, BringBackReport, Silent, bring_back};
use stillpoint::format::{BlockDedup, VaultInfo};
use stillpoint::model::{BLOCK_SIZE, ObjectId, SnapshotId};
use stillpoint::store::{Blob, FaultStore, KeySource, ObjectName, ObjectStore, PastVault, Vault};
use stillpoint::{Error, ErrorKind, Result};

/// A vault with snapshots, a time, and whatever is done to it after that.
pub struct Robbed {
    pub store: Arc<VersionStore>,
    /// When all was whole.
    pub at: Timestamp,
    taken: Vec<Taken>,
    /// What stood then.
    before: BTreeMap<ObjectName, Blob>,
}

impl Robbed {
    /// So many snapshots of one disk.
    pub fn new(snapshots: usize) -> Self {
        let store = Arc::new(VersionStore::new());
        let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
        let disk = [ModelDisk::new(0, 40 * BLOCK_SIZE, 1)];
        let taken = (0..snapshots).map(|_| {
            disk[0].scribble(8);
            take(&vault, &disk, Take::default()).unwrap()
        });
        let taken: Vec<Taken> = taken.collect();
        let at = store.moment();
        let before = store.contents();
        Self {
            store,
            at,
            taken,
            before,
        }
    }

    /// How many objects of a folder stood then.
    pub fn had(&self, folder: &str) -> u64 {
        self.of(folder).len() as u64
    }

    fn of(&self, folder: &str) -> Vec<&ObjectName> {
        let all = self.before.keys();
        all.filter(|name| name.as_str().starts_with(folder))
            .collect()
    }

    /// Segments lie in so many folders.
    pub fn folders_of_segments(&self) -> u64 {
        let names = self.of("segments/").into_iter();
        let folders = names.filter_map(|name| name.components().nth(1));
        folders.collect::<BTreeSet<_>>().len() as u64
    }

    /// The thief hides everything but `vault.json`.
    pub fn delete_all(&self) {
        let all = self.before.keys();
        let all = all.filter(|name| **name != ObjectName::vault_info());
        all.for_each(|name| self.store.delete(name).unwrap());
    }

    /// So many names in each folder that nothing needs, put and deleted.
    pub fn litter(&self, count: u64) {
        for number in 0..count {
            let id = ObjectId::generate();
            let fold = number % 256;
            for name in [
                format!("segments/{fold:02x}/{fold:02x}{}", &id.to_string()[2..]),
                format!("index/{id}"),
                format!("snapshots/host/{}", SnapshotId::generate(number)),
                format!("footers/{}-00000000", SnapshotId::generate(number)),
            ] {
                let name = ObjectName::parse(&name).unwrap();
                self.store
                    .replace(&name, Blob::from_static(b"junk"))
                    .unwrap();
                self.store.delete(&name).unwrap();
            }
        }
    }

    fn recover_at(&self, at: Timestamp, dry_run: bool) -> Result<BringBackReport> {
        let past = PastVault::open_by(self.store.clone(), &KeySource::Nobody, at)?;
        let now = Timestamp::now();
        bring_back(&past, BringBackOptions { dry_run, now }, &Silent)
    }

    fn recover(&self) -> BringBackReport {
        let would = self.recover_at(self.at, true).unwrap();
        let did = self.recover_at(self.at, false).unwrap();
        assert_eq!(would.put_count(), did.put_count(), "{would:?} {did:?}");
        did
    }

    /// All that stood then stands, and the snapshots are what they were.
    fn check(&self) {
        let now = self.store.contents();
        for (name, bytes) in &self.before {
            assert!(now.get(name) == Some(bytes), "{name}");
        }
        check_all(&Vault::open(self.store.clone()).unwrap(), &self.taken);
    }
}

fn whole(report: &BringBackReport) {
    let bad = report.lost_count + report.failed_count + report.unknown.len();
    assert_eq!(bad, 0, "{report:?}");
}

/// A thief puts a hundred thousand versions over one name of each sort, marks of deletion among
/// them, and versions without a byte. What stood then comes back, for a look at each of them a few
/// times, and for as few gets as without.
#[test]
fn a_hundred_thousand_versions_hide_nothing() {
    const VERSIONS: u64 = 100_000;
    let robbed = Robbed::new(2);
    let names = ["segments/", "index/", "snapshots/"].map(|folder| robbed.of(folder)[0].clone());
    let junk = Blob::from_static(b"junk");
    for name in &names {
        for number in 0..VERSIONS / 3 {
            match number % 3 {
                0 => robbed.store.delete(name).unwrap(),
                1 => robbed.store.replace(name, Blob::new()).unwrap(),
                _ => robbed.store.replace(name, junk.clone()).unwrap(),
            }
        }
    }
    robbed.store.listed.store(0, Ordering::Relaxed);
    let report = robbed.recover();
    whole(&report);
    assert_eq!(report.put_count(), 3);
    robbed.check();
    // Of a thousand to a page.
    let pages = robbed.store.listed.load(Ordering::Relaxed) / 1000;
    assert!(pages < 10 * VERSIONS / 1000, "{pages} pages");
    assert_eq!(robbed.recover().put_count(), 0);
}

/// One was deleted again and again, before the time and after it.
#[test]
fn many_marks_of_deletion_are_one_deletion() {
    let robbed = Robbed::new(2);
    let [first, second] = robbed.of("snapshots/")[..] else {
        panic!("two were taken");
    };
    (0..5).for_each(|_| robbed.store.delete(first).unwrap());
    let later = robbed.store.moment();
    (0..5).for_each(|_| robbed.store.delete(first).unwrap());
    (0..5).for_each(|_| robbed.store.delete(second).unwrap());
    // It was not there at the later time: deleted rightly, for all that is known.
    let would = robbed.recover_at(later, true).unwrap();
    whole(&would);
    assert_eq!((would.stood, would.snapshots.len()), (1, 1), "{would:?}");
    let report = robbed.recover();
    whole(&report);
    assert_eq!((report.stood, report.snapshots.len()), (2, 2), "{report:?}");
    robbed.check();
}

/// Versions without a byte: of what a name proves they are passed over, of what no name proves the
/// one that stood then counts, and is told.
#[test]
fn versions_of_no_bytes_are_nothing() {
    let robbed = Robbed::new(2);
    for name in robbed.before.keys() {
        robbed.store.replace(name, Blob::new()).unwrap();
    }
    let later = robbed.store.moment();
    whole(&robbed.recover());
    robbed.check();

    // The same before the time: there was no vault that could be read.
    let error = robbed.recover_at(later, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("vault.json"), "{error}");

    let robbed = Robbed::new(2);
    let all = robbed.before.keys();
    let all = all.filter(|name| **name != ObjectName::vault_info());
    all.for_each(|name| robbed.store.replace(name, Blob::new()).unwrap());
    let later = robbed.store.moment();
    let report = robbed.recover_at(later, false).unwrap();
    assert_eq!(report.unknown.len(), 2, "neither manifest can be read");
    assert_eq!(report.put_count(), 0, "{report:?}");
    let warned = report.warnings.join("\n");
    assert!(warned.contains("2 manifests or vault.json"), "{warned}");
}

/// A listing is late: it lacks objects that stood then and are hidden. They are asked for by their
/// names before they are called lost.
#[test]
fn what_a_late_listing_lacks_is_asked_for_by_its_name() {
    for folder in ["segments/", "index/"] {
        let robbed = Robbed::new(2);
        robbed.delete_all();
        let late: Vec<ObjectName> = robbed.of(folder).into_iter().cloned().collect();
        robbed.store.lists_late(late);
        let report = robbed.recover();
        whole(&report);
        assert_eq!(report.put_count(), 8, "{report:?}");
        robbed.check();
    }
}

/// What never was, and a manifest names, is lost: it is said, and is not asked for again.
#[test]
fn what_never_was_is_lost() {
    let robbed = Robbed::new(2);
    let segment = robbed.of("segments/")[0].clone();
    let gone = robbed.without(&segment);
    gone.delete_all();
    for report in [true, false].map(|dry_run| gone.recover_at(gone.at, dry_run).unwrap()) {
        assert_eq!((report.lost, report.lost_count), (vec![segment.clone()], 1));
        assert_eq!((report.failed_count, report.snapshots.len()), (0, 2));
    }
}

impl Robbed {
    /// The same, of which one object was never put.
    fn without(mut self, name: &ObjectName) -> Self {
        self.before.remove(name);
        self.store = Arc::new(VersionStore::new());
        for (other, bytes) in &self.before {
            self.store.replace(other, bytes.clone()).unwrap();
        }
        self.at = self.store.moment();
        self
    }
}

/// A time before the vault was made, one before its first snapshot, one that has not come.
#[test]
fn a_time_that_is_too_early_or_too_late_is_told() {
    let robbed = Robbed::new(1);
    let early = robbed.at - SignedDuration::from_hours(1);
    let error = robbed.recover_at(early, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no vault there"), "{error}");

    robbed.delete_all();
    let count = robbed.store.count();
    for late in [
        robbed.store.moment(),
        robbed.at + SignedDuration::from_hours(24),
    ] {
        let report = robbed.recover_at(late, true).unwrap();
        whole(&report);
        assert_eq!((report.stood, report.put_count()), (0, 0));
        let warned = report.warnings.join("\n");
        assert!(
            warned.contains("nothing can come back") && warned.contains("an earlier time"),
            "{warned}"
        );
    }
    assert_eq!(robbed.store.count(), count, "a dry run puts nothing");
    let report = robbed.recover();
    whole(&report);
    assert!(report.warnings.is_empty(), "{report:?}");
    robbed.check();
    // It is all there: the same again has nothing to say.
    assert!(robbed.recover().warnings.is_empty());
}

/// A thief changes a word of `vault.json`: it comes back as it was made, and a time at which it
/// was another is refused.
#[test]
fn a_word_of_vault_json_comes_back() {
    let robbed = Robbed::new(1);
    let name = ObjectName::vault_info();
    let info = VaultInfo {
        dedup: BlockDedup::Vault,
        ..VaultInfo::decode(&robbed.before[&name]).unwrap()
    };
    let bytes = Blob::from(info.encode().unwrap());
    robbed.store.replace(&name, bytes).unwrap();
    let later = robbed.store.moment();
    let error = robbed.recover_at(later, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("not the one"), "{error}");
    let report = robbed.recover();
    assert_eq!(report.opened_by, [name]);
    robbed.check();
}

/// Ended at any moment, a recovery has made no snapshot stand that lacks anything; the same again
/// goes on.
#[test]
fn ended_at_any_moment_what_stands_is_whole() {
    let mut ended = 0;
    for moment in 0.. {
        let robbed = Robbed::new(2);
        robbed.delete_all();
        let faulty = FaultStore::new(robbed.store.clone(), move |operation| {
            match operation.moment >= moment {
                true => Err(Error::new(ErrorKind::Interrupted(15), "the test says so")),
                false => Ok(()),
            }
        });
        let past = PastVault::open_by(Arc::new(faulty), &KeySource::Nobody, robbed.at);
        let now = Timestamp::now();
        let dry_run = false;
        let done =
            past.and_then(|past| bring_back(&past, BringBackOptions { dry_run, now }, &Silent));
        let vault = Vault::open(robbed.store.clone()).unwrap();
        let found = verify_all(&vault).unwrap();
        assert!(found.broken.is_empty(), "{moment}: {:?}", found.broken);
        ended += u32::from(found.snapshots == 1);
        robbed.recover();
        robbed.check();
        if done.is_ok() {
            break;
        }
    }
    assert!(ended > 0, "it was never ended between two manifests");
}
