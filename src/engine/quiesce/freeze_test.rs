//! `doctor --freeze-test`: freezes and thaws for an instant, to see whether it works and how long
//! it takes. Nothing is read, tracked or stored.

use super::waves::targets;
use crate::device::{Freezable, HostLayout, freezable};
use crate::engine::disk_lock::DiskLock;
use crate::engine::places::Places;
use crate::error::Result;
use crate::freeze::{Guardian, GuardianOptions};
use std::time::Duration;

/// Nothing stays frozen longer, whatever happens.
const DEADLINE: Duration = Duration::from_secs(5);

/// One filesystem that was frozen.
#[derive(Clone, Debug)]
pub struct FrozenFor {
    /// Where it is mounted.
    pub target: String,
    /// What is mounted there.
    pub source: String,
    /// Its type.
    pub fstype: String,
    /// What freezing it took.
    pub freeze: Duration,
    /// What thawing it took.
    pub thaw: Duration,
}

/// How a test went.
#[derive(Clone, Debug)]
pub struct FreezeTest {
    /// What was frozen, in this order.
    pub filesystems: Vec<FrozenFor>,
    /// What was not, by its mount point, and why.
    pub left_out: Vec<(String, String)>,
    /// From the first freeze to the last thaw.
    pub held: Duration,
    /// What the guardian could not arrange for itself.
    pub weaknesses: Vec<String>,
}

/// Freezes everything mounted from these disks together, and thaws it at once.
///
/// # Errors
/// `Busy` when a snapshot is at work on one of them, or someone else has frozen a filesystem; what
/// the guardian says. Nothing of ours stays frozen.
pub fn freeze_test(names: &[String], places: &Places) -> Result<FreezeTest> {
    let layout = HostLayout::scan()?;
    let disks = layout.resolve(names)?;
    let _locks = disks
        .iter()
        .map(|disk| DiskLock::take(&places.run_dir, disk.dev(), disk.name()))
        .collect::<Result<Vec<_>>>()?;
    let set = layout.freeze_set(&disks);
    let left_out = set.filesystems.iter().filter_map(|filesystem| {
        let why = match freezable(filesystem) {
            Freezable::Yes => return None,
            Freezable::ReadOnly => "read-only: needs no freezing".to_owned(),
            Freezable::No(why) => why,
        };
        Some((filesystem.target().display().to_string(), why))
    });
    let mut test = FreezeTest {
        filesystems: Vec::new(),
        left_out: left_out.collect(),
        held: Duration::ZERO,
        weaknesses: Vec::new(),
    };
    let targets = targets(&set)?;
    if targets.is_empty() {
        return Ok(test);
    }
    let mut options = GuardianOptions::new(targets.clone(), DEADLINE);
    options.program.clone_from(&places.program);
    options.run_dir.clone_from(&places.run_dir);
    let mut guardian = Guardian::start(options)?;
    test.weaknesses = guardian.weaknesses().to_vec();
    let frozen = guardian.freeze()?;
    let thawed = guardian.thaw()?;
    test.held = thawed.frozen_for;
    let times = frozen.each.into_iter().zip(thawed.each);
    for (target, (freeze, thaw)) in targets.into_iter().zip(times) {
        test.filesystems.push(FrozenFor {
            target: target.mount_point.display().to_string(),
            source: target.source,
            fstype: target.fstype,
            freeze,
            thaw,
        });
    }
    Ok(test)
}
