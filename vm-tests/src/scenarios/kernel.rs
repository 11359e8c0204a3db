//! The project's own tests of tracking and freezing, on this kernel.

use super::faults::filled;
use super::load::carry;
use crate::lab::{LONG, Lab, good, new_vault};
use crate::machine::Machine;
use anyhow::{Context, Result, ensure};

/// Runs tests of the test program; what they said.
fn tests(guest: &mut Machine, arguments: &str) -> Result<String> {
    let script = format!(
        "cd /tmp; at=$(cat /opt/stillpoint/program-path); mkdir -p $(dirname $at); \
         ln -sf /opt/stillpoint/stillpoint $at; STILLPOINT_TEST_ROUNDS=1 RUST_BACKTRACE=0 \
         stillpoint-tests --test-threads=1 {arguments} 2>&1"
    );
    let output = guest.attempt(&script, LONG)?;
    ensure!(output.code == 0, "{}", output.stdout);
    ensure!(
        !output.stdout.contains(" 0 passed"),
        "nothing was run: {}",
        output.stdout
    );
    Ok(output.stdout)
}

/// Does the kernel show every completed write to the programs that track?
pub fn every_write_is_marked(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    let said = tests(&mut guest, "--ignored every_single_write_is_marked")?;
    ensure!(!said.contains("not marked"), "{said}");
    guest.done();
    Ok(())
}

/// The test that has the machine swap to a file on the disk: nothing for anybody's own machine.
pub fn a_swap_file_in_use(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    let said = tests(&mut guest, "--ignored swap::")?;
    ensure!(!said.contains("SKIPPED"), "{said}");
    guest.done();
    Ok(())
}

/// The tests of the tracker and of the guardian.
pub fn tracking_and_freezing(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    // The guest has no compiler and no sources.
    let said = tests(&mut guest, "track:: freeze:: --skip track::object")?;
    for line in said.lines() {
        let telling = ["SKIPPED", "hid", "test result"];
        if telling.iter().any(|word| line.contains(word)) {
            lab.note(line);
        }
    }
    guest.done();
    Ok(())
}

/// Writes and flushes for minutes, on a virtio disk and on a loop disk: none is hidden from the
/// programs, so the proof holds and the next snapshot is incremental.
pub fn the_proof_outlives_a_load(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 500)?)?;
    let (data, files) = (lab.blank("data", 96)?, lab.blank("files", 160)?);
    filled(&mut guest, &data, 8)?;
    guest.plug(&files)?;
    let looped = guest.sh(&format!(
        "set -e; mkfs.ext4 -q {0}; mkdir -p /srv/files /srv/loop; mount {0} /srv/files; \
         truncate -s 64M /srv/files/image; at=$(losetup --find --show /srv/files/image); \
         mkfs.ext4 -q $at; mount $at /srv/loop; echo $at",
        files.path()
    ))?;
    let snapshot = format!("snapshot {} {looped}", data.path());
    good(&mut guest, &snapshot)?;
    carry(&mut guest, HAMMER, "/run/hammer.py")?;
    let mut written = Vec::new();
    for folder in ["/srv/data", "/srv/loop"] {
        let line = format!("python3 /run/hammer.py {folder}/hammered 90");
        written.push(
            guest
                .attempt(&line, LONG)?
                .expect(0)?
                .stdout
                .trim()
                .to_owned(),
        );
    }
    if lab.broken {
        good(&mut guest, "track stop")?;
    }
    let taken = good(&mut guest, &snapshot)?;
    let disks = taken["disks"].as_array().context("no disks")?;
    lab.note(format!(
        "{} flushed writes on virtio, {} on loop: {} and {}",
        written[0], written[1], disks[0]["reason"], disks[1]["reason"]
    ));
    ensure!(
        disks.iter().all(|disk| disk["mode"] == "incremental"),
        "{taken:#}"
    );
    guest.done();
    Ok(())
}

/// Writes at random places of a file, each down to its disk, for so many seconds; tells how many.
const HAMMER: &str = r#"
import os, random, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
end, count = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    os.pwrite(file, random.randbytes(4096), random.randrange(2000) * 4096)
    os.fsync(file)
    count += 1
print(count)
"#;
