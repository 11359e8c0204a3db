//! While filesystems may be frozen nothing is noted, and nothing is asked of what was cut off.

use super::{BLOCKS, Stage, segments};
use crate::support::vaults::take;
use crossbeam_channel::bounded;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{FaultStore, Vault};

/// How long the one note of a run is by now.
fn length(directory: &std::path::Path) -> u64 {
    let mut notes = std::fs::read_dir(directory).unwrap();
    notes.next().unwrap().unwrap().metadata().unwrap().len()
}

#[test]
fn what_is_put_while_all_is_held_is_noted_afterwards() {
    let stage = Stage::new();
    let (go_on, wait) = bounded::<()>(0);
    let begun = AtomicUsize::new(0);
    let there = Arc::clone(&stage.store);
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        let is_put = operation.verb == "put" && operation.name.as_str().starts_with("segments/");
        if is_put && !operation.done && begun.fetch_add(1, Ordering::SeqCst) == 2 {
            // Until all is held.
            let _ = wait.recv();
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let mut options = stage.options();
    options.cut_off = true;
    let directory = stage.notes.path().join("sent");
    let mut go_on = Some(go_on);
    options.before = Box::new(move |_| {
        let noted = length(&directory);
        drop(go_on.take());
        while segments(there.as_ref()) < 3 {
            std::thread::yield_now();
        }
        // Were it not held back, it would be written about now.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            length(&directory),
            noted,
            "a note is written while all is held"
        );
    });
    assert!(take(&vault, from_ref(&stage.disk), options).is_err());
    let (_, resumed) = stage.next(stage.options());
    assert_eq!(resumed, BLOCKS, "what was put then is not noted");
}

/// From the first flush on blocks are stored as ever: to look for them takes the network.
#[test]
fn what_is_read_for_the_cut_is_put_as_ever() {
    let stage = Stage::cut_off();
    let mut options = stage.options();
    options.settling = Box::new(|disks| {
        let same = super::noise(BLOCK_SIZE, 1);
        disks[0].write(0, &same);
    });
    let (_, resumed) = stage.next(options);
    assert_eq!(resumed, BLOCKS - 1);
}
