//! What a manifest says of a disk's blocks that were rewritten in place: counts, by which the next
//! run knows what is usual, and an alarm. It may say anything: no count is believed beyond the
//! disk.

use crate::model::SnapshotId;
use serde::{Deserialize, Serialize};

/// After so long half of what was usual is forgotten.
const HALF_FORGOTTEN_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// How the names of an alarm's holds begin.
const HOLD: &str = "encryption-alarm-";

/// The blocks that held bytes in the parent, and hold others at the cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrittenRecord {
    /// How many there are.
    pub blocks: u64,
    /// Those of them of which packing wins less than an eighth now.
    pub hardly_pack: u64,
    /// The most of the latter that a run before this one has seen, less half in each 30 days since.
    pub usual: u64,
    /// How they had packed could not be looked up, or not all were compared: this run says nothing
    /// of what is usual.
    #[serde(default, skip_serializing_if = "is_known")]
    pub unknown: bool,
    /// The last alarm: of this run, or of one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<EncryptionAlarm>,
}

/// That a run found what looks like encryption at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionAlarm {
    /// The snapshot of that run.
    pub told: SnapshotId,
    /// The last one before it.
    pub clean: SnapshotId,
    /// Of how many blocks was looked how they had packed in the parent.
    pub looked: u64,
    /// Those that had taken three quarters of their length at most.
    pub packed: u64,
    /// Whether `clean` was seen to be held: where it is not any more, somebody has released it.
    #[serde(default)]
    pub held: bool,
}

impl RewrittenRecord {
    /// What is usual for a run that begins so many milliseconds later, of a disk of so many blocks.
    pub fn usual_after(&self, ms: u64, blocks: u64) -> u64 {
        let own = match self.unknown {
            true => 0,
            false => self.hardly_pack,
        };
        let most = self.usual.max(own).min(blocks);
        let halves = ms as f64 / HALF_FORGOTTEN_MS as f64;
        // It only ever gets less.
        ((most as f64 * 0.5_f64.powf(halves)).round() as u64).min(most)
    }

    /// The alarm, as long as it is remembered: where nothing could be held, for 30 days.
    pub fn remembered(&self, now: SnapshotId) -> Option<EncryptionAlarm> {
        let age = |alarm: &EncryptionAlarm| now.unix_ms().saturating_sub(alarm.told.unix_ms());
        let lasts = |alarm: &EncryptionAlarm| alarm.held || age(alarm) <= HALF_FORGOTTEN_MS;
        self.alarm.filter(lasts)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_known(unknown: &bool) -> bool {
    !*unknown
}

impl EncryptionAlarm {
    /// The name of the hold that it puts, by which a person sees why.
    pub fn hold(&self) -> String {
        format!("{HOLD}{}", self.told)
    }

    /// Whether a hold is of an alarm, by its name.
    pub fn is_hold(name: &str) -> bool {
        name.starts_with(HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    #[test]
    fn what_is_usual_is_forgotten_by_halves() {
        let record = |usual, hardly_pack| RewrittenRecord {
            usual,
            hardly_pack,
            ..RewrittenRecord::default()
        };
        assert_eq!(record(0, 800).usual_after(0, 1000), 800);
        assert_eq!(record(800, 3).usual_after(30 * DAY, 1000), 400);
        assert_eq!(record(3, 800).usual_after(60 * DAY, 1000), 200);
        assert_eq!(record(800, 800).usual_after(7 * DAY, 1000), 681);
        assert_eq!(record(800, 800).usual_after(u64::MAX, 1000), 0);
        let unknown = RewrittenRecord {
            unknown: true,
            ..record(3, 800)
        };
        assert_eq!(unknown.usual_after(0, 1000), 3);
        // A manifest may say anything.
        assert_eq!(record(u64::MAX, u64::MAX).usual_after(0, 1000), 1000);
    }

    #[test]
    fn an_alarm_that_holds_nothing_is_remembered_for_a_month() {
        let at = |days: u64| SnapshotId::generate(days * DAY + 1);
        let alarm = EncryptionAlarm {
            told: at(10),
            clean: at(9),
            looked: 256,
            packed: 200,
            held: false,
        };
        let of = |alarm| RewrittenRecord {
            alarm: Some(alarm),
            ..RewrittenRecord::default()
        };
        let record = of(alarm);
        assert_eq!(record.remembered(at(40)), Some(alarm));
        assert_eq!(
            record.remembered(at(3)),
            Some(alarm),
            "a clock was set back"
        );
        assert_eq!(record.remembered(at(41)), None);
        // What is held is remembered until somebody releases it.
        let held = EncryptionAlarm {
            held: true,
            ..alarm
        };
        assert_eq!(of(held).remembered(at(400)), Some(held));
        assert!(alarm.hold().len() <= crate::format::MAX_HOLD);
    }
}
