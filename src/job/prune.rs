//! Removes old records. It must never remove one whose process still runs.

use super::directory::JobDirectory;
use crate::error::Result;
use std::time::{Duration, SystemTime};

/// What is kept of the jobs that have ended.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Records that were written to within this time.
    pub age: Duration,
    /// The newest records, this many at most.
    pub count: usize,
}

impl Default for PruneOptions {
    /// 30 days, 1000 jobs.
    fn default() -> Self {
        Self {
            age: Duration::from_secs(30 * 24 * 3600),
            count: 1000,
        }
    }
}

impl JobDirectory {
    /// Removes records that are too old or too many, with their logs, and the temporary files of
    /// writers that were killed. Returns how many records it removed.
    ///
    /// # Errors
    /// The directory cannot be listed; what cannot be removed stays.
    pub fn prune(&self, options: PruneOptions) -> Result<usize> {
        let now = SystemTime::now();
        let old = |changed: SystemTime| {
            now.duration_since(changed)
                .is_ok_and(|age| age > options.age)
        };
        let entries = self.entries()?;
        let mut removed = 0;
        let many = entries.jobs.len().saturating_sub(options.count);
        for (rank, id) in entries.jobs.iter().enumerate() {
            let Some(changed) = self.changed(&id.to_string(), "json") else {
                continue;
            };
            if !old(changed) && rank >= many {
                continue;
            }
            let gone = match self.look(*id) {
                Ok(record) => record.state.is_end(),
                // One that cannot be read may be the live record of a newer version.
                Err(_) => old(changed),
            };
            if gone && self.remove(*id) {
                removed += 1;
            }
        }
        for name in &entries.leftovers {
            if self.changed(name, "").is_some_and(old) {
                self.remove_file(name);
            }
        }
        Ok(removed)
    }
}
