//! What drills ask for, and what it costs to show them in `status`: whatever others have put.

use super::{Counted, MIB, Requests, disk, reads};
use crate::boots::can_boot;
use crate::boots::sector::Sector;
use crate::mount::shot::Shot;
use crate::support::host::{available, noise};
use crate::support::rig::Rig;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use stillpoint::device::{Disk, HostLayout};
use stillpoint::engine::{
    BootDiskBus, BootOptions, DiskDrills, DrillOptions, DrilledDisks, Silent, WantedDisks, drill,
    newest_drills, newest_good,
};
use stillpoint::format::{DrillKind, DrillName, DrillOutcome, DrillRecord, DrillStep, Manifest};
use stillpoint::model::{Bytes, Mode, SnapshotId};
use stillpoint::store::{CountStore, NewestDrill, ObjectName, ObjectStore};

/// A snapshot of these bytes, and what a drill of it asks for.
fn drilled(bytes: &[u8], boot: Option<BootOptions>) -> Requests {
    let shot = Shot::of(bytes);
    let counted = Counted::of(Arc::new(CountStore::new(shot.store.clone())));
    let [snapshot] = counted.vault.snapshots().unwrap().try_into().unwrap();
    let manifest = counted.vault.manifest_hashed(&snapshot).unwrap();
    // The listing and the manifest, as any command that is given an ID.
    assert_eq!(counted.take(), reads(1, 1));
    let options = DrillOptions {
        vault: &counted.vault,
        snapshot: &snapshot,
        manifest: &manifest,
        run_dir: shot.run_dir.path(),
        check: None,
        boot,
        timeout: Duration::from_secs(240),
    };
    let report = drill(&options, &Silent).unwrap();
    report.object.unwrap();
    counted.take()
}

#[test]
fn a_drill_asks_for_what_it_reads_and_puts_one_object() {
    if available("requests: a drill of files") {
        let asked = drilled(&noise(MIB, 3), None);
        let expected = Requests {
            // What it has found.
            put: 1,
            // The drills before it: its name is later than theirs.
            ..reads(asked.get, 1)
        };
        assert_eq!(asked, expected);
        // The index object, the copy of the footer, and the segment's parts that tables and
        // filesystems would be in.
        assert!((3..=8).contains(&asked.get), "{asked:?}");
    }
    if can_boot("requests: a drill of a machine") {
        let folder = tempfile::tempdir().unwrap();
        let boot = BootOptions {
            firmware: None,
            bus: BootDiskBus::Virtio,
            memory: Bytes(128 << 20),
            accelerate: false,
            keep: folder.path().join("kept"),
            work: folder.path().into(),
            room: Bytes(64 << 20),
            rest: Duration::from_secs(240),
        };
        let mut bytes = Sector::says("host login: ").on_serial().bytes();
        bytes.resize(MIB, 0);
        let asked = drilled(&bytes, Some(boot));
        let expected = Requests {
            put: 1,
            ..reads(asked.get, 1)
        };
        assert_eq!(asked, expected);
        // As above; the machine reads its first sector alone.
        assert!((3..=8).contains(&asked.get), "{asked:?}");
    }
}

/// A host with a disk, and drills of its snapshots, one later than the other.
struct Drilled {
    counted: Counted,
    layout: HostLayout,
    disks: Vec<Disk>,
    last: Manifest,
    time: u64,
}

impl Drilled {
    fn put(&mut self, of: &Manifest, kind: DrillKind, outcome: DrillOutcome) {
        let vault = &self.counted.vault;
        let snapshot = vault.find(&of.snapshot.to_string()).unwrap();
        let manifest = vault.manifest_hashed(&snapshot).unwrap().hash;
        self.time += 1;
        let record = DrillRecord {
            drill: SnapshotId::generate(self.time),
            snapshot: of.snapshot,
            manifest,
            host: snapshot.host().unwrap().into(),
            time: Timestamp::from_millisecond(self.time.cast_signed()).unwrap(),
            by: "by".into(),
            writer: "1".into(),
            kernel: "6".into(),
            check: None,
            took_ms: 1,
            kind: Some(kind),
            boot: None,
            steps: vec![DrillStep {
                what: "it is tried".into(),
                outcome,
                said: String::new(),
                took_ms: 1,
            }],
        };
        vault.put_drill(&record).unwrap();
    }

    /// What `status` asks of the vault for drills, beside the newest copies, and what it finds.
    fn status(&self) -> (Requests, DrilledDisks) {
        let wanted = WantedDisks {
            host: &self.last.host,
            topology: &self.layout.topology,
            disks: &self.disks,
            now: self.last.time,
        };
        let asked = self.counted.again();
        let found = newest_good(&asked.vault, &wanted, &Silent).unwrap();
        assert_eq!(asked.take(), reads(1, 2));
        let drilled = newest_drills(&asked.vault, &wanted, &found, &Silent).unwrap();
        assert!(drilled.error.is_none() && drilled.lacks.is_none());
        (asked.take(), drilled)
    }
}

/// What the newest ones have come to, and those of the newest good copy.
fn came_to(drilled: &DrilledDisks) -> [&'static str; 4] {
    let [DiskDrills { newest, of_copy }] = drilled.of.as_slice() else {
        panic!("{drilled:?}");
    };
    let all = [
        &newest.opened,
        &newest.booted,
        &of_copy.opened,
        &of_copy.booted,
    ];
    all.map(|says| match says {
        None => "none",
        Some(NewestDrill::Unknown(_)) => "?",
        Some(says) if says.has_failed() => "failed",
        Some(_) => "passed",
    })
}

#[test]
fn status_asks_for_drills_by_one_listing_and_what_they_say() {
    use DrillKind::{Booted, Opened};
    use DrillOutcome::{Failed, Passed};
    let Some(rig) = Rig::new("requests: drills in status") else {
        return;
    };
    let (disk, counted) = (disk(), Counted::new());
    let mut all = Vec::new();
    for mode in [Mode::Full].into_iter().chain([Mode::Incremental; 4]) {
        all.push(counted.snapshot(&rig, &disk, mode).0);
    }
    let layout = HostLayout::scan().unwrap();
    let disks = layout.resolve(std::slice::from_ref(&disk.device)).unwrap();
    let last = all[4].clone();
    let mut host = Drilled {
        counted,
        layout,
        disks,
        last: last.clone(),
        time: 1_700_000_000_000,
    };
    // There are none: one listing says so.
    let (asked, drilled) = host.status();
    assert_eq!(asked, reads(0, 1));
    assert_eq!(came_to(&drilled), ["none"; 4]);

    // One of an older snapshot: what it says, and its manifest.
    host.put(&all[1], Opened, Passed);
    let (asked, drilled) = host.status();
    assert_eq!(asked, reads(2, 1));
    assert_eq!(came_to(&drilled), ["passed", "none", "none", "none"]);
    // Each older one of its kind is read, as it might have booted, and no manifest with it.
    host.put(&all[2], Opened, Failed);
    host.put(&all[3], Opened, Passed);
    let (asked, drilled) = host.status();
    assert_eq!(asked, reads(3 + 1, 1));
    assert_eq!(came_to(&drilled), ["passed", "none", "none", "none"]);
    // The newest good copy has failed, and an older one is good: both are told.
    host.put(&last, Booted, Failed);
    host.put(&last, Opened, Failed);
    host.put(&all[0], Opened, Passed);
    host.put(&all[0], Booted, Passed);
    let (asked, drilled) = host.status();
    assert_eq!(came_to(&drilled), ["passed", "passed", "failed", "failed"]);
    // Four drills, two manifests; the others count for nothing.
    assert_eq!(asked, reads(4 + 2, 1));

    // What others have put costs the listing alone.
    for number in 0..300_u64 {
        let of_others = ObjectName::drill(DrillName {
            snapshot: SnapshotId::generate(number),
            drill: SnapshotId::generate(1_700_000_100_000 + number),
        });
        let rubbish = b"rubbish".to_vec().into();
        host.counted.store.put(&of_others, rubbish).unwrap();
    }
    let (asked, drilled) = host.status();
    assert_eq!(asked, reads(4 + 2, 1));
    assert_eq!(came_to(&drilled), ["passed", "passed", "failed", "failed"]);
    // One that cannot be read is the newest of both kinds, and it is not known to be good.
    let drill = SnapshotId::generate(1_700_000_200_000);
    let snapshot = all[2].snapshot;
    let name = ObjectName::drill(DrillName { snapshot, drill });
    let rubbish = b"rubbish".to_vec().into();
    host.counted.store.put(&name, rubbish).unwrap();
    let (_, drilled) = host.status();
    assert_eq!(came_to(&drilled), ["?", "?", "failed", "failed"]);
    let why = drilled.of[0].newest.opened.clone().unwrap();
    assert!(
        matches!(&why, NewestDrill::Unknown(why) if why.contains(&name.to_string())),
        "{why:?}"
    );
}
