//! Segments in an archive: snapshots go on without reading one, and what must read one says what to
//! do. A real server, behind a proxy that refuses as a store with an archive does.

use super::proxy::{Plan, Proxy, Seen};
use super::server::{BUCKET, Server, place};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check_all, restore, take, vault_options, verify_all};
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::engine::{Silent, VerifyDepth, VerifyOptions, diff, verify};
use stillpoint::model::{BLOCK_SIZE, Mode};
use stillpoint::store::{ObjectName, ObjectStore, S3Store, Vault};

/// A vault behind a proxy, and a disk of three segments in it.
struct Stage {
    proxy: Proxy,
    store: Arc<dyn ObjectStore>,
    disk: ModelDisk,
    taken: Vec<Taken>,
    _server: Server,
}

const BLOCKS: u64 = 60;
/// The server knows no archive: the proxy plays one.
const CLASS: &str = "REDUCED_REDUNDANCY";

impl Stage {
    fn new() -> Self {
        let server = Server::start();
        let plan = Plan {
            seed: 0,
            percent: 0,
            faults: Vec::new(),
        };
        let proxy = Proxy::start(&server.endpoint, plan);
        let mut place = place(&proxy.endpoint, &server.credentials(), "vault");
        place.settings.storage_class = Some(CLASS.into());
        let store: Arc<dyn ObjectStore> = Arc::new(S3Store::open(place).unwrap());
        Vault::create(Arc::clone(&store), vault_options()).unwrap();
        let disk = ModelDisk::new(0, BLOCKS * BLOCK_SIZE + 512, 3);
        for n in 0..BLOCKS {
            disk.write(n * BLOCK_SIZE, &[1 + n as u8; 5000]);
        }
        let mut stage = Self {
            proxy,
            store,
            disk,
            taken: Vec::new(),
            _server: server,
        };
        stage.take(Mode::Full);
        for n in [3, 20] {
            stage.disk.write(n * BLOCK_SIZE, &[n as u8; 70_000]);
            stage.take(Mode::Incremental);
        }
        stage.proxy.seen();
        stage
    }

    /// The vault as the next command finds it.
    fn vault(&self) -> Arc<Vault> {
        Arc::new(Vault::open(Arc::clone(&self.store)).unwrap())
    }

    fn take(&mut self, mode: Mode) -> Vec<String> {
        let taken = take(
            &self.vault(),
            std::slice::from_ref(&self.disk),
            Take::default(),
        )
        .unwrap();
        let record = &taken.manifest.disks[0];
        assert_eq!(record.mode, mode, "{}", record.reason);
        let warnings = taken.manifest.warnings.clone();
        self.taken.push(taken);
        warnings
    }

    fn copies(&self) -> Vec<ObjectName> {
        let below = ObjectName::parse("footers").unwrap();
        let all = self.store.list_all(&below).unwrap();
        all.into_iter().map(|object| object.name).collect()
    }
}

/// How often something of a segment was asked for.
fn gets_of_segments(seen: &[Seen]) -> usize {
    let is_one = |one: &&Seen| one.method == "GET" && one.path.contains("/segments/");
    seen.iter().filter(is_one).count()
}

#[test]
fn snapshots_go_on_without_reading_a_segment() {
    let mut stage = Stage::new();
    stage.proxy.archive(true);
    assert_eq!(stage.copies().len(), 3);
    stage.disk.write(40 * BLOCK_SIZE, &[40; 10]);
    assert!(stage.take(Mode::Incremental).is_empty());
    // The sample may be in fewer segments than there are objects of copies: then their own footers
    // are asked for first, and refused.
    assert!(gets_of_segments(&stage.proxy.seen()) <= 2 * 3);
    let unchanged = stage.taken.last().unwrap().manifest.disks[0].stored_bytes;
    // Marks that prove nothing: all is read, and compared with the copies.
    stage.disk.reboot();
    stage.disk.write(50 * BLOCK_SIZE, &[50; 10]);
    assert!(stage.take(Mode::Compare).is_empty());
    let compared = stage.taken.last().unwrap().manifest.disks[0].clone();
    assert!(
        compared.stored_bytes <= unchanged + unchanged,
        "{compared:?}"
    );
    assert_eq!(compared.footers.len(), 5);
    let vault = stage.vault();
    let before = &stage.taken[0].manifest.disks[0];
    assert!(!diff(&vault, before, &compared, &Silent).unwrap().is_empty());
    let seen = stage.proxy.seen();
    assert_eq!(gets_of_segments(&seen), 0);
    // Only segments are in the class of segments.
    for one in seen.iter().filter(|one| one.method == "PUT") {
        let class = one.header("x-amz-storage-class");
        let is_segment = one.path.contains("/segments/");
        assert_eq!(class, is_segment.then_some(CLASS), "{one:?}");
    }
    stage.proxy.archive(false);
    check_all(&stage.vault(), &stage.taken);
}

#[test]
fn what_must_read_a_segment_says_what_to_do() {
    let stage = Stage::new();
    stage.proxy.archive(true);
    let vault = stage.vault();
    let Err(restored) = restore(&vault, &stage.taken[1].manifest.disks[0], true) else {
        panic!("it was restored");
    };
    let verified = verify_all(&vault).unwrap_err();
    for error in [restored, verified] {
        assert_eq!(error.kind(), ErrorKind::Archived, "{error}");
        let said = error.to_string();
        assert!(said.contains("/vault/segments/"), "{said}");
        // As the store says.
        assert!(said.contains("GLACIER and must be thawed"), "{said}");
        let hint = error.hint().unwrap();
        let command = format!("aws s3api restore-object --bucket {BUCKET} --key vault/segments/");
        assert!(hint.contains(&command), "{hint}");
    }
    stage.proxy.archive(false);
    assert!(verify_all(&stage.vault()).unwrap().broken.is_empty());
}

#[test]
fn without_copies_nothing_is_skipped_in_silence() {
    let mut stage = Stage::new();
    for name in stage.copies() {
        stage.store.delete(&name).unwrap();
    }
    stage.proxy.archive(true);
    stage.disk.write(40 * BLOCK_SIZE, &[40; 10]);
    let warnings = stage.take(Mode::Incremental);
    assert!(
        warnings.len() == 1 && warnings[0].contains("could not be compared"),
        "{warnings:?}"
    );
    stage.disk.reboot();
    let seen = stage.proxy.seen();
    assert!(gets_of_segments(&seen) <= 3, "each is asked once");
    let warnings = stage.take(Mode::Compare);
    assert!(
        warnings.len() == 1 && warnings[0].contains("were stored though"),
        "{warnings:?}"
    );
    let compared = &stage.taken.last().unwrap().manifest.disks[0];
    assert!(compared.changed_bytes.0 > BLOCKS / 2 * BLOCK_SIZE);
    assert!(
        gets_of_segments(&stage.proxy.seen()) <= 4,
        "each is asked once"
    );
    stage.proxy.archive(false);
    check_all(&stage.vault(), &stage.taken);
}

#[test]
fn a_damaged_copy_loses_nothing_and_is_named() {
    let mut stage = Stage::new();
    for (name, at_its_end) in stage.copies().iter().zip([true, false, true]) {
        let mut bytes = stage.store.get(name, 1 << 20).unwrap().to_vec();
        let at = if at_its_end { bytes.len() - 1 } else { 20 };
        bytes[at] ^= 1;
        stage.store.put(name, bytes.into()).unwrap();
    }
    stage.disk.reboot();
    assert!(stage.take(Mode::Compare).is_empty());
    let own_footers = gets_of_segments(&stage.proxy.seen());
    assert!(own_footers >= 3, "{own_footers}");
    let report = verify_all(&stage.vault()).unwrap();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_eq!(report.harmless.len(), 3, "{:?}", report.harmless);
    assert!(
        report
            .harmless
            .iter()
            .all(|what| what.starts_with("footers/"))
    );
}

/// Copies of footers stand in for the segments' own, and hide nothing of what is not read.
#[test]
fn a_sample_asks_for_the_segments_that_it_does_not_read() {
    let stage = Stage::new();
    let all = stage.store.list_all(&ObjectName::segments()).unwrap();
    let options = VerifyOptions {
        depth: VerifyDepth::Sample(0.001),
        workers: 1,
    };
    let verified = || {
        verify(
            &stage.vault(),
            &stage.vault().snapshots().unwrap(),
            &options,
            &Silent,
        )
    };
    let report = verified().unwrap();
    assert!(
        report.broken.is_empty() && report.harmless.is_empty(),
        "{report:?}"
    );
    assert!(report.unread > 0, "{report:?}");
    for segment in &all {
        let bytes = stage.store.get(&segment.name, 1 << 30).unwrap();
        stage.store.delete(&segment.name).unwrap();
        let report = verified().unwrap();
        assert!(
            !report.broken.is_empty(),
            "{} is gone: {report:?}",
            segment.name
        );
        // Longer than its footer says: whoever has no copy of that finds none in it.
        let longer = [&bytes[..], b"x"].concat();
        stage.store.replace(&segment.name, longer.into()).unwrap();
        let report = verified().unwrap();
        assert!(
            !report.broken.is_empty(),
            "{} is longer: {report:?}",
            segment.name
        );
        stage.store.replace(&segment.name, bytes).unwrap();
    }
    assert!(verified().unwrap().broken.is_empty());
}
