//! Which segments are worth rewriting: pure. It must never choose one of which more would be moved
//! than the rules say, nor move more in all.

use crate::format::SLOTS_MAX;
use crate::model::{Bytes, ObjectId};
use jiff::{SignedDuration, Timestamp};
use std::ops::Range;

/// Least that one collection may move where nothing else was said, in bytes.
const LEAST_BOUND: u64 = 1 << 30;
/// Of what is live, the part that one collection may move: until the next one it is there twice. A
/// month's last snapshots that go leave more than that dead at once; it is caught up in some weeks.
const MOST_PART: u64 = 25;

/// A class of storage, as AWS lists it; other stores that take these names are no dearer.
struct ClassTerms {
    name: &'static str,
    /// For so many days each object is paid for at least.
    least_days: i64,
    /// What reading costs, in tenths of what a month of storing the same costs.
    reading: u64,
    /// It must be thawed before anything is read.
    is_archive: bool,
}

const fn terms(name: &'static str, least_days: i64, reading: u64, is_archive: bool) -> ClassTerms {
    ClassTerms {
        name,
        least_days,
        reading,
        is_archive,
    }
}

const CLASSES: [ClassTerms; 5] = [
    terms("STANDARD_IA", 30, 8, false),
    terms("ONEZONE_IA", 30, 10, false),
    terms("GLACIER_IR", 90, 75, false),
    terms("GLACIER", 90, 0, true),
    terms("DEEP_ARCHIVE", 180, 0, true),
];
/// Within so many months what is freed must have paid for what was read.
const PAID_WITHIN: u64 = 6;

/// When rewriting pays.
#[derive(Clone, Copy, Debug)]
pub struct RewriteRules {
    /// A segment is rewritten if no more than so many hundredths of it are live.
    pub most_live: u64,
    /// Nothing is rewritten while no more lies dead, in hundredths of all that is live.
    pub tolerated: u64,
    /// Most bytes that one collection moves; `None`: a twenty-fifth of what is live, a GiB at
    /// least.
    pub most_moved: Option<Bytes>,
    /// Most chunks in a segment that is made.
    pub most_slots: u32,
}

impl RewriteRules {
    /// At 85 in a hundred some six bytes are moved to free one. When the snapshots of a month are
    /// thinned to one, random writes have left three quarters of its segments live, and more of the
    /// last days'. A twentieth that lies dead, and what waits for the next collection, make 1.15 of
    /// what is live, or less, after a year (`tests/collect/year.rs`).
    pub const USUAL: Self = Self {
        most_live: 85,
        tolerated: 5,
        most_moved: None,
        most_slots: SLOTS_MAX,
    };
    /// Nothing is looked at.
    pub const NEVER: Self = Self {
        most_moved: Some(Bytes(0)),
        ..Self::USUAL
    };

    /// Whether nothing is to be rewritten, whatever there is.
    pub fn is_never(&self) -> bool {
        self.most_moved == Some(Bytes(0))
    }

    /// The same where segments are of this class: reading what is moved must be paid for by what is
    /// freed.
    #[must_use]
    pub(super) fn in_class(self, class: Option<&str>) -> Self {
        let reading = terms_of(class).map_or(0, |terms| terms.reading);
        let most = 1000 * PAID_WITHIN / (10 * PAID_WITHIN + reading);
        Self {
            most_live: self.most_live.min(most),
            ..self
        }
    }

    /// Whether so little lies dead that nothing is to be done.
    pub(super) fn is_enough(&self, space: &DeadSpace) -> bool {
        space.dead.0 <= self.bound(space)
    }

    fn bound(&self, space: &DeadSpace) -> u64 {
        space.live.0 / 100 * self.tolerated
    }

    fn most(&self, space: &DeadSpace) -> u64 {
        let usual = (space.live.0 / MOST_PART).max(LEAST_BOUND);
        self.most_moved.map_or(usual, |most| most.0)
    }

    /// Whether one alone would be worth it.
    pub(super) fn is_worth(&self, one: &HalfLive) -> bool {
        one.dead.0 > 0 && one.live.0 * 100 <= one.whole() * self.most_live
    }

    /// Of these, those that are rewritten: those of which least is live first.
    pub(super) fn choose(&self, mut all: Vec<HalfLive>, space: &DeadSpace) -> Vec<HalfLive> {
        all.retain(|one| self.is_worth(one));
        all.sort_by(|one, other| {
            let key = |a: &HalfLive, b: &HalfLive| u128::from(a.live.0) * u128::from(b.whole());
            let by_part = key(one, other).cmp(&key(other, one));
            by_part.then(one.id.cmp(&other.id))
        });
        let (mut dead, mut moved) = (space.dead.0, 0);
        let mut chosen = Vec::new();
        for one in all {
            if dead <= self.bound(space) || moved + one.live.0 > self.most(space) {
                break;
            }
            dead = dead.saturating_sub(one.dead.0);
            moved += one.live.0;
            chosen.push(one);
        }
        // In the order in which they were put, so that neighbours stay neighbours.
        chosen.sort_by_key(|one| (one.put, one.id));
        chosen
    }
}

/// What lies dead in segments of which something is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadSpace {
    /// Such segments of which some chunk is dead.
    pub segments: usize,
    /// Bytes of chunks that are needed, of all segments.
    pub live: Bytes,
    /// Bytes of chunks that nothing needs.
    pub dead: Bytes,
    /// Segments whose ends could not be read: nothing is known of them.
    pub unread: usize,
}

/// A segment of which some is needed.
#[derive(Clone, Debug)]
pub(super) struct HalfLive {
    pub(super) id: ObjectId,
    pub(super) put: Timestamp,
    /// The slots that are needed, ascending.
    pub(super) slots: Vec<Range<u32>>,
    pub(super) live: Bytes,
    pub(super) dead: Bytes,
}

impl HalfLive {
    fn whole(&self) -> u64 {
        self.live.0 + self.dead.0
    }
}

fn terms_of(class: Option<&str>) -> Option<&'static ClassTerms> {
    CLASSES.iter().find(|terms| Some(terms.name) == class)
}

/// How long an object of this class is paid for at least.
pub(super) fn least_time(class: Option<&str>) -> SignedDuration {
    let days = terms_of(class).map_or(0, |terms| terms.least_days);
    SignedDuration::from_hours(24 * days)
}

/// Whether objects of this class must be thawed before they are read.
pub(super) fn is_archive(class: Option<&str>) -> bool {
    terms_of(class).is_some_and(|terms| terms.is_archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(live: u64, dead: u64) -> HalfLive {
        HalfLive {
            id: ObjectId::generate(),
            put: Timestamp::UNIX_EPOCH,
            slots: Vec::new(),
            live: Bytes(live),
            dead: Bytes(dead),
        }
    }

    fn space(live: u64, dead: u64) -> DeadSpace {
        DeadSpace {
            live: Bytes(live),
            dead: Bytes(dead),
            ..DeadSpace::default()
        }
    }

    #[test]
    fn the_emptiest_go_first_and_no_more_than_enough() {
        let all = vec![
            half(70, 30),
            half(10, 90),
            half(50, 50),
            half(86, 14),
            half(100, 0),
        ];
        let ids: Vec<ObjectId> = all.iter().map(|one| one.id).collect();
        let chosen = |dead| -> Vec<u64> {
            let space = space(1000, dead);
            let chosen = RewriteRules::USUAL.choose(all.clone(), &space);
            let mut live: Vec<u64> = chosen.iter().map(|one| one.live.0).collect();
            live.sort_unstable();
            live
        };
        assert!(chosen(50).is_empty(), "a twentieth is tolerated");
        assert_eq!(chosen(51), [10]);
        assert_eq!(chosen(141), [10, 50]);
        // Of more than 85 in a hundred live nothing is moved, whatever lies dead.
        assert_eq!(chosen(10_000), [10, 50, 70]);
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn no_more_is_moved_than_was_said() {
        let all = vec![half(10, 90), half(50, 50)];
        let rules = RewriteRules {
            most_moved: Some(Bytes(59)),
            ..RewriteRules::USUAL
        };
        assert_eq!(rules.choose(all.clone(), &space(100, 1000)).len(), 1);
        assert!(
            RewriteRules::NEVER
                .choose(all, &space(100, 1000))
                .is_empty()
        );
        assert!(RewriteRules::NEVER.is_never() && !rules.is_never());
    }

    #[test]
    fn classes_have_their_times() {
        let days = |class| least_time(Some(class)).as_hours() / 24;
        assert_eq!(days("STANDARD_IA"), 30);
        assert_eq!((days("GLACIER_IR"), days("STANDARD")), (90, 0));
        assert!(is_archive(Some("DEEP_ARCHIVE")) && !is_archive(Some("GLACIER_IR")));
        assert!(!is_archive(None) && least_time(None).is_zero());
    }

    #[test]
    fn what_is_read_must_be_paid_for_by_what_is_freed() {
        let most = |class| RewriteRules::USUAL.in_class(class).most_live;
        assert_eq!((most(None), most(Some("STANDARD"))), (85, 85));
        assert_eq!(
            (most(Some("STANDARD_IA")), most(Some("ONEZONE_IA"))),
            (85, 85)
        );
        // Of 100 bytes 44 are read for 7.5 months' storage each, and 56 are freed.
        assert_eq!(most(Some("GLACIER_IR")), 44);
        let rules = RewriteRules::USUAL.in_class(Some("GLACIER_IR"));
        assert!(rules.is_worth(&half(44, 56)) && !rules.is_worth(&half(45, 55)));
    }
}
