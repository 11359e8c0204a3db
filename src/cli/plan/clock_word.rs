//! What the clocks of this host say, and who says that the time is right: the kernel's word for a
//! time service, or the time at which a vault in S3 got what the run has put. The files of a
//! directory bear this host's own time, so a directory says nothing.

use super::super::args::Common;
use super::super::context;
use crate::plan::{ClockReading, ClockWord, PlanTry, SnapshotPlan};
use crate::store;
use crate::sys::clock_state::is_synchronised;
use crate::sys::machine::{asleep, boot_id, host_name, since_boot};
use jiff::Timestamp;

/// The clocks now; `None`: they cannot be read.
pub fn read_clocks() -> Option<ClockReading> {
    let up = since_boot().ok()?;
    Some(ClockReading {
        boot: boot_id().ok()?,
        up_ms: u64::try_from(up.as_millis()).ok()?,
        slept_ms: u64::try_from(asleep().ok()?.as_millis()).ok()?,
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
    /// What others say of the time. A vault goes before a time service, as that sets the clock.
    pub fn word(&self) -> ClockWord {
        if self.distrust {
            return ClockWord::Nobody;
        }
        let of_vault = self.word_of_the_vault();
        of_vault.unwrap_or_else(|| match is_synchronised() {
            Some(true) => ClockWord::Right,
            _ => ClockWord::Nobody,
        })
    }

    /// What the vault says by the time at which it got the snapshot; `None`: it has no clock of its
    /// own, or does not say.
    fn word_of_the_vault(&self) -> Option<ClockWord> {
        let taken = self.taken?;
        let id = taken.outcome.as_ref()?.snapshot.as_ref()?.parse().ok()?;
        let given = self.plan.vault.as_deref().or(self.common.vault.as_deref());
        let place = context::vault_named(self.common, given).ok()?;
        // What runs here has the clock that is asked about.
        if !place.is_s3() || place.is_served_here() {
            return None;
        }
        let vault = store::open(&place).ok()?;
        let stored = vault.stored_snapshots(Some(&host_name())).ok()?;
        let own = stored.into_iter().find(|one| one.snapshot.id == id)?;
        let word = ClockWord::of_vault(own.received, taken.ended?);
        Some(word).filter(|word| *word != ClockWord::Nobody)
    }
}
