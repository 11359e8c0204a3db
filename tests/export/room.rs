//! What an overlay takes of its host, and what it says of a place while others write there.

use super::image::{SIZE, Stage};
use super::overlay::{PATIENCE, Written, of};
use crate::support::host::run as tool;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use stillpoint::export::Overlay;
use stillpoint::model::{Bytes, Extent};
use stillpoint::{Error, ErrorKind};
use tempfile::TempDir;

/// A filesystem in memory, which goes with this.
struct Small(TempDir);

impl Small {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        tool("mount", &["-t", "tmpfs", "-o", "size=2m", "small", at]);
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_host_refuses_what_takes_room_and_nothing_else() {
    if !nix::unistd::geteuid().is_root() {
        crate::support::host::skipped("export: a full host", "only root mounts");
        return;
    }
    let small = Small::new();
    let stage = Stage::new();
    let image = stage.image();
    let overlay = Overlay::open(&small.0.path().join("o"), &of(), &[]).unwrap();
    let whole = Extent::new(Bytes(0), Bytes(SIZE));
    overlay
        .write(&image, Bytes(0), &[7; 4096], PATIENCE)
        .unwrap();
    let much = vec![8; 2 << 20];
    let error = overlay
        .write(&image, Bytes(4096), &much, PATIENCE)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("stays the host's"), "{error}");
    let mut page = [0; 4096];
    overlay.read(&image, Bytes(0), &mut page, PATIENCE).unwrap();
    assert_eq!(page, [7; 4096]);
    overlay
        .read(&image, Bytes(4096), &mut page, PATIENCE)
        .unwrap();
    assert!(page[..] == stage.truth[4096..8192]);
    let error = overlay
        .zero(&image, whole, true, PATIENCE, &|| Ok(()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    // Holes that were made before give no room.
    overlay.trim(whole).unwrap();
    let error = overlay.write(&image, Bytes(4096), &much, PATIENCE);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NoSpace);
    // More than there is room for, and takes none.
    overlay
        .zero(&image, whole, false, PATIENCE, &|| Ok(()))
        .unwrap();
    overlay.trim(whole).unwrap();
    overlay.flush().unwrap();
    overlay.read(&image, Bytes(0), &mut page, PATIENCE).unwrap();
    assert_eq!(page, [0; 4096]);
}

#[test]
fn zeros_that_take_room_are_written_until_nobody_wants_them_any_more() {
    let disk = Written::new();
    let whole = Extent::new(Bytes(0), Bytes(SIZE));
    let asked = AtomicU64::new(0);
    let stop = || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(()),
        _ => Err(Error::new(ErrorKind::Interrupted(13), "gone")),
    };
    let overlay = disk.overlay();
    let done = overlay.zero(&disk.image, whole, true, PATIENCE, &stop);
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Interrupted(13));
    let mut found = vec![9; SIZE as usize];
    overlay
        .read(&disk.image, Bytes(0), &mut found, PATIENCE)
        .unwrap();
    let piece = 1 << 20;
    assert!(found[..piece].iter().all(|byte| *byte == 0));
    assert!(found[piece..] == disk.truth[piece..]);
    // What takes no room takes no time.
    overlay
        .zero(&disk.image, whole, false, PATIENCE, &stop)
        .unwrap();
}

#[test]
fn what_is_told_of_a_place_covers_some_of_it_whoever_writes_there() {
    let disk = Written::new();
    let place = Extent::new(Bytes(0), Bytes(64 * 4096));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..3000_u64 {
                let grain = Extent::new(Bytes(n % 64 * 4096), Bytes(4096));
                match n % 3 {
                    0 => disk.overlay().trim(grain),
                    _ => disk
                        .overlay()
                        .write(&disk.image, grain.offset, &[1; 4096], PATIENCE),
                }
                .unwrap();
            }
        });
        for _ in 0..3000 {
            let runs = disk.overlay().allocation(&disk.image, place, 1000);
            let runs = runs.unwrap();
            assert!(!runs.is_empty());
            assert!(runs.iter().all(|run| run.length.0 > 0), "{runs:?}");
        }
    });
    for bad in [(SIZE, 1), (u64::MAX, 1)] {
        let place = Extent::new(Bytes(bad.0), Bytes(bad.1));
        assert!(disk.overlay().trim(place).is_err());
        let overlay = disk.overlay();
        assert!(
            overlay
                .zero(&disk.image, place, true, PATIENCE, &|| Ok(()))
                .is_err()
        );
        assert!(
            overlay
                .write(&disk.image, place.offset, &[1], PATIENCE)
                .is_err()
        );
        assert!(overlay.allocation(&disk.image, place, 9).is_err());
        assert!(
            overlay
                .read(&disk.image, place.offset, &mut [0], PATIENCE)
                .is_err()
        );
    }
    assert!(fs::metadata(disk.path()).unwrap().len() < SIZE + (1 << 20));
}
