//! What uses a device: what is mounted from it, built on it, swapped to it. It only looks.

use super::kind::DeviceKind;
use super::mounts::Mounts;
use super::swap::Swap;
use super::topology::Topology;
use crate::model::DevNumber;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// A reason why a device must not be written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// A filesystem on it is mounted there.
    Mounted(String),
    /// Another device lies on it.
    Holder(String),
    /// It is swapped to.
    Swap(String),
    /// Another device shows bytes of it.
    Shown(String),
    /// A process has it open for writing.
    Open {
        /// What the process is called.
        process: String,
        /// Its number.
        pid: u32,
    },
    /// Someone has locked it, or has it open where no process is seen.
    Held(&'static str),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted(target) => write!(f, "mounted at {target}"),
            Self::Holder(name) => write!(f, "{name} lies on it"),
            Self::Swap(name) => write!(f, "{name} is swapped to"),
            Self::Shown(name) => write!(f, "{name} shows bytes of it"),
            Self::Open { process, pid } => {
                write!(f, "{process} (process {pid}) has it open for writing")
            }
            Self::Held(how) => f.write_str(how),
        }
    }
}

/// What uses `dev`, a partition of it, or anything that lies on it. When empty, no use is visible
/// from outside; opening it with `O_EXCL` is the proof.
pub fn in_use(topology: &Topology, mounts: &Mounts, swaps: &[Swap], dev: DevNumber) -> Vec<Use> {
    let mut uses = BTreeSet::new();
    let mut above = BTreeSet::new();
    let mut open = vec![dev];
    while let Some(next) = open.pop() {
        if !above.insert(next) {
            continue;
        }
        for holder in topology.holders(next) {
            open.push(holder.dev);
            if holder.kind != DeviceKind::Partition {
                uses.insert(Use::Holder(holder.name.clone()));
            }
        }
    }
    for filesystem in mounts.filesystems() {
        if filesystem.members.iter().any(|dev| above.contains(dev)) {
            let target = filesystem.target().to_string_lossy().into_owned();
            uses.insert(Use::Mounted(target));
        }
    }
    for swap in swaps.iter().filter(|swap| above.contains(&swap.dev)) {
        let name = topology.device(swap.dev).map(|device| device.name.clone());
        uses.insert(Use::Swap(name.unwrap_or_default()));
    }
    uses.into_iter().collect()
}
