//! What is in a vault beside snapshots and what they need: collectors' plans, what is known to be
//! damaged, what samples have read, keys. It is listed, and not read.

use super::object_name::ObjectName;
use super::plans::{FIRST_OF_RUNS, part_named};
use super::vault::Vault;
use crate::error::Result;
use crate::model::{Bytes, Cancel, SnapshotId};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Most plans that are told apart.
const MOST_PLANS: usize = 1024;

/// What there is of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideObjects {
    /// How many objects.
    pub objects: usize,
    /// How long together.
    pub bytes: Bytes,
    /// Collectors' plans, 1024 at most.
    pub plans: BTreeSet<SnapshotId>,
    /// When the oldest part of one was put, by the store's clock.
    pub oldest_plan: Option<Timestamp>,
    /// Lists of what was found damaged.
    pub damage_lists: usize,
}

impl Vault {
    /// Looks at what there is beside snapshots and what they need.
    pub fn side_objects(&self, cancel: &dyn Cancel) -> Result<SideObjects> {
        let mut found = SideObjects::default();
        let folders = [
            ObjectName::condemned(),
            ObjectName::damaged(),
            ObjectName::verified(),
            ObjectName::keys(),
        ];
        for folder in folders {
            self.store.list(&folder, &mut |object| {
                found.objects += 1;
                found.bytes = Bytes(found.bytes.0.saturating_add(object.size));
                found.damage_lists += usize::from(folder == ObjectName::damaged());
                let plan = part_named(&object.name).filter(|(_, part)| *part < FIRST_OF_RUNS);
                if let Some((plan, _)) = plan {
                    if found.plans.len() < MOST_PLANS {
                        found.plans.insert(plan);
                    }
                    let put = object.modified;
                    found.oldest_plan = Some(found.oldest_plan.map_or(put, |known| known.min(put)));
                }
                cancel.check()
            })?;
        }
        Ok(found)
    }
}
