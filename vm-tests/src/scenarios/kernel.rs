//! The project's own tests of tracking and freezing, on this kernel.

use crate::lab::{LONG, Lab};
use crate::machine::Machine;
use anyhow::{Result, ensure};

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
