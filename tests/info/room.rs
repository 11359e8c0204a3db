//! A run looks at the room in the vault before it reads anything, and before anything is held.

use crate::support::host::{Mount, available, noise};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check_all, take, vault_options};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use stillpoint::ErrorKind;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::Vault;

/// A vault on a filesystem of its own.
struct Small {
    mounted: Mount,
    vault: Arc<Vault>,
}

impl Small {
    fn new(test: &str, size: &str) -> Option<Self> {
        if !available(test) {
            return None;
        }
        let mounted = Mount::tmpfs(size);
        let path = mounted.place.join("vault");
        let vault = Arc::new(Vault::create_local(&path, vault_options()).unwrap());
        Some(Self { mounted, vault })
    }

    fn fill(&self, bytes: usize) -> PathBuf {
        let path = self.mounted.place.join("filler");
        fs::write(&path, vec![1; bytes]).unwrap();
        path
    }

    fn free(&self) -> u64 {
        self.vault.room().unwrap().unwrap().free.0
    }
}

/// How often a run has come to the moment before all is held, and to reading.
#[derive(Clone, Default)]
struct Moments {
    held: Arc<AtomicU32>,
    opened: Arc<AtomicU32>,
}

impl Moments {
    fn take(&self) -> Take {
        let (held, opened) = (Arc::clone(&self.held), Arc::clone(&self.opened));
        Take {
            before: Box::new(move |_| {
                held.fetch_add(1, Ordering::Relaxed);
            }),
            reader: Box::new(move |reader| {
                opened.fetch_add(1, Ordering::Relaxed);
                reader
            }),
            ..Take::default()
        }
    }
}

/// A disk of so many blocks that do not pack, or do.
fn disk(blocks: u64, packs: bool) -> ModelDisk {
    let disk = ModelDisk::new(0, blocks * BLOCK_SIZE, 1);
    let length = (blocks * BLOCK_SIZE) as usize;
    disk.write(
        0,
        &if packs {
            vec![7; length]
        } else {
            noise(length, 3)
        },
    );
    disk
}

#[test]
fn without_room_nothing_is_begun() {
    let Some(small) = Small::new("without_room_nothing_is_begun", "2m") else {
        return;
    };
    let whole = [disk(8, false)];
    let first = take(&small.vault, &whole, Take::default()).unwrap();
    assert_eq!(first.manifest.warnings, [""; 0]);
    let filler = small.fill(small.free() as usize - 500_000);
    let moments = Moments::default();
    let error = take(&small.vault, &whole, moments.take()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    let said = error.to_string();
    assert!(
        said.contains("KiB free") && said.contains("nothing was held or frozen"),
        "{said}"
    );
    assert!(
        error.hint().unwrap().contains("stillpoint info"),
        "{error:?}"
    );
    assert_eq!(moments.held.load(Ordering::Relaxed), 0);
    fs::remove_file(filler).unwrap();
    let next = take(&small.vault, &whole, moments.take()).unwrap();
    assert!(moments.held.load(Ordering::Relaxed) > 0);
    check_all(&small.vault, &[first, next]);
}

#[test]
fn without_room_for_a_file_nothing_is_begun() {
    let Some(small) = Small::new("without_room_for_a_file", "4m,nr_inodes=60") else {
        return;
    };
    let free = || small.vault.room().unwrap().unwrap().free_files.unwrap();
    for number in 0.. {
        if free() < 8 {
            break;
        }
        fs::write(small.mounted.place.join(format!("filler{number}")), "").unwrap();
    }
    let error = take(&small.vault, &[disk(2, true)], Take::default())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(
        error.to_string().contains("room for 7 more files"),
        "{error}"
    );
}

/// What was packed before the cut does not fit: nobody is held for nothing.
#[test]
fn what_is_packed_and_does_not_fit_ends_a_run_before_the_cut() {
    let Some(small) = Small::new("what_is_packed_and_does_not_fit", "6m") else {
        return;
    };
    // By the estimate, of half, it fits.
    let moments = Moments::default();
    let error = take(&small.vault, &[disk(120, false)], moments.take())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(
        error
            .to_string()
            .contains("is to be stored: nothing was held"),
        "{error}"
    );
    assert_eq!(moments.opened.load(Ordering::Relaxed), 1);
    assert_eq!(moments.held.load(Ordering::Relaxed), 0);
    let segments = small.mounted.place.join("vault/segments");
    let left = fs::read_dir(segments).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing was put");
}

#[test]
fn what_may_not_fit_is_told_and_an_estimate_ends_no_run() {
    let Some(small) = Small::new("what_may_not_fit", "4m") else {
        return;
    };
    // Half of it would be 5 MiB. It packs to nearly nothing.
    let disks = [disk(160, true)];
    let first = take(&small.vault, &disks, Take::default()).unwrap();
    let [warning] = &first.manifest.warnings[..] else {
        panic!("{:?}", first.manifest.warnings);
    };
    for words in [
        "MiB free",
        "half of the 10.00 MiB to read",
        "`stillpoint info`",
    ] {
        assert!(warning.contains(words), "{words}: {warning}");
    }
    // The next one is estimated by this one.
    let full = || Take {
        full: true,
        ..Take::default()
    };
    let second = take(&small.vault, &disks, full()).unwrap();
    assert_eq!(second.manifest.warnings, [""; 0]);
    // What was learned of data that does not pack counts, too.
    disks[0].write(0, &noise(20 * BLOCK_SIZE as usize, 5));
    let third = take(&small.vault, &disks, Take::default()).unwrap();
    assert_eq!(third.manifest.warnings, [""; 0]);
    let fourth = take(&small.vault, &disks, full()).unwrap();
    let [warning] = &fourth.manifest.warnings[..] else {
        panic!("{:?}", fourth.manifest.warnings);
    };
    assert!(
        warning.contains("packs as for its last snapshot"),
        "{warning}"
    );
    check_all(&small.vault, &[first, second, third, fourth]);
}
