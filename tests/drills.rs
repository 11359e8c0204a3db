//! What drills have found, as a vault has it: what others put costs little and hides nothing, who
//! may not read it is told so, what is left of deleted snapshots goes; and a vault that hangs ends
//! no drill but its own steps.

mod kinds;

use crate::mount::attached::assert_nothing_attached;
use crate::mount::scene::{Taken, make};
use crate::mount::shot::Shot;
use crate::support::host::{available, noise};
use crate::support::vaults::vault_options;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stillpoint::engine::{DrillOptions, Event, Monitor, Silent, drill};
use stillpoint::format::{DrillName, DrillOutcome, DrillRecord, DrillStep, ManifestHash};
use stillpoint::model::{Cancel, SnapshotId};
use stillpoint::store::{
    CountStore, DrillsWanted, FaultStore, MemoryStore, NewestDrill, ObjectName, ObjectStore, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

fn record(name: DrillName) -> DrillRecord {
    DrillRecord {
        drill: name.drill,
        snapshot: name.snapshot,
        manifest: manifest(),
        host: "host".into(),
        time: Timestamp::now(),
        by: "by".into(),
        writer: "1".into(),
        kernel: "6".into(),
        check: None,
        took_ms: 1,
        kind: None,
        boot: None,
        steps: vec![DrillStep {
            what: "all".into(),
            outcome: DrillOutcome::Passed,
            said: String::new(),
            took_ms: 1,
        }],
    }
}

fn manifest() -> ManifestHash {
    ManifestHash::of(&[7; 64])
}

/// Snapshots of which each has so many drills.
fn drilled(vault: &Vault, snapshots: u64, drills: u64) -> Vec<DrillsWanted> {
    let each = (0..snapshots).map(|at| {
        let snapshot = SnapshotId::generate(1_700_000_000_000 + at);
        for number in 0..drills {
            let drill = SnapshotId::generate(1_710_000_000_000 + number);
            vault
                .put_drill(&record(DrillName { snapshot, drill }))
                .unwrap();
        }
        DrillsWanted {
            snapshot,
            manifest: manifest(),
        }
    });
    each.collect()
}

fn memory_vault() -> (Arc<MemoryStore>, Vault) {
    let store = Arc::new(MemoryStore::new());
    Vault::create(store.clone(), vault_options()).unwrap();
    let vault = Vault::open(store.clone()).unwrap();
    (store, vault)
}

#[test]
fn few_questions_tell_of_all_however_many_others_have_put() {
    let (memory, others) = memory_vault();
    let wanted = drilled(&others, 100, 3);
    let store = Arc::new(CountStore::new(memory.clone()));
    let vault = Vault::open(store.clone()).unwrap();
    let asked = |wanted: &[DrillsWanted]| {
        store.take();
        let found = vault.drilled(wanted, &|| Ok(())).unwrap();
        let mut counts = store.take();
        let mut of = |verb| counts.remove(verb).unwrap_or_default().operations;
        (of("list"), of("get"), of("size"), found)
    };
    let (list, get, size, found) = asked(&wanted[..1]);
    // None of the three has booted anything: that takes a look at each.
    assert_eq!((list, get, size, found.of.len()), (1, 3, 0, 1));
    let (list, get, size, found) = asked(&wanted);
    assert_eq!((list, get, size, found.of.len()), (1, 300, 0, 100));
    let all = found.of.values();
    let says =
        |newest: &NewestDrill| matches!(newest, NewestDrill::Says(record) if record.is_whole());
    assert!(
        all.into_iter()
            .all(|one| one.count == 3 && says(&one.newest))
    );
    assert_eq!(found.lacks, None);

    // Who may only put has put very many: they cost eight pages, not thousands.
    let rubbish = SnapshotId::generate(1_600_000_000_000);
    for number in 0..9000 {
        let drill = SnapshotId::generate(1_600_000_000_000 + number);
        let name = ObjectName::drill(DrillName {
            snapshot: rubbish,
            drill,
        });
        memory.put(&name, b"rubbish".to_vec().into()).unwrap();
    }
    let (list, get, size, found) = asked(&wanted);
    assert_eq!((list, get, size, found.of.len()), (1 + 64, 3 * 64, 0, 64));
    let lacks = found.lacks.unwrap();
    assert!(
        lacks.contains("of 36 snapshots it was not asked"),
        "{lacks}"
    );
    // The newest ones are named first.
    assert!(
        wanted[..64]
            .iter()
            .all(|one| found.of.contains_key(&one.snapshot))
    );
    // Nor is one of them told of that has so many.
    let (list, get, _, found) = asked(&[DrillsWanted {
        snapshot: rubbish,
        manifest: manifest(),
    }]);
    assert_eq!((list, get), (1, 0));
    let newest = &found.of[&rubbish].newest;
    assert!(matches!(newest, NewestDrill::Unknown(why) if why.contains("more than 1000")));
}

#[test]
fn names_that_are_none_hide_no_newer_drill() {
    let (memory, vault) = memory_vault();
    let wanted = drilled(&vault, 1, 1);
    let snapshot = wanted[0].snapshot;
    let mut failed = record(vault.name_drill(snapshot));
    failed.steps[0].outcome = DrillOutcome::Failed;
    vault.put_drill(&failed).unwrap();
    for number in 0..1500 {
        for first in ["0", "z"] {
            let name = format!("drills/{snapshot}/{first}{number:025}");
            let name = ObjectName::parse(&name).unwrap();
            memory.put(&name, b"rubbish".to_vec().into()).unwrap();
        }
    }
    let found = vault.drilled(&wanted, &|| Ok(())).unwrap();
    assert!(
        matches!(found.of[&snapshot].newest, NewestDrill::Unknown(_)),
        "{found:?}"
    );
}

/// A vault of which `drills/` may not be asked for by these verbs.
fn forbidden(memory: &Arc<MemoryStore>, verbs: &'static [&'static str]) -> Vault {
    let store = FaultStore::new(memory.clone(), move |operation| {
        let is_drill = operation.name.to_string().starts_with("drills");
        match is_drill && verbs.contains(&operation.verb) {
            true => Err(Error::new(ErrorKind::Unsupported, "403")),
            false => Ok(()),
        }
    });
    Vault::open(Arc::new(store)).unwrap()
}

#[test]
fn who_may_not_read_drills_is_told_so_and_no_more() {
    let (memory, others) = memory_vault();
    let wanted = drilled(&others, 10, 1);
    for some in [&wanted[..], &wanted[..2]] {
        let listless = forbidden(&memory, &["list"]);
        let found = listless.drilled(some, &|| Ok(())).unwrap();
        assert!(found.of.is_empty());
        assert!(found.lacks.unwrap().contains("403"));
        let unread = forbidden(&memory, &["get"])
            .drilled(some, &|| Ok(()))
            .unwrap();
        assert_eq!((unread.of.len(), unread.lacks), (some.len(), None));
        for one in unread.of.values() {
            assert!(matches!(&one.newest, NewestDrill::Unknown(why) if why.contains("403")));
        }
    }
    // Who may not list can put one all the same.
    let name = forbidden(&memory, &["list"]).name_drill(wanted[0].snapshot);
    others.put_drill(&record(name)).unwrap();
    // A signal is a signal.
    let stopped = || Err(Error::new(ErrorKind::Interrupted(15), "a signal"));
    assert!(others.drilled(&wanted, &stopped).is_err());
}

#[test]
fn a_new_drill_is_the_newest_whatever_the_clock_says() {
    let (_, vault) = memory_vault();
    let snapshot = SnapshotId::generate(1);
    // As a host would name it whose clock is ahead by a minute: the store has got it now.
    let ahead = u64::try_from(Timestamp::now().as_millisecond()).unwrap() + 60_000;
    let drill = SnapshotId::generate(ahead);
    vault
        .put_drill(&record(DrillName { snapshot, drill }))
        .unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(2));
        let name = vault.name_drill(snapshot);
        let mut failed = record(name);
        failed.steps[0].outcome = DrillOutcome::Failed;
        vault.put_drill(&failed).unwrap();
        let wanted = DrillsWanted {
            snapshot,
            manifest: manifest(),
        };
        let found = vault.drilled(&[wanted], &|| Ok(())).unwrap();
        let NewestDrill::Says(newest) = &found.of[&snapshot].newest else {
            panic!("{found:?}");
        };
        assert_eq!(newest.drill, name.drill);
    }
}

fn left(store: &MemoryStore) -> BTreeSet<String> {
    let all = store.list_all(&ObjectName::drills()).unwrap();
    all.into_iter().map(|one| one.name.to_string()).collect()
}

#[test]
fn what_is_left_of_deleted_snapshots_goes_and_nothing_else() {
    let (memory, vault) = memory_vault();
    let wanted = drilled(&vault, 6, 2);
    let there = wanted[0].snapshot;
    // One that a listing has missed: its manifest is there.
    let missed = wanted[1].snapshot;
    let manifest = ObjectName::manifest("host", missed);
    memory.put(&manifest, b"any".to_vec().into()).unwrap();
    // Of a later version: very many, before all others.
    let snapshot = SnapshotId::generate(1_500_000_000_000);
    let later = later_version();
    for number in 0..200 {
        let drill = SnapshotId::generate(1_500_000_000_000 + number);
        let name = ObjectName::drill(DrillName { snapshot, drill });
        memory.put(&name, later.clone().into()).unwrap();
    }
    // Rubbish beside an old snapshot, and beside one that may be on its way.
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
    let [old, young] = [now - 2 * 86_400_000, now].map(|ms| DrillName {
        snapshot: SnapshotId::generate(ms),
        drill: SnapshotId::generate(ms),
    });
    for name in [old, young] {
        memory
            .put(&ObjectName::drill(name), b"rubbish".to_vec().into())
            .unwrap();
    }
    let before = left(&memory);
    for _ in 0..200 {
        vault
            .delete_stray_drills(&|id| id == there, 32, &|| Ok(()))
            .unwrap();
    }
    let gone: BTreeSet<String> = before.difference(&left(&memory)).cloned().collect();
    let strays = wanted[2..].iter().map(|one| one.snapshot.to_string());
    let strays: BTreeSet<String> = strays.chain([old.snapshot.to_string()]).collect();
    let of = |name: &String| name.split('/').nth(1).unwrap().to_owned();
    assert_eq!(gone.iter().map(of).collect::<BTreeSet<_>>(), strays);
    assert_eq!(gone.len(), 2 * 4 + 1);
    assert!(left(&memory).contains(&ObjectName::drill(young).to_string()));
    // Deleted with their snapshots: few, and more of them.
    vault.delete_drills(&[there, missed], &|| Ok(())).unwrap();
    assert_eq!(left(&memory).len(), 201);
}

/// An object of a version that is not known, its hash right.
fn later_version() -> Vec<u8> {
    let mut bytes = b"SPOBJECT".to_vec();
    bytes.extend_from_slice(&[9, 0, 9, 0]);
    bytes.resize(48, 0);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// Has the vault hang once something was said.
struct HangsAt<'a> {
    words: &'a str,
    hangs: Arc<AtomicBool>,
}

impl Monitor for HangsAt<'_> {
    fn tell(&self, event: Event) {
        if let Event::Note(text) = event
            && text.contains(self.words)
        {
            self.hangs.store(true, Ordering::Relaxed);
        }
    }
}

impl Cancel for HangsAt<'_> {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A disk with an ext4, and a partition that nothing is known of.
fn two_parts() -> Vec<u8> {
    let ext4 = make("ext4", 24, Taken::Clean).bytes;
    let mut bytes = vec![0; 1 << 20];
    for (at, kind) in [(0u32, 0x83), (1, 0x83)] {
        let entry = &mut bytes[446 + 16 * at as usize..][..16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&(2048 + at * 24 * 2048).to_le_bytes());
        let sectors: u32 = if at == 0 { 24 * 2048 } else { 2048 };
        entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes.extend(ext4);
    bytes.extend(noise(1 << 20, 3));
    bytes
}

fn drill_with(shot: &Shot, monitor: &dyn Monitor, timeout: Duration) -> DrillRecord {
    let [snapshot] = shot.vault.snapshots().unwrap().try_into().unwrap();
    let manifest = shot.vault.manifest_hashed(&snapshot).unwrap();
    let options = DrillOptions {
        vault: &shot.vault,
        snapshot: &snapshot,
        manifest: &manifest,
        run_dir: shot.run_dir.path(),
        check: None,
        boot: None,
        timeout,
    };
    let report = drill(&options, monitor).unwrap();
    report.object.unwrap();
    report.record
}

#[test]
fn a_vault_that_fails_makes_nothing_wrong() {
    if !available("drills: a vault that fails") {
        return;
    }
    let mut shot = Shot::of(&two_parts());
    let fails = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&fails);
    let store = FaultStore::new(shot.store.clone(), move |operation| {
        let is_segment = operation.name.to_string().starts_with("segments");
        match is_segment && asked.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Io, "no route to host")),
            false => Ok(()),
        }
    });
    shot.vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let monitor = HangsAt {
        words: "what stands there",
        hangs: fails,
    };
    let record = drill_with(&shot, &monitor, Duration::from_secs(600));
    assert!(
        record.failed().is_none() && !record.is_whole(),
        "{record:#?}"
    );
    let said = record
        .steps
        .iter()
        .any(|step| step.said.contains("no route"));
    assert!(said, "{record:#?}");
}

#[test]
fn a_vault_that_hangs_in_mount_is_ended_by_the_time() {
    if !available("drills: a vault that hangs") {
        return;
    }
    let mut shot = Shot::of(&two_parts());
    let record = drill_with(&shot, &Silent, Duration::from_secs(600));
    let outcome = |record: &DrillRecord, words: &str| {
        let step = record.steps.iter().find(|step| step.what.contains(words));
        step.map(|step| (step.outcome, step.said.clone()))
    };
    let (opened, said) = outcome(&record, "the kernel opens it").unwrap();
    assert_eq!(opened, DrillOutcome::Passed, "{said}");

    let hangs = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&hangs);
    let store = FaultStore::new(shot.store.clone(), move |operation| {
        let is_segment = operation.name.to_string().starts_with("segments");
        while is_segment && asked.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    shot.vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let monitor = HangsAt {
        words: "what stands there",
        hangs: Arc::clone(&hangs),
    };
    let record = drill_with(&shot, &monitor, Duration::from_secs(6));
    hangs.store(false, Ordering::Relaxed);
    let (opened, said) = outcome(&record, "the kernel opens it").unwrap();
    assert_eq!(opened, DrillOutcome::NotDone, "{said}");
    // Without it each read would have waited for a minute, and said so.
    assert!(said.contains("time was over"), "{said}");
    assert!(record.failed().is_none() && !record.is_whole());
    assert_nothing_attached(shot.run_dir.path());
}
