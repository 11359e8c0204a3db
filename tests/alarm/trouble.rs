//! Whatever is wrong with a vault or a parent, the snapshot is taken, and what could not be done is
//! told.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stillpoint::engine::Monitor;
use stillpoint::format::EncryptionAlarm;
use stillpoint::model::{Bytes, Mode};
use stillpoint::store::{FaultStore, ObjectName};
use stillpoint::{Error, ErrorKind, Result};

/// Says when all is thawed.
struct Thawed {
    inner: Box<dyn Quiesce>,
    said: Arc<AtomicBool>,
}

impl Quiesce for Thawed {
    fn throttle(
        &mut self,
        disks: &[stillpoint::model::DevNumber],
        rate: Bytes,
        monitor: &dyn Monitor,
    ) -> Result<bool> {
        self.inner.throttle(disks, rate, monitor)
    }

    fn flush(&mut self, monitor: &dyn Monitor) -> Result<()> {
        self.inner.flush(monitor)
    }

    fn freeze(&mut self) -> Result<Instant> {
        self.inner.freeze()
    }

    fn thaw(&mut self) -> Result<Duration> {
        self.said.store(true, Ordering::SeqCst);
        self.inner.thaw()
    }

    fn freezes(&self) -> bool {
        self.inner.freezes()
    }
}

/// A stage on which the attack has been, and one clean snapshot of before.
fn struck(test: &str) -> Option<(Stage, Manifest)> {
    let stage = Stage::new(test, &text(48 * MIB, 1))?;
    let clean = stage.snapshot();
    stage.write(0, &noise(40 * MIB, 2));
    Some((stage, clean))
}

#[test]
fn who_may_put_no_keep_is_told_so() {
    let Some((stage, clean)) = struck("no keep") else {
        return;
    };
    let keeps = ObjectName::keeps();
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        let is_keep = operation.name.as_str().starts_with(keeps.as_str());
        match operation.verb == "put" && is_keep && !operation.done {
            true => Err(Error::new(ErrorKind::Failed, "the policy says no")),
            false => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let manifest = stage.snapshot_to(&vault, |_| (), |quiesce| quiesce);
    assert!(is_told(&manifest), "{:?}", manifest.warnings);
    let said = &manifest.warnings[1];
    let remedy = format!(
        "stillpoint keep {} --hold encryption-alarm-",
        clean.snapshot
    );
    for words in ["COULD NOT BE HELD", "the policy says no", &remedy] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(stage.keeps(), 0);
    let alarm = noted(&manifest).alarm.unwrap();
    // It stands on quiet days, too: what was never held was never released.
    let quiet = stage.snapshot_to(&vault, |_| (), |quiesce| quiesce);
    assert_eq!(
        (stage.newest(&quiet).alarm, is_told(&quiet)),
        (Some(alarm), false)
    );
    // A run that may put it does, and then it can be released.
    let next = stage.snapshot();
    assert_eq!(stage.holds(clean.snapshot), [alarm.hold()]);
    assert!(stage.newest(&next).alarm.is_some_and(|alarm| alarm.held));
    let released = stage
        .vault()
        .release(clean.snapshot, &alarm.hold(), &Silent);
    assert_eq!(released.unwrap(), 1);
    assert_eq!(stage.newest(&next).alarm, None);
    assert!(
        !is_told(&stage.snapshot()) && stage.keeps() == 0,
        "it is not held again"
    );
}

#[test]
fn a_vault_that_does_not_answer_fails_no_snapshot() {
    // All of it is rewritten: so nothing of its segment was sampled, and its footer not read.
    let Some(stage) = Stage::new("no footers", &text(40 * MIB, 1)) else {
        return;
    };
    stage.snapshot();
    stage.write(0, &noise(40 * MIB, 2));
    let thawed = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&thawed);
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        let name = operation.name.as_str();
        let is_segment = name.starts_with("segments/") || name.starts_with("footers/");
        match operation.verb == "get" && is_segment && said.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Io, "the store is away")),
            false => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let around = |inner| -> Box<dyn Quiesce> {
        Box::new(Thawed {
            inner,
            said: thawed,
        })
    };
    let manifest = stage.snapshot_to(&vault, |_| (), around);
    assert_eq!(noted(&manifest).hardly_pack, blocks(40));
    if manifest.disks[0].mode != Mode::Incremental {
        // Writes were hidden from tracking, and a compare has read the footer before.
        return assert!(is_told(&manifest));
    }
    let unknown = |said: &String| said.contains("the store is away");
    assert!(
        manifest.warnings.iter().any(unknown),
        "{:?}",
        manifest.warnings
    );
    let found = noted(&manifest);
    assert!(found.unknown && found.alarm.is_none() && !is_told(&manifest));
    // What nobody knows is not usual the next time.
    assert_eq!(noted(&stage.snapshot()).usual, 0);
}

/// Puts what the parent says of itself in its place.
fn tamper(stage: &Stage, parent: &Manifest, rewritten: Option<RewrittenRecord>) {
    let vault = stage.vault();
    let mut manifest = parent.clone();
    manifest.disks[0].rewritten = rewritten;
    let name = stage.find(parent.snapshot).manifest_name().clone();
    stage.store.delete(&name).unwrap();
    let bytes = manifest.encode(vault.sealer()).unwrap();
    stage.store.put(&name, bytes.into()).unwrap();
}

#[test]
fn a_parent_without_counts_is_a_disk_without_a_past() {
    let Some((stage, clean)) = struck("old parent") else {
        return;
    };
    tamper(&stage, &clean, None);
    let manifest = stage.snapshot();
    assert_eq!(noted(&manifest).usual, 0);
    assert_eq!(noted(&manifest).alarm.unwrap().clean, clean.snapshot);
    assert_eq!(stage.holds(clean.snapshot).len(), 1);
}

#[test]
fn a_parent_may_say_anything() {
    let Some((stage, clean)) = struck("hostile parent") else {
        return;
    };
    // Who writes such a one into the vault silences it; no count is above the disk's blocks.
    let record = RewrittenRecord {
        blocks: u64::MAX,
        hardly_pack: u64::MAX,
        usual: u64::MAX,
        ..RewrittenRecord::default()
    };
    tamper(&stage, &clean, Some(record));
    let silenced = stage.snapshot();
    assert_eq!(
        (noted(&silenced).usual, is_told(&silenced)),
        (blocks(48), false)
    );

    // An alarm that names a snapshot that nobody has, or a later one, holds the parent.
    for ahead in [0, 1000] {
        stage.write(0, &text(48 * MIB, 7 + ahead));
        let parent = stage.snapshot();
        let claimed = EncryptionAlarm {
            told: parent.snapshot,
            clean: SnapshotId::generate(parent.snapshot.unix_ms() + ahead),
            looked: u64::MAX,
            packed: 0,
            held: true,
        };
        let record = RewrittenRecord {
            alarm: Some(claimed),
            ..RewrittenRecord::default()
        };
        tamper(&stage, &parent, Some(record));
        stage.write(0, &noise(40 * MIB, 9 + ahead));
        let manifest = stage.snapshot();
        assert_eq!(noted(&manifest).alarm.unwrap().clean, parent.snapshot);
        assert_eq!(stage.holds(parent.snapshot).len(), 1);
    }
}
