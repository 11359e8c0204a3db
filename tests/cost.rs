//! Cost follows change, not size: a huge disk, mostly free, with the reads counted.

use crate::support::cli::{Cli, Run};
use crate::support::host::{LoopDisk, Mount, available, run};
use std::fs::File;
use std::io::Write;

const TIB: u64 = 1 << 40;
const MIB: u64 = 1 << 20;

fn bytes(run: &Run, key: &str) -> u64 {
    run.json()["disks"][0][key].as_u64().unwrap()
}

/// How many bytes the kernel says were read of a disk so far: whatever reads it, and whatever the
/// product says (`Documentation/admin-guide/iostats.rst`: the third number, in sectors of 512).
fn bytes_read(disk: &LoopDisk) -> u64 {
    let path = format!("/sys/block/{}/stat", disk.name());
    let stat = std::fs::read_to_string(path).unwrap();
    let sectors = stat.split_whitespace().nth(2).unwrap();
    512 * sectors.parse::<u64>().unwrap()
}

/// What a snapshot says that it has read is what was read, but for a look at tables and free space.
fn check_reads(run: &Run, kernels: u64) -> u64 {
    let said = bytes(run, "read_bytes");
    assert!(
        (said..said + 8 * MIB).contains(&kernels),
        "it says {said} bytes, the kernel {kernels}"
    );
    said
}

#[test]
fn a_huge_disk_costs_what_is_used_and_then_what_changed() {
    if !available("a_huge_disk_costs_what_is_used_and_then_what_changed") {
        return;
    }
    let disk = LoopDisk::within("/tmp", 15 * TIB, &["--direct-io=on"]);
    // A small log: its zeros would have to be read.
    run(
        "mkfs.xfs",
        &["-q", "-l", "size=64m", disk.path().to_str().unwrap()],
    );
    let mounted = Mount::somewhere(disk.path(), "defaults");
    let fill = |name: &str, mib: u64| {
        let mut file = File::create(mounted.place.join(name)).unwrap();
        let mut block = vec![0; MIB as usize];
        for _ in 0..mib {
            getrandom::fill(&mut block).unwrap();
            file.write_all(&block).unwrap();
        }
        file.sync_all().unwrap();
    };
    fill("first", 30);
    let cli = Cli::new();
    cli.run(&["init", cli.vault()]).expect(0);
    let device = disk.path().to_str().unwrap();

    let snapshot = || {
        let before = bytes_read(&disk);
        let run = cli.run(&["snapshot", device, "--json"]).expect(0);
        (run, bytes_read(&disk) - before)
    };
    let (full, kernels) = snapshot();
    assert!(check_reads(&full, kernels) < 256 * MIB, "{}", full.stdout);
    assert!(bytes(&full, "free_skipped_bytes") > 14 * TIB);

    fill("second", 100);
    let (mut incremental, mut kernels) = snapshot();
    for _ in 0..3 {
        // Some kernels hide a write from tracking now and then, and the disk is compared: right,
        // but not what this test is of.
        let reason = incremental.json()["disks"][0]["reason"].to_string();
        if reason.contains("did not see") {
            fill("second", 100);
            (incremental, kernels) = snapshot();
        }
    }
    assert_eq!(incremental.json()["disks"][0]["mode"], "incremental");
    let read = check_reads(&incremental, kernels);
    assert!(
        (100 * MIB..120 * MIB).contains(&read),
        "read {read} bytes for 100 MiB"
    );
    assert!(bytes(&incremental, "stored_bytes") < 110 * MIB);

    let peak = full.peak_memory.max(incremental.peak_memory);
    println!(
        "15 TiB: read {read} bytes for 100 MiB; peak memory {} MiB",
        peak / MIB
    );
    assert!(peak < 300 * MIB, "{} MiB of memory", peak / MIB);

    let image = cli.folder().join("image.raw");
    let image = image.to_str().unwrap();
    cli.run(&["restore", "latest", image]).expect(0);
    let copy = LoopDisk::of_file(image.as_ref(), &["--direct-io=on"]);
    let restored = Mount::somewhere(copy.path(), "nouuid");
    for name in ["first", "second"] {
        let of = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
        assert!(of(&mounted.place) == of(&restored.place), "{name} differs");
    }
}
