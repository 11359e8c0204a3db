//! A copy that is made anew in the midst of a run: what the first attempt has stored does not stand
//! where the second found free space.

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check, take, vault_options};
use std::sync::Arc;
use stillpoint::model::{BLOCK_SIZE, BlockIndex, Content, Mode, block_count};
use stillpoint::store::{MemoryStore, Vault};

#[test]
fn what_is_free_in_the_last_attempt_is_free_in_the_snapshot() {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
    let disk = ModelDisk::new(0, 4 * BLOCK_SIZE, 1);
    let disks = std::slice::from_ref(&disk);
    disk.write(0, &[1; 600]);
    disk.write(2 * BLOCK_SIZE, &[2; 600]);
    let mut cuts = 0;
    let options = Take {
        before: Box::new(move |disks| {
            cuts += 1;
            if cuts == 1 {
                // After it was copied; and no mark tells of it in the second attempt.
                disks[0].write(2 * BLOCK_SIZE, &[3; 600]);
                disks[0].free(2);
                disks[0].reboot();
            }
        }),
        ..Take::default()
    };
    let first = take(&vault, disks, options).unwrap();
    let record = &first.manifest.disks[0];
    assert!(record.reason.contains("proof"), "{}", record.reason);
    let map = vault.load_index(&record.index, block_count(record.identity.size));
    assert_eq!(map.unwrap().get(BlockIndex(2)), Some(Content::Free));
    assert_eq!(record.free_skipped_bytes.0, BLOCK_SIZE);
    check(&vault, &first);
    // The sample must not take it for a fault of tracking.
    let second = take(&vault, disks, Take::default()).unwrap();
    assert_eq!(second.manifest.warnings, Vec::<String>::new());
    assert_eq!(second.manifest.disks[0].mode, Mode::Incremental);
    check(&vault, &second);
}

#[test]
fn what_is_put_to_use_after_the_question_is_not_free() {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
    let disk = ModelDisk::new(0, 4 * BLOCK_SIZE, 1);
    disk.write(0, &[1; 600]);
    (0..4).for_each(|block| disk.free(block));
    let options = Take {
        before: Box::new(|disks| disks[0].write(BLOCK_SIZE, &[4; 600])),
        ..Take::default()
    };
    let taken = take(&vault, std::slice::from_ref(&disk), options).unwrap();
    let record = &taken.manifest.disks[0];
    assert_eq!(record.free_skipped_bytes.0, 3 * BLOCK_SIZE);
    check(&vault, &taken);
}
