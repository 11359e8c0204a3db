//! Until when a snapshot must be locked: pure.

use crate::model::LockRule;
use crate::store::KeptBy;
use jiff::{SignedDuration, Timestamp};

/// Until when the rule locks a snapshot that the store got then and that somebody may keep. It is
/// never locked for longer than the rule's time from now on, whatever its host says: what is kept
/// longer is locked anew by each look.
pub(super) fn locked_until(
    rule: LockRule,
    received: Timestamp,
    kept: &KeptBy,
    now: Timestamp,
) -> Timestamp {
    let after = |time: Timestamp| time.checked_add(rule.time()).unwrap_or(Timestamp::MAX);
    let most = after(now);
    // A hold has no end, and what cannot be read may say anything.
    let kept = match kept.holds.is_empty() && kept.unreadable.is_empty() {
        true => kept.until.unwrap_or(Timestamp::MIN),
        false => most,
    };
    after(received).max(kept).min(most)
}

/// How much longer than it must be something is locked that later snapshots will need, too: so each
/// of them does not lock it anew.
pub(super) fn ahead(rule: LockRule) -> SignedDuration {
    rule.time() / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn a_snapshot_is_locked_for_the_rules_time_and_as_long_as_it_is_kept() {
        let rule: LockRule = "compliance:30d".parse().unwrap();
        let until = |received, kept: &KeptBy| locked_until(rule, at(received), kept, at(100));
        let free = KeptBy::default();
        assert_eq!(until(90, &free), at(120));
        // It is over.
        assert_eq!(until(10, &free), at(40));
        // A store's clock that is ahead makes nothing longer.
        assert_eq!(until(500, &free), at(130));
        let kept = |days| KeptBy {
            until: Some(at(days)),
            ..KeptBy::default()
        };
        assert_eq!(until(10, &kept(105)), at(105));
        assert_eq!(until(90, &kept(105)), at(120));
        assert_eq!(until(10, &kept(60)), at(60));
        // Who puts a snapshot may say that it is kept for ten years: it costs thirty days.
        assert_eq!(until(10, &kept(3750)), at(130));
        let held = KeptBy {
            holds: ["audit".to_owned()].into(),
            ..KeptBy::default()
        };
        assert_eq!(until(10, &held), at(130));
        let unreadable = KeptBy {
            unreadable: vec!["x".into()],
            ..KeptBy::default()
        };
        assert_eq!(until(10, &unreadable), at(130));
    }
}
