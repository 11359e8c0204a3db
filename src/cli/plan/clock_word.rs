//! What the clocks of this host say, and who says that the time is right: the kernel's word for a
//! time service, or the time at which a vault in S3 got what the run has put. The files of a
//! directory bear this host's own time, so a directory says nothing.

use super::super::args::Common;
use super::super::context;
use crate::plan::{ClockReading, ClockWord, PlanTry, SnapshotPlan};
use crate::store;
use crate::sys::clock_state::is_synchronised;
use crate::sys::machine::{boot_id, host_name, since_boot};
use jiff::Timestamp;

/// The clocks now; `None`: they cannot be read.
pub fn read_clocks() -> Option<ClockReading> {
    let up = since_boot().ok()?;
    Some(ClockReading {
        boot: boot_id().ok()?,
        up_ms: u64::try_from(up.as_millis()).ok()?,
        wall: Timestamp::now(),
    })
}

/// Whom to ask for the time.
pub struct ClockAsk<'a> {
    pub plan: &'a SnapshotPlan,
    pub common: &'a Common,
    /// Nobody is believed.
    pub distrust: bool,
    /// The run that has taken a snapshot.
    pub taken: Option<&'a PlanTry>,
}

impl ClockAsk<'_> {
    /// What others say of the time. A vault is asked where no time service is known of.
    pub fn word(&self) -> ClockWord {
        match (self.distrust, is_synchronised()) {
            (true, _) => ClockWord::Nobody,
            (false, Some(true)) => ClockWord::Right,
            (false, _) => self.word_of_the_vault().unwrap_or(ClockWord::Nobody),
        }
    }

    /// What the vault says by the time at which it got the snapshot; `None`: it has no clock of its
    /// own, or does not say.
    fn word_of_the_vault(&self) -> Option<ClockWord> {
        let taken = self.taken?;
        let id = taken.outcome.as_ref()?.snapshot.as_ref()?.parse().ok()?;
        let given = self.plan.vault.as_deref().or(self.common.vault.as_deref());
        let place = context::vault_named(self.common, given).ok()?;
        if !place.is_s3() {
            return None;
        }
        let vault = store::open(&place).ok()?;
        let stored = vault.stored_snapshots(Some(&host_name())).ok()?;
        let own = stored.into_iter().find(|one| one.snapshot.id == id)?;
        Some(ClockWord::of_vault(own.received, taken.ended?))
    }
}
