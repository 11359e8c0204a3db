//! It refuses in words what does not fit into the memory that it may take.

use super::*;
use crate::engine::Silent;
use crate::format::{BlockDedup, Compression};
use crate::model::{BlockIndex, Content, ObjectId, Run, RunMap};
use crate::store::{Draft, MemoryStore, ObjectName, ObjectStore, VaultOptions};
use serde_json::json;
use std::sync::Arc;

fn vault() -> (Arc<MemoryStore>, Arc<Vault>) {
    let store = Arc::new(MemoryStore::one_at_a_time());
    let options = VaultOptions {
        name: "test".into(),
        description: None,
        compression: Compression::default(),
        dedup: BlockDedup::Disk,
        encrypt: None,
    };
    let vault = Arc::new(Vault::create(store.clone(), options).unwrap());
    (store, vault)
}

fn refused(vault: &Vault, most: u64) -> String {
    let error = look_within(vault, &Silent, most).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    error.to_string()
}

#[test]
fn a_listing_that_does_not_end_is_refused() {
    let (store, vault) = vault();
    for _ in 0..100 {
        let name = ObjectName::segment(ObjectId::generate());
        store.put(&name, vec![0; 10].into()).unwrap();
    }
    assert!(refused(&vault, 50 * 144).contains("does not fit"));
    let found = look_within(&vault, &Silent, 1 << 20).unwrap();
    assert_eq!(found.unneeded.segments.objects, 100);
}

/// A few manifests of one hostile writer, and next to nothing beside them.
#[test]
fn names_that_are_long_and_many_are_refused() {
    let (_, vault) = vault();
    for at in 1..4 {
        let draft = Draft::begin(&vault);
        let mut map = RunMap::new();
        map.insert(Run {
            start: BlockIndex(0),
            count: 16,
            content: Content::Zero,
        });
        let disks = (0..50).map(|number| {
            let index = draft.put_index(&map, 16, true).unwrap();
            json!({
                "identity": {"name": format!("d{number}"), "dev": {"major": 8, "minor": number},
                    "size": 1 << 20, "logical_block": 512,
                    "serial": format!("{at}-{number}-{}", "x".repeat(4000)), "wwn": null,
                    "diskseq": null, "table_id": null},
                "level": "crash", "mode": "full", "reason": "", "parent": null,
                "all_blocks": false, "passes": 1, "read_bytes": 0, "changed_bytes": 0,
                "stored_bytes": 0, "frozen_bytes": 0, "free_skipped_bytes": 0, "free_rules": 1,
                "filesystems": [], "index": index, "footers": [], "cut": null,
            })
        });
        let disks: Vec<_> = disks.collect();
        let id = SnapshotId::generate(at * 1000);
        let now = Timestamp::now().to_string();
        let manifest = json!({
            "format": 2, "snapshot": id, "vault": vault.info().id, "time": now, "started": now,
            "host": "web1", "kernel": "", "writer": "", "level": "crash",
            "requested_level": "crash", "freeze_us": null, "warnings": [], "tags": {},
            "hooks": null, "disks": disks,
        });
        draft
            .commit(&mut serde_json::from_value(manifest).unwrap())
            .unwrap();
    }
    let said = refused(&vault, 800_000);
    assert!(said.contains("was read last"), "{said}");
    let found = look_within(&vault, &Silent, 2 << 20).unwrap();
    assert_eq!((found.snapshots.len(), found.disks.len()), (3, 150));
}
