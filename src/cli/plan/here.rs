//! What of a plan's disks is here. A disk that was to be left out and is gone keeps no other from
//! being taken; nor does one that was named, where the plan goes on with the rest.

use crate::device::HostLayout;
use crate::plan::{PlanDisks, SnapshotPlan};

/// A plan with the disks that are here.
pub struct Here {
    pub plan: SnapshotPlan,
    /// Those that would be taken, and are not here.
    pub gone: Vec<String>,
}

/// Looks which disks are here. Where that cannot be told, the plan stays as it is.
pub fn on_this_host(plan: &SnapshotPlan) -> Here {
    let mut plan = plan.clone();
    let mut gone = Vec::new();
    let layout = HostLayout::scan();
    if let Ok(layout) = &layout {
        let is_here = |disk: &String| layout.resolve(std::slice::from_ref(disk)).is_ok();
        match &mut plan.disks {
            PlanDisks::AllBut(excluded) => excluded.retain(is_here),
            PlanDisks::These(disks) if plan.partial && disks.iter().any(is_here) => {
                gone = disks
                    .iter()
                    .filter(|disk| !is_here(disk))
                    .cloned()
                    .collect();
                disks.retain(is_here);
            }
            PlanDisks::These(_) => {}
        }
    }
    Here { plan, gone }
}
