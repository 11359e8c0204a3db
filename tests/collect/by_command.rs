//! The program itself beside a plan: a snapshot refers to nothing that a collector is about to
//! delete, and a mirror relies on nothing of that sort.

use crate::cli::lab::{Disk, Lab, noise};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use stillpoint::engine::{Silent, mirror};
use stillpoint::format::{Condemned, Manifest};
use stillpoint::model::{SnapshotId, block_count};
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};

fn write(disk: &Disk, seed: u64, at: u64, length: usize) {
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(&noise(length, seed), at).unwrap();
    device.sync_all().unwrap();
}

/// All that the newest snapshot refers to.
fn newest(vault: &Vault) -> (Manifest, BTreeSet<Condemned>) {
    let newest = vault.snapshots().unwrap().pop().unwrap();
    let manifest = vault.manifest(&newest).unwrap();
    let mut all = BTreeSet::new();
    for disk in &manifest.disks {
        let blocks = block_count(disk.identity.size);
        let map = vault.load_index(&disk.index, blocks).unwrap();
        all.extend(disk.index.iter().map(|part| Condemned::Index(part.id)));
        let segments = map.iter().filter_map(|run| run.segment());
        all.extend(segments.map(Condemned::Segment));
    }
    (manifest, all)
}

#[test]
fn a_snapshot_refers_to_nothing_that_is_about_to_go() {
    let Some(lab) = Lab::with_vault("a snapshot beside a plan") else {
        return;
    };
    let disk = lab.disk("disk", 16 << 20);
    write(&disk, 1, 0, 6 << 20);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let vault = Vault::open_local(&lab.path("vault")).unwrap();
    let (first, parents) = newest(&vault);
    vault.put_plan(SnapshotId::generate(1), &parents).unwrap();
    write(&disk, 2, 1 << 20, 70_000);
    lab.run(&["snapshot", &disk.device]).expect(3);
    let (second, own) = newest(&vault);
    assert_ne!(first.snapshot, second.snapshot);
    let both: Vec<&Condemned> = own.intersection(&parents).collect();
    assert!(both.is_empty(), "{both:?}");
    // The collector does what its plan says.
    let found = vault.find(&first.snapshot.to_string()).unwrap();
    vault.delete(&found).unwrap();
    for object in &parents {
        let name = match object {
            Condemned::Segment(id) => ObjectName::segment(*id),
            Condemned::Index(id) => ObjectName::index(*id),
            other => panic!("{other:?}"),
        };
        std::fs::remove_file(lab.path("vault").join(name.as_str())).unwrap();
    }
    lab.run(&["verify", "--all"]).expect(0);
    let image = lab.path("image");
    lab.run(&["restore", "latest", image.to_str().unwrap()])
        .expect(0);
    assert!(std::fs::read(image).unwrap() == std::fs::read(&disk.image).unwrap());
}

#[test]
fn a_mirror_relies_on_nothing_that_is_about_to_go() {
    let Some(lab) = Lab::with_vault("a mirror beside a plan") else {
        return;
    };
    let disk = lab.disk("disk", 16 << 20);
    write(&disk, 1, 0, 1 << 20);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let here = Vault::open_local(&lab.path("vault")).unwrap();
    let (first, needs) = newest(&here);
    let store = Arc::new(MemoryStore::new());
    let there = Vault::create_second(store.clone(), &here).unwrap();
    let send = || mirror(&here, &there, &here.snapshots().unwrap(), &Silent).unwrap();
    assert_eq!(send().sent, [first.snapshot]);
    let found = there.find(&first.snapshot.to_string()).unwrap();
    there.delete(&found).unwrap();
    there.put_plan(SnapshotId::generate(1), &needs).unwrap();
    let refused = send();
    assert!(refused.sent.is_empty(), "{refused:?}");
    assert!(
        refused
            .warnings
            .iter()
            .any(|warning| warning.contains("`gc`")),
        "{refused:?}"
    );
    // When the plan is gone, and what it names, all comes again.
    let plans = store
        .list_all(&ObjectName::parse("condemned").unwrap())
        .unwrap();
    let segments = store.list_all(&ObjectName::segments()).unwrap();
    plans
        .iter()
        .chain(&segments)
        .for_each(|one| store.delete(&one.name).unwrap());
    assert_eq!(send().sent, [first.snapshot]);
}
