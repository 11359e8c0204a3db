//! What a run says of itself in the vault that it writes to.

use crate::format::SessionRecord;
use crate::sys::machine::boot_id;
use jiff::Timestamp;

/// The record of this process, which runs `command` on the host of that name.
pub(super) fn session_record(command: &str, host: &str, started: Timestamp) -> SessionRecord {
    SessionRecord {
        host: host.into(),
        pid: std::process::id(),
        boot_id: boot_id().unwrap_or_default(),
        command: command.into(),
        started,
        heartbeat: started,
    }
}
