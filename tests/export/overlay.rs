//! What clients write to a disk of a snapshot: read back, kept after a kill as far as it was
//! flushed, never for another disk, and never in the vault.

use super::image::{SIZE, Stage};
use super::server::Served;
use super::wire::{Client, STYLES, Style, WRITE};
use crate::support::host::run as tool;
use crate::support::model::Chance;
use std::fs::{self, File, Permissions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillpoint::export::{Allocation, Image, Overlay, OverlayOf};
use stillpoint::model::{BLOCK_SIZE, Bytes, Extent, ObjectId, SnapshotId};
use stillpoint::{ErrorKind, Result};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn of() -> OverlayOf {
    OverlayOf {
        vault: ObjectId([7; 16]),
        snapshot: "01MCC5RM01FP7SC4M5YW833THK".parse().unwrap(),
        disk: "vda".into(),
        size: Bytes(SIZE),
    }
}

/// A disk, its overlay, and what it should hold.
pub struct Written {
    pub stage: Stage,
    pub image: Image,
    pub overlay: Option<Overlay>,
    folder: TempDir,
    pub truth: Vec<u8>,
}

impl Written {
    pub fn new() -> Self {
        let stage = Stage::new();
        let folder = tempfile::tempdir().unwrap();
        let overlay = Overlay::open(&folder.path().join("o"), &of(), &[]).unwrap();
        Self {
            image: stage.image(),
            truth: stage.truth.clone(),
            overlay: Some(overlay),
            stage,
            folder,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("o")
    }

    pub fn overlay(&self) -> &Overlay {
        self.overlay.as_ref().unwrap()
    }

    fn again(&mut self) -> Result<()> {
        self.overlay = None;
        self.overlay = Some(Overlay::open(&self.path(), &of(), &[])?);
        Ok(())
    }

    fn read(&self, place: Extent) -> Vec<u8> {
        let mut buffer = vec![9; place.length.0 as usize];
        let overlay = self.overlay();
        overlay
            .read(&self.image, place.offset, &mut buffer, PATIENCE)
            .unwrap();
        buffer
    }

    fn check(&self) {
        let all = self.read(Extent::new(Bytes(0), Bytes(SIZE)));
        let differs = all
            .iter()
            .zip(&self.truth)
            .position(|(one, other)| one != other);
        assert_eq!(differs, None);
    }

    /// One change at random; the place that it was in.
    fn change(&mut self, chance: &mut Chance) -> Range<usize> {
        let offset = chance.below(SIZE);
        let most = [1, 600, 5000, 3 * BLOCK_SIZE][chance.below(4) as usize].min(SIZE - offset);
        let mut place = Extent::new(Bytes(offset), Bytes(1 + chance.below(most)));
        if chance.below(2) == 0 {
            // As disks do.
            let start = offset / 4096 * 4096;
            let length = place.length.0.next_multiple_of(4096).min(SIZE - start);
            place = Extent::new(Bytes(start), Bytes(length));
        }
        let range = place.offset.0 as usize..place.end().0 as usize;
        let changed = range.clone();
        let overlay = self.overlay.as_ref().unwrap();
        match chance.below(4) {
            0 => {
                let keep_room = chance.below(2) == 0;
                overlay
                    .zero(&self.image, place, keep_room, PATIENCE, &|| Ok(()))
                    .unwrap();
                self.truth[range].fill(0);
            }
            1 => {
                overlay.trim(place).unwrap();
                let start = place.offset.0.next_multiple_of(4096);
                let end = match place.end().0 {
                    SIZE => SIZE,
                    end => end / 4096 * 4096,
                };
                if start < end {
                    self.truth[start as usize..end as usize].fill(0);
                }
            }
            _ => {
                let bytes: Vec<u8> = range.clone().map(|_| chance.next() as u8).collect();
                overlay
                    .write(&self.image, place.offset, &bytes, PATIENCE)
                    .unwrap();
                self.truth[range].copy_from_slice(&bytes);
            }
        }
        changed
    }
}

#[test]
fn what_was_written_is_read_and_the_rest_is_as_it_was() {
    let mut disk = Written::new();
    let mut chance = Chance(23);
    for round in 0..150 {
        disk.change(&mut chance);
        if round % 10 == 0 {
            disk.check();
        }
        if round % 40 == 39 {
            disk.overlay().flush().unwrap();
            disk.again().unwrap();
            disk.check();
        }
    }
    disk.check();
    // What is told to be zeros is.
    let whole = Extent::new(Bytes(0), Bytes(SIZE));
    let runs = disk
        .overlay()
        .allocation(&disk.image, whole, 100_000)
        .unwrap();
    let mut at = 0;
    for run in &runs {
        let bytes = &disk.truth[at as usize..(at + run.length.0) as usize];
        assert!(
            run.kind == Allocation::Data || bytes.iter().all(|byte| *byte == 0),
            "{at}"
        );
        at += run.length.0;
    }
    assert_eq!(at, SIZE);
    let some = disk.overlay().allocation(&disk.image, whole, 3).unwrap();
    assert_eq!(some[..2], runs[..2]);
    // The vault has heard nothing of it.
    assert!(stillpoint_truth(&disk.stage));
}

/// The vault holds what it held.
fn stillpoint_truth(stage: &Stage) -> bool {
    let mut all = vec![0; SIZE as usize];
    stage.image().read_at(Bytes(0), &mut all).unwrap();
    all == stage.truth
}

#[test]
fn many_who_write_to_one_grain_do_not_undo_each_others() {
    let disk = Written::new();
    std::thread::scope(|scope| {
        for writer in 0..8_u64 {
            let disk = &disk;
            scope.spawn(move || {
                for grain in 0..100 {
                    let at = Bytes(grain * 4096 + writer * 512);
                    let bytes = [writer as u8 + 1; 512];
                    disk.overlay()
                        .write(&disk.image, at, &bytes, PATIENCE)
                        .unwrap();
                }
            });
        }
    });
    let all = disk.read(Extent::new(Bytes(0), Bytes(100 * 4096)));
    for (n, sector) in all.chunks_exact(512).enumerate() {
        assert!(sector.iter().all(|byte| *byte as usize == n % 8 + 1), "{n}");
    }
}

/// A kill: what is in the file at that moment is what the next server finds.
#[test]
fn what_was_flushed_is_there_after_a_kill_and_what_was_not_is_old_or_new() {
    let mut disk = Written::new();
    let mut chance = Chance(5);
    for _ in 0..40 {
        disk.change(&mut chance);
    }
    disk.overlay().flush().unwrap();
    let flushed = disk.truth.clone();
    let mut touched = vec![false; SIZE as usize];
    for _ in 0..40 {
        let changed = disk.change(&mut chance);
        // A grain that is given up, or filled up, is one.
        let grains = changed.start / 4096 * 4096..changed.end.next_multiple_of(4096);
        touched[grains.start..grains.end.min(SIZE as usize)].fill(true);
    }
    let copy = disk.folder.path().join("copy");
    let from = disk.path();
    let paths = [from.to_str().unwrap(), copy.to_str().unwrap()];
    tool("cp", &["--sparse=always", paths[0], paths[1]]);
    fs::set_permissions(&copy, Permissions::from_mode(0o600)).unwrap();
    let again = Overlay::open(&copy, &of(), &[]).unwrap();
    let mut all = vec![9; SIZE as usize];
    let read = again.read(&disk.image, Bytes(0), &mut all, PATIENCE);
    read.unwrap();
    for at in 0..SIZE as usize {
        assert!(touched[at] || all[at] == flushed[at], "{at}");
    }
    let kept = touched.iter().filter(|touched| !**touched).count();
    assert!(
        kept > SIZE as usize / 8,
        "too little was left alone: {kept}"
    );
    // What nobody touched since the flush is as it was then.
    let untouched = Written::new();
    untouched
        .overlay()
        .write(&untouched.image, Bytes(8192), &[5; 4096], PATIENCE)
        .unwrap();
    untouched.overlay().flush().unwrap();
    untouched
        .overlay()
        .write(&untouched.image, Bytes(65536), &[6; 4096], PATIENCE)
        .unwrap();
    let copy = untouched.folder.path().join("copy");
    let from = untouched.path();
    tool(
        "cp",
        &[
            "--sparse=always",
            from.to_str().unwrap(),
            copy.to_str().unwrap(),
        ],
    );
    let again = Overlay::open(&copy, &of(), &[]).unwrap();
    let mut page = [0; 4096];
    again
        .read(&untouched.image, Bytes(8192), &mut page, PATIENCE)
        .unwrap();
    assert_eq!(page, [5; 4096]);
    again
        .read(&untouched.image, Bytes(65536), &mut page, PATIENCE)
        .unwrap();
    assert!(
        page == untouched.stage.truth[65536..65536 + 4096],
        "a mark came before its flush"
    );
}

#[test]
fn an_overlay_is_of_one_disk_and_one_server_and_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("o");
    let open = |path: &Path, of: &OverlayOf| Overlay::open(path, of, &[]).map(drop);
    let held = Overlay::open(&path, &of(), &[]).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600);
    assert!(found.blocks() * 512 < 64 << 10, "it is not sparse");
    assert_eq!(open(&path, &of()).unwrap_err().kind(), ErrorKind::Busy);
    drop(held);
    open(&path, &of()).unwrap();
    let other_snapshot: SnapshotId = "01MCC5RM02JWN0BTGAS7JZ6XJD".parse().unwrap();
    for (other, words) in [
        (
            OverlayOf {
                snapshot: other_snapshot,
                ..of()
            },
            "is an overlay of vda in snapshot",
        ),
        (
            OverlayOf {
                disk: "vdb".into(),
                ..of()
            },
            "not of vdb",
        ),
        (
            OverlayOf {
                vault: ObjectId([8; 16]),
                ..of()
            },
            "is an overlay of",
        ),
        (
            OverlayOf {
                size: Bytes(SIZE + 512),
                ..of()
            },
            "is an overlay of",
        ),
    ] {
        let before = fs::read(&path).unwrap();
        let error = open(&path, &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().is_some());
        assert!(fs::read(&path).unwrap() == before);
    }
    // Under a name that it has now it is the same.
    let renamed = OverlayOf {
        snapshot: other_snapshot,
        ..of()
    };
    Overlay::open(&path, &renamed, &[of()]).unwrap();

    let at = |name: &str| folder.path().join(name);
    fs::write(at("words"), "words").unwrap();
    symlink(&path, at("link")).unwrap();
    fs::hard_link(&path, at("hard")).unwrap();
    let refused = |name: &str, words: &str| {
        let error = open(&at(name), &of()).unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(error.to_string().contains("left alone"), "{name}: {error}");
    };
    refused("hard", "its owner's alone");
    fs::remove_file(at("hard")).unwrap();
    refused("link", "no plain file");
    refused("words", "its owner's alone");
    fs::set_permissions(at("words"), Permissions::from_mode(0o600)).unwrap();
    refused("words", "is no overlay");
    assert_eq!(fs::read(at("words")).unwrap(), b"words");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(SIZE).unwrap();
    refused("o", "was cut short");
    file.write_all_at(&[1], 100).unwrap();
    refused("o", "is no overlay");
    // One that was begun, and not ended.
    drop(Overlay::open(&at("new"), &of(), &[]).unwrap());
    File::options()
        .write(true)
        .open(at("new"))
        .unwrap()
        .set_len(4096)
        .unwrap();
    open(&at("new"), &of()).unwrap();
    assert!(fs::metadata(at("new")).unwrap().len() > SIZE);
}

#[test]
fn one_whose_head_was_begun_is_begun_anew_and_no_other_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let open = |name: &str| Overlay::open(&at(name), &of(), &[]).map(drop);
    open("whole").unwrap();
    let head = fs::read(at("whole")).unwrap()[..4096].to_vec();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(at(name), bytes).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(0o600)).unwrap();
    };
    let torn = [&head[..512], &[0; 3584]].concat();
    let late = [&[0; 4064], &head[4064..]].concat();
    for begun in [
        &head[..1],
        &head[..700],
        &head[..4095],
        &torn,
        &late,
        &[0; 4096],
    ] {
        put("begun", begun);
        open("begun").unwrap();
        assert!(fs::read(at("begun")).unwrap() == fs::read(at("whole")).unwrap());
    }
    let mut other = head.clone();
    other[300] = 1;
    let longer = [&torn[..], &[0]].concat();
    for foreign in [&b"SPOVER"[..], &other, &longer] {
        put("foreign", foreign);
        let error = open("foreign").unwrap_err();
        assert!(error.to_string().contains("is no overlay"), "{error}");
        assert!(fs::read(at("foreign")).unwrap() == foreign);
    }
}

#[test]
fn clients_write_and_every_connection_reads_it() {
    let Written {
        stage,
        image,
        overlay,
        mut truth,
        folder,
    } = Written::new();
    let mut served = Served::writable("vda", image, overlay.unwrap());
    let uri = served.uri("vda");
    let info: serde_json::Value =
        serde_json::from_str(&tool("nbdinfo", &["--json", &uri])).unwrap();
    let export = &info["exports"][0];
    assert_eq!(export["is_read_only"], false);
    for key in [
        "can_flush",
        "can_fua",
        "can_trim",
        "can_zero",
        "can_multi_conn",
    ] {
        assert_eq!(export[key], true, "{key}: {info}");
    }
    let mut chance = Chance(99);
    let mut clients = STYLES.map(|style| Client::at(&served, style));
    for round in 0..80 {
        let writer = round % 4;
        // Longer than what is written in one piece, too.
        let length = [1, 512, 4096, 70_000, 600_000][chance.below(5) as usize];
        let offset = chance.below(SIZE - length);
        let bytes: Vec<u8> = (0..length).map(|_| chance.next() as u8).collect();
        let fua = chance.below(2) as u16;
        assert_eq!(clients[writer].write(fua, offset, &bytes), 0);
        truth[offset as usize..(offset + length) as usize].copy_from_slice(&bytes);
        let read = clients[(round + 1) % 4].read(0, offset, length).unwrap();
        assert!(read == bytes, "{round}");
    }
    // Nothing is written where nothing was sent, whatever the thread has read before.
    for client in &mut clients {
        let before = client.read(0, 100, 200_000).unwrap();
        for at in [8192, SIZE] {
            assert_eq!(client.write(0, at, &[]), 0);
        }
        assert!(client.read(0, 100, 200_000).unwrap() == before);
    }
    // Past the end, and what was never agreed on.
    for client in &mut clients {
        // QEMU says with no header that a write brings its bytes along.
        client.request(WRITE, 0, SIZE - 1, 2);
        client.say(&[1, 2]);
        assert_eq!(client.outcome(), 28);
        assert_eq!(client.write(0, SIZE - 1, &[1, 2]), 28);
        assert_eq!(client.write(1 << 9, 0, &[1, 2]), 22);
        assert_eq!(client.write(0, SIZE - 1, &vec![0; 300_000]), 28);
        assert_eq!(client.refused(6, 0, 4096, 8192), 0);
        assert_eq!(client.refused(4, 0, 4096, 8192), 0);
        assert_eq!(client.refused(3, 0, 0, 0), 0);
    }
    truth[4096..4096 + 8192].fill(0);
    let io = [
        "-f",
        "raw",
        "-c",
        "write -P 7 1M 64k",
        "-c",
        "read -P 7 1M 64k",
        &uri,
    ];
    let said = tool("qemu-io", &io);
    assert!(!said.contains("failed"), "{said}");
    let at = 1 << 20;
    truth[at..at + 65536].fill(7);
    let expected = folder.path().join("expected");
    fs::write(&expected, &truth).unwrap();
    let expected = expected.to_str().unwrap();
    let compare = ["compare", "-f", "raw", "-F", "raw", &uri, expected];
    assert!(tool("qemu-img", &compare).contains("identical"));
    served.end();
    // Its end is a flush.
    let again = Overlay::open(&folder.path().join("o"), &of(), &[]).unwrap();
    let served = Served::writable("vda", stage.image(), again);
    let uri = served.uri("vda");
    let compare = ["compare", "-f", "raw", "-F", "raw", &uri, expected];
    assert!(tool("qemu-img", &compare).contains("identical"));
    let mut client = Client::at(&served, Style::Simple);
    assert!(client.read(0, 0, SIZE).unwrap() == truth);
    assert!(stillpoint_truth(&stage));
}
