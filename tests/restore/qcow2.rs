//! qcow2 images, judged by QEMU's own tool.

use crate::cli::lab::{Lab, noise, tool, try_tool};
use crate::support::host::skipped;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use stillpoint::ErrorKind;
use stillpoint::model::{
    BLOCK_SIZE, BlockIndex, Bytes, Content, ObjectId, Run, RunMap, block_count,
};
use stillpoint::restore::{OutputFile, Qcow2File, RawFile, Target};

pub fn has_qemu(test: &str) -> bool {
    let has = Path::new("/usr/bin/qemu-img").exists();
    if !has {
        skipped(test, "needs qemu-img");
    }
    has
}

/// The image is whole by QEMU's judgement and the same as the raw one.
pub fn same(image: &str, raw: &str) {
    let checked = tool("qemu-img", &["check", "-f", "qcow2", image]);
    assert!(checked.contains("No errors were found"), "{checked}");
    let compared = tool(
        "qemu-img",
        &["compare", "-f", "qcow2", "-F", "raw", image, raw],
    );
    assert!(compared.contains("identical"), "{compared}");
}

/// A map with data in these blocks, and nothing elsewhere.
fn map_of(size: u64, data: &[(u64, u64)]) -> RunMap {
    let mut map = RunMap::new();
    let run = |start, count, content| Run {
        start: BlockIndex(start),
        count,
        content,
    };
    map.insert(run(0, block_count(Bytes(size)), Content::Zero));
    for (n, (start, count)) in (0..).zip(data) {
        // As runs of a segment are: not longer than that.
        let segment = ObjectId([n; 16]);
        map.insert(run(*start, *count, Content::Data { segment, slot: 0 }));
    }
    map
}

/// Both images of a disk with these blocks of data, of which every `step`th is written to.
fn both(folder: &Path, size: u64, data: &[(u64, u64)], step: usize) -> (String, String) {
    let map = map_of(size, data);
    let open = |path: &Path| OutputFile::create(path, true).unwrap();
    let (image, raw) = (folder.join("image"), folder.join("raw"));
    let qcow2 = Box::new(Qcow2File::create(open(&image), &map, Bytes(size)).unwrap());
    let plain = Box::new(RawFile::create(open(&raw), Bytes(size)).unwrap());
    for (start, count) in data {
        let bytes = |block: u64| {
            let length = BLOCK_SIZE.min(size - block * BLOCK_SIZE);
            noise(length as usize, block)
        };
        // In no order: many threads write. Into one many at once, into the other one by one.
        let blocks: Vec<u64> = (*start..start + count).step_by(step).collect();
        for group in blocks.chunks(if step == 1 { 16 } else { 1 }).rev() {
            let all: Vec<Vec<u8>> = group.iter().map(|block| bytes(*block)).collect();
            let parts: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
            qcow2.write(Bytes(group[0] * BLOCK_SIZE), &parts).unwrap();
            for (block, part) in group.iter().zip(&parts) {
                plain.write(Bytes(block * BLOCK_SIZE), &[part]).unwrap();
            }
        }
    }
    assert!(
        qcow2
            .write(Bytes(size / BLOCK_SIZE * BLOCK_SIZE + BLOCK_SIZE), &[&[1]])
            .is_err()
    );
    qcow2.finish().unwrap();
    plain.finish().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    (text(&image), text(&raw))
}

#[test]
fn of_all_sizes() {
    if !has_qemu("restore: sizes of qcow2") {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let tib = 1 << 40;
    let cases: &[(u64, &[(u64, u64)])] = &[
        (512, &[(0, 1)]),
        (512, &[]),
        (4096 * 3, &[(0, 1)]),
        (65536, &[(0, 1)]),
        (65536 + 512, &[(1, 1)]),
        ((5 << 20) + 3 * 512, &[(3, 7), (79, 2)]),
        // Ends of what one L2 table describes.
        (1 << 30, &[(8190, 4), (16383, 1)]),
        (512 << 20, &[(0, 1), (8191, 1)]),
        // One cluster of L1 table describes 4 TiB.
        (4 * tib, &[(0, 1), (4 * tib / BLOCK_SIZE - 1, 1)]),
        (4 * tib + 512, &[(4 * tib / BLOCK_SIZE, 1)]),
        (
            11 * tib,
            &[
                (77, 3),
                (5 * tib / BLOCK_SIZE - 2, 5),
                (11 * tib / BLOCK_SIZE - 1, 1),
            ],
        ),
        (250 * tib, &[(250 * tib / BLOCK_SIZE - 9, 9)]),
    ];
    for (size, data) in cases {
        let (image, raw) = both(folder.path(), *size, data, 1);
        if *size < 100 * tib {
            same(&image, &raw);
        } else {
            // Comparing takes long even where there is nothing.
            tool("qemu-img", &["check", "-f", "qcow2", &image]);
        }
        let info = tool("qemu-img", &["info", "--output=json", &image]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], *size, "{info}");
        assert_eq!(info["format"], "qcow2");
        assert_eq!(info["cluster-size"], 65536);
        // Nothing but data and tables.
        let blocks: u64 = data.iter().map(|(_, count)| count).sum();
        let length = Path::new(&image).metadata().unwrap().len();
        let l1 = size.div_ceil(512 << 20).div_ceil(8192);
        assert!(
            length <= (blocks + 3 + l1 + 2 * data.len() as u64) * 65536,
            "{length}"
        );
    }
}

/// 2 GiB of data and a bit need a second refcount block; most of it stays a hole in the file here.
#[test]
fn with_many_refcount_blocks() {
    if !has_qemu("restore: refcounts of qcow2") {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    for blocks in [32_760, 32_761, 32_762, 32_763, 32_764, 32_768, 140_000] {
        let data = [(5, blocks)];
        let (image, raw) = both(folder.path(), (blocks + 9) * BLOCK_SIZE, &data, 4999);
        same(&image, &raw);
    }
}

#[test]
fn of_a_disk_from_the_vault() {
    if !has_qemu("restore: qcow2 of a disk") {
        return;
    }
    let Some(lab) = Lab::with_vault("restore: qcow2 of a disk") else {
        return;
    };
    let mut disk = lab.disk("disk", (48 << 20) + 4096);
    let place = disk.mount("ext4");
    std::fs::write(place.join("file"), noise(5 << 20, 1)).unwrap();
    lab.run(&["snapshot", &disk.device]).expect(0);
    let (raw, image) = (lab.at("raw"), lab.at("image"));
    let one = lab.json(&["restore", "latest", &raw]);
    let other = lab.json(&["restore", "latest", &image, "--format", "qcow2"]);
    assert_eq!(one["data_bytes"], other["data_bytes"]);
    assert_eq!(
        (&one["format"], &other["format"]),
        (&"raw".into(), &"qcow2".into())
    );
    same(&image, &raw);
    let data = one["data_bytes"].as_u64().unwrap();
    let taken = Path::new(&image).metadata().unwrap().blocks() * 512;
    assert!(
        taken <= data + (1 << 20),
        "zeros take no room: {taken}, {data}"
    );
    let mode = Path::new(&image).metadata().unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600, "a disk's image is for its owner alone");
    // Neither replaces what is there, nor is written to a device.
    lab.run(&["restore", "latest", &image, "--format", "qcow2"])
        .expect(1);
    let target = lab.disk("target", 64 << 20);
    lab.run(&["restore", "latest", &target.device, "--format", "qcow2"])
        .expect(2);
    let mut start = vec![1; 1 << 20];
    let device = File::open(&target.device).unwrap();
    device.read_exact_at(&mut start, 0).unwrap();
    assert!(start.iter().all(|byte| *byte == 0));
}

#[test]
fn that_could_not_be_finished_has_no_name() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("image");
    let map = map_of(1 << 20, &[(0, 4)]);
    let image = Qcow2File::create(
        OutputFile::create(&path, false).unwrap(),
        &map,
        Bytes(1 << 20),
    )
    .unwrap();
    image.write(Bytes(0), &[&[1; 65536]]).unwrap();
    assert!(!path.exists());
    drop(image);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A filesystem that fills up while the image is written.
#[test]
fn on_a_full_filesystem_nothing_is_left() {
    let test = "restore: full";
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let at = folder.path().to_str().unwrap();
    let root = nix::unistd::geteuid().is_root();
    if !root || !try_tool("mount", &["-t", "tmpfs", "-o", "size=8m", "tmpfs", at]) {
        return skipped(test, "cannot mount a tmpfs");
    }
    let unmount = Unmount(at.to_owned());
    let size = 16 << 20;
    let map = map_of(size, &[(0, size >> 16)]);
    for format in ["raw", "qcow2"] {
        let file = OutputFile::create(&folder.path().join("image"), false).unwrap();
        let image: Box<dyn Target> = match format {
            "raw" => Box::new(RawFile::create(file, Bytes(size)).unwrap()),
            _ => Box::new(Qcow2File::create(file, &map, Bytes(size)).unwrap()),
        };
        let mut blocks = 0..size >> 16;
        let error = blocks.find_map(|n| image.write(Bytes(n << 16), &[&[1; 1 << 16]]).err());
        assert_eq!(error.unwrap().kind(), ErrorKind::NoSpace, "{format}");
        drop(image);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    drop(unmount);
}

pub struct Unmount(pub String);

impl Drop for Unmount {
    fn drop(&mut self) {
        try_tool("umount", &[&self.0]);
    }
}
