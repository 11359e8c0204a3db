//! Cost follows change, not size: a huge disk, mostly free, with the reads counted.

use crate::support::cli::{Cli, Run};
use crate::support::disks::{LoopDisk, Mounted, available, run};
use std::fs::File;
use std::io::Write;

const TIB: u64 = 1 << 40;
const MIB: u64 = 1 << 20;

fn bytes(run: &Run, key: &str) -> u64 {
    run.json()["disks"][0][key].as_u64().unwrap()
}

#[test]
fn a_huge_disk_costs_what_is_used_and_then_what_changed() {
    if !available("a_huge_disk_costs_what_is_used_and_then_what_changed") {
        return;
    }
    let disk = LoopDisk::with_options(15 * TIB, &["--direct-io=on"]);
    // A small log: its zeros would have to be read.
    run(
        "mkfs.xfs",
        &["-q", "-l", "size=64m", disk.path.to_str().unwrap()],
    );
    let mounted = Mounted::new(&disk.path, "defaults");
    let fill = |name: &str, mib: u64| {
        let mut file = File::create(mounted.target.join(name)).unwrap();
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
    let device = disk.path.to_str().unwrap();

    let full = cli.run(&["snapshot", device, "--json"]).expect(0);
    assert!(bytes(&full, "read_bytes") < 256 * MIB, "{}", full.stdout);
    assert!(bytes(&full, "free_skipped_bytes") > 14 * TIB);

    fill("second", 100);
    let mut incremental = cli.run(&["snapshot", device, "--json"]).expect(0);
    for _ in 0..3 {
        // Some kernels hide a write from tracking now and then, and the disk is compared: right,
        // but not what this test is of.
        let reason = incremental.json()["disks"][0]["reason"].to_string();
        if reason.contains("did not see") {
            fill("second", 100);
            incremental = cli.run(&["snapshot", device, "--json"]).expect(0);
        }
    }
    assert_eq!(incremental.json()["disks"][0]["mode"], "incremental");
    let read = bytes(&incremental, "read_bytes");
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
    let restored = Mounted::new(&copy.path, "nouuid");
    for name in ["first", "second"] {
        let of = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
        assert!(
            of(&mounted.target) == of(&restored.target),
            "{name} differs"
        );
    }
}
