//! What the manifest says that the user should know. It never keeps more than a manifest may hold.

use crate::device::{Filesystem, FreezeSet};
use crate::engine::monitor::{Event, Monitor};
use crate::error::Result;
use crate::model::{Cancel, clip};
use crate::sys::locked::LockExt;
use std::sync::Mutex;

/// Most warnings that a manifest keeps.
const MAX_WARNINGS: usize = 256;
/// Most bytes of one.
const MAX_WARNING: usize = 1000;

/// The first of them, none too long, and how many more there were.
pub fn bounded(mut warnings: Vec<String>) -> Vec<String> {
    let left_out = warnings.len().saturating_sub(MAX_WARNINGS);
    warnings.truncate(MAX_WARNINGS);
    for warning in &mut warnings {
        *warning = clip(warning, MAX_WARNING);
    }
    if left_out > 0 {
        warnings.push(format!("{left_out} more warnings were left out"));
    }
    warnings
}

/// Filesystems that the snapshot holds only a part of, and what was in use without being frozen.
pub fn not_frozen(set: &FreezeSet) -> Vec<String> {
    let name = |filesystem: &Filesystem| {
        let target = filesystem.target().display();
        format!("{} ({} at {target})", filesystem.source, filesystem.fstype)
    };
    let outside = set
        .filesystems
        .iter()
        .filter(|one| set.partly_outside.contains(&one.dev));
    let outside = outside.map(|one| {
        format!(
            "{} also lives on disks outside this snapshot: it is incomplete here",
            name(one)
        )
    });
    let unknown = set
        .undetermined
        .iter()
        .filter(|one| !one.read_only)
        .map(|one| {
            format!(
                "{}: it cannot be told which disks it lives on; it was not frozen",
                name(one)
            )
        });
    let claimed = set.opaque_uses.iter().map(|claim| {
        format!(
            "{} is in use, and no mount table tells by what (a filesystem unmounted lazily, or \
             mounted where no process looks): it was not frozen",
            claim.name
        )
    });
    outside.chain(unknown).chain(claimed).collect()
}

/// Passes everything on, and keeps the warnings for the manifest.
pub struct WarningLog<'a> {
    monitor: &'a dyn Monitor,
    warnings: Mutex<Vec<String>>,
}

impl<'a> WarningLog<'a> {
    /// Nothing so far.
    pub fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            warnings: Mutex::default(),
        }
    }

    /// Takes the warnings so far.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.locked())
    }
}

impl Monitor for WarningLog<'_> {
    fn tell(&self, event: Event) {
        if let Event::Warning(warning) = &event {
            let mut warnings = self.warnings.locked();
            warnings.push(warning.clone());
        }
        self.monitor.tell(event);
    }
}

impl Cancel for WarningLog<'_> {
    fn check(&self) -> Result<()> {
        self.monitor.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_keeps_a_bounded_number_of_warnings() {
        let many: Vec<String> = (0..5000)
            .map(|n| format!("{n} {}", "x".repeat(5000)))
            .collect();
        let kept = bounded(many);
        assert_eq!(kept.len(), MAX_WARNINGS + 1);
        assert!(kept.iter().all(|warning| warning.len() <= MAX_WARNING));
        assert_eq!(kept.last().unwrap(), "4744 more warnings were left out");
        assert!(kept[0].starts_with("0 xxx"));
        assert_eq!(bounded(vec!["one".into()]), ["one"]);
    }
}
