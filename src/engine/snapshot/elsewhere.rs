//! What the vault has of the disks' blocks already, whoever has put it: learned before anything is
//! held, so that nothing waits for the vault later. A run is as good without it.

use super::disk_run::DiskRun;
use crate::engine::monitor::{Event, Monitor};
use crate::error::{ErrorKind, Result};
use crate::model::Bytes;
use crate::store::{ChunksElsewhere, Draft};
use std::sync::Arc;

/// Learns it, where the vault stores equal blocks once and the disks are worth it.
pub fn look(
    draft: &Draft,
    disks: &[DiskRun],
    monitor: &dyn Monitor,
) -> Result<Option<Arc<ChunksElsewhere>>> {
    let wanted: Bytes = disks.iter().map(DiskRun::wanted_bytes).sum();
    let named = disks.iter().flat_map(DiskRun::copies_of_parent).copied();
    let named: Vec<_> = named.collect();
    match draft.look_elsewhere(wanted, &named, monitor) {
        Ok(found) => Ok(found.map(Arc::new)),
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted(_)) => Err(error),
        Err(error) => {
            monitor.tell(Event::Warning(format!(
                "{error}: it is not known what the vault has already, so what this run reads is \
                 stored, though others may have stored it"
            )));
            Ok(None)
        }
    }
}

/// Notes for the next run of any host what this one has found false; nothing may be held.
pub fn note(draft: &Draft, monitor: &dyn Monitor) {
    if let Err(error) = draft.note_false(monitor) {
        monitor.tell(Event::Warning(format!(
            "{error}: segments that were found not to hold what they say could not be noted in the \
             vault, so that the next run may refer to them; run `stillpoint verify --all`"
        )));
    }
}

/// Tells what was amiss, when all is stored.
pub fn tell(elsewhere: &ChunksElsewhere, monitor: &dyn Monitor) {
    if let Some(error) = elsewhere.trouble() {
        monitor.tell(Event::Warning(format!(
            "{error}: from there on, blocks were stored though the vault may have had them"
        )));
    }
    if let Some(alarm) = elsewhere.alarm() {
        monitor.tell(Event::Warning(alarm));
    }
    let [read, left_out] = elsewhere.objects();
    if left_out > 0 {
        monitor.tell(Event::Note(format!(
            "what the vault has already was looked for in {read} objects of copies of footers; \
             {left_out} were left out, so some blocks may be stored twice"
        )));
    }
}
