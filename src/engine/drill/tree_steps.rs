//! The steps of a drill that see the host's tree as it was: it is put together, and the operator's
//! script is run against it.

use super::setting::DrillOptions;
use super::step_end::{StepEnd, said_by, tail};
use super::steps::{Steps, in_full};
use crate::engine::mount::{HostTree, NotShown, SnapshotLook};
use crate::error::Result;
use crate::hooks::{ProgramLimits, run_check};
use std::path::Path;

/// What a step that puts the tree together is called.
const TREE: &str = "the host's tree is put together";

impl Steps<'_> {
    /// The host's tree is put together, and the script is run against it. A host that had nothing
    /// of these disks mounted had no tree.
    pub(super) fn tree(
        &mut self,
        look: &SnapshotLook<'_>,
        options: &DrillOptions<'_>,
    ) -> Result<()> {
        let mut planned = look.plan.filesystems.iter();
        let had_one = planned.any(|one| !one.mounts.is_empty())
            || look.plan.not_shown.iter().any(|one| one.was_mounted);
        let tree = match had_one && self.goes_on(look, TREE)? {
            true => self.put_together(look),
            false => None,
        };
        let Some(check) = options.check else {
            return Ok(());
        };
        let what = format!("the check {}", check.display());
        if !self.goes_on(look, &what)? {
            return Ok(());
        }
        let step = self.begin(look, what);
        let end = match tree {
            Some(tree) if !tree.shown.is_empty() => self.check(check, &tree, options),
            _ => StepEnd::not_done("there is no tree that it could look at"),
        };
        self.monitor.outer.check()?;
        self.end(look, &step, end);
        Ok(())
    }

    fn put_together(&mut self, look: &SnapshotLook<'_>) -> Option<HostTree> {
        let step = self.begin(look, TREE.into());
        let tree = match look.tree() {
            Ok(tree) => tree,
            Err(error) => {
                // Each filesystem by itself was a step before.
                self.end(look, &step, StepEnd::not_done(in_full(&error)));
                return None;
            }
        };
        let of_plan = |one: &&NotShown| {
            let mut unproven = look.plan.unproven.iter();
            unproven.any(|place| place.name == one.what)
        };
        let missing = tree.not_shown.iter().filter(|one| one.was_mounted);
        for NotShown { what, why, .. } in missing.filter(|one| !of_plan(one)) {
            let step = self.begin(look, format!("{what} is in the tree"));
            self.end(look, &step, StepEnd::not_done(why.as_str()));
        }
        let places: Vec<&str> = tree.shown.iter().map(|one| one.target.as_str()).collect();
        let without_log = tree.shown.iter().find(|one| one.without_log.is_some());
        let end = match (places.is_empty(), without_log) {
            (true, _) => StepEnd::not_done("nothing that was mounted can be shown"),
            (false, Some(one)) => {
                StepEnd::not_done(format!("{} is there without its log", one.target))
            }
            (false, None) => StepEnd::passed(places.join(", ")),
        };
        self.end(look, &step, end);
        Some(tree)
    }

    /// The script runs on this host's root, so no symlink of the snapshot may lead there.
    fn check(&self, check: &Path, tree: &HostTree, options: &DrillOptions<'_>) -> StepEnd {
        if let Err(error) = tree.follow_no_links() {
            return StepEnd::not_done(in_full(&error));
        }
        let of = |name: &str, value: String| (name.to_owned(), value);
        let environment = [
            of("STILLPOINT_TREE", tree.path.display().to_string()),
            of("STILLPOINT_SNAPSHOT", options.snapshot.id.to_string()),
        ];
        let cancelled = || self.monitor.outer.check().is_err();
        let limits = ProgramLimits {
            timeout: self.monitor.left(),
            cancelled: &cancelled,
        };
        match run_check(check, &environment, &limits) {
            Ok(end) if end.code == Some(0) => StepEnd::passed(tail(&end.output)),
            Ok(end) if end.code.is_some() && is_in_part(tree) => {
                StepEnd::not_done(said_by(&end)).in_doubt("the tree is there in part")
            }
            Ok(end) if end.code.is_some() => StepEnd::failed(said_by(&end)),
            Ok(end) => StepEnd::not_done(said_by(&end)),
            // It qualified when the drill began.
            Err(error) => StepEnd::not_done(in_full(&error)),
        }
    }
}

/// Whether something of the tree is missing, or may be: what a script misses there may be that.
fn is_in_part(tree: &HostTree) -> bool {
    let is_missing = tree.not_shown.iter().any(|one| one.was_mounted);
    is_missing || tree.shown.iter().any(|one| one.without_log.is_some())
}
