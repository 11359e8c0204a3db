//! What of a plan's disks is here. A disk that was to be left out and is gone keeps no other from
//! being taken; nor does one that was named, where the plan goes on with the rest.

use crate::device::HostLayout;
use crate::error::ErrorKind;
use crate::plan::{PlanDisks, SnapshotPlan};

/// A plan with the disks that are here.
pub struct Here {
    pub plan: SnapshotPlan,
    /// Those that would be taken, and are not here.
    pub gone: Vec<String>,
    /// Those that would be left out, and are not here: nothing by these names is left out.
    pub passed_over: Vec<String>,
}

/// Looks which disks are here. What cannot be told stays as it is, and ends the run with its
/// reason: a serial number of two disks is none that is gone.
pub fn on_this_host(plan: &SnapshotPlan) -> Here {
    let mut here = Here {
        plan: plan.clone(),
        gone: Vec::new(),
        passed_over: Vec::new(),
    };
    let Ok(layout) = HostLayout::scan() else {
        return here;
    };
    let is_gone = |disk: &mut String| {
        let found = layout.resolve(std::slice::from_ref(disk));
        found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    match &mut here.plan.disks {
        PlanDisks::AllBut(excluded) => {
            here.passed_over = excluded.extract_if(.., is_gone).collect()
        }
        PlanDisks::These(disks) if plan.partial => {
            let gone: Vec<String> = disks.extract_if(.., is_gone).collect();
            match disks.is_empty() {
                // The run says so.
                true => *disks = gone,
                false => here.gone = gone,
            }
        }
        PlanDisks::These(_) => {}
    }
    here
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanEdit;
    use jiff::Timestamp;
    use std::path::Path;

    fn plan(disks: &[&str], excluded: &[&str]) -> SnapshotPlan {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut edit = PlanEdit::new("daily".parse().unwrap(), Path::new("/x/daily.toml"));
        edit.set_text("start", "2026-12-01T02:30:00");
        edit.set_text("every", "1d");
        edit.set_flag("partial", true);
        match disks {
            [] => edit.set_texts("exclude", &texts(excluded)),
            disks => edit.set_texts("disks", &texts(disks)),
        }
        edit.plan(Timestamp::now()).unwrap()
    }

    /// What is no disk is told by the run, and never taken for one that is gone.
    #[test]
    fn only_what_is_not_there_is_gone() {
        let (gone, no_disk) = ("no-such-disk", "/dev/null");
        let here = on_this_host(&plan(&[], &[gone, no_disk]));
        assert_eq!(here.passed_over, [gone]);
        assert_eq!(here.plan.disks, PlanDisks::AllBut(vec![no_disk.into()]));
        let here = on_this_host(&plan(&[gone, no_disk], &[]));
        assert_eq!(here.gone, [gone]);
        assert_eq!(here.plan.disks, PlanDisks::These(vec![no_disk.into()]));
        let here = on_this_host(&plan(&[gone], &[]));
        assert!(here.gone.is_empty());
        assert_eq!(here.plan.disks, PlanDisks::These(vec![gone.into()]));
    }
}
