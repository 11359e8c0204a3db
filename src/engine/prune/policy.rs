//! Which snapshots the rules of a retention keep: values in, decisions with their reasons out. It
//! asks no store and no clock.
//!
//! Each snapshot has two times: that of its cut, which the host says, and that at which the store
//! got its manifest, which no host says. The rules are applied by either, and what they keep by one
//! of them stays. So who can put snapshots that claim any time pushes out no more than a host that
//! takes one each hour: by the store's time all that came in one hour, day, week, month or year
//! have one place of a rule between them. By the cut alone, a place that was copied to all at once
//! is judged as the first one is.
//!
//! Of a snapshot that a collector has given another name its manifest says when the store got the
//! first one. That is a claim, too: it may keep the snapshot that makes it, and never takes the
//! place of one that makes none. So the rules go over the store's times without those who claim,
//! and once more over all.

use crate::model::SnapshotId;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// How many to keep by each rule; 0: the rule is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionRules {
    /// The newest ones.
    pub last: u32,
    /// The newest of each of so many hours, of those that have any.
    pub hourly: u32,
    /// Of each of so many days.
    pub daily: u32,
    /// Of each of so many weeks, which begin on Mondays.
    pub weekly: u32,
    /// Of each of so many months.
    pub monthly: u32,
    /// Of each of so many years.
    pub yearly: u32,
    /// All that are no older than this when the newest one was taken.
    pub within: Option<SignedDuration>,
}

impl RetentionRules {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn count(&self, rule: RetentionRule) -> usize {
        let count = match rule {
            RetentionRule::Last => self.last,
            RetentionRule::Hourly => self.hourly,
            RetentionRule::Daily => self.daily,
            RetentionRule::Weekly => self.weekly,
            RetentionRule::Monthly => self.monthly,
            RetentionRule::Yearly => self.yearly,
            RetentionRule::Within => 0,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the fields of the rules say it")]
pub enum RetentionRule {
    Last,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
    Within,
}

impl RetentionRule {
    /// Those that keep a number of snapshots.
    const COUNTED: [Self; 6] = [
        Self::Last,
        Self::Hourly,
        Self::Daily,
        Self::Weekly,
        Self::Monthly,
        Self::Yearly,
    ];

    /// Its word on the command line, without `--keep-`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Within => "within",
        }
    }

    /// The number of the period that a time lies in, in UTC. Of the last ones, those that the store
    /// got within an hour count as one.
    fn period(self, time: Timestamp) -> i64 {
        let days = time.as_second().div_euclid(24 * 60 * 60);
        let date = || Offset::UTC.to_datetime(time).date();
        match self {
            Self::Last | Self::Hourly | Self::Within => time.as_second().div_euclid(60 * 60),
            Self::Daily => days,
            // The first day of 1970 was a Thursday.
            Self::Weekly => (days + 3).div_euclid(7),
            Self::Monthly => i64::from(date().year()) * 12 + i64::from(date().month()),
            Self::Yearly => i64::from(date().year()),
        }
    }
}

/// By which of its times a rule keeps a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByTime {
    /// By that of its cut.
    Cut,
    /// By that at which the store got its manifest.
    Received,
}

/// A disk of one host, whose snapshots are judged beside one another: a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskGroup(pub usize);

/// A snapshot that is judged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which one.
    pub snapshot: SnapshotId,
    /// The instant of its cut, as it says.
    pub cut: Timestamp,
    /// When the store got its manifest, by the store's clock.
    pub received: Timestamp,
    /// An earlier time at which the store has got it, as its manifest says.
    pub claimed: Option<Timestamp>,
    /// The groups of its disks: it stays if one of them needs it.
    pub groups: Vec<DiskGroup>,
}

impl Candidate {
    /// What sorts by time; two of one instant by their names.
    fn by_cut(&self) -> (Timestamp, SnapshotId) {
        (self.cut, self.snapshot)
    }

    /// The same of those that the store got in one period: a cut is not later than that.
    fn within_period(&self) -> (Timestamp, SnapshotId) {
        (self.cut.min(self.first_received()), self.snapshot)
    }

    /// When the store has got it first, if its claim is true.
    fn first_received(&self) -> Timestamp {
        let claimed = self.claimed.map(|claimed| claimed.min(self.received));
        claimed.unwrap_or(self.received)
    }
}

/// Why a rule keeps a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleHit {
    /// The rule.
    pub rule: RetentionRule,
    /// By which time.
    pub by: ByTime,
    /// For which disk.
    pub group: DiskGroup,
}

/// What the rules keep of these: the reasons, for each of them in their order. None: it may go. It
/// does not matter in which order they are.
pub fn kept_by_rules(rules: &RetentionRules, all: &[Candidate]) -> Vec<Vec<RuleHit>> {
    let mut hits = vec![Vec::new(); all.len()];
    for (group, members) in members_of(all).into_iter().enumerate() {
        let mut keep = |at: usize, rule, by| {
            let group = DiskGroup(group);
            if let Some(hits) = hits.get_mut(at) {
                hits.push(RuleHit { rule, by, group });
            }
        };
        let members: Vec<Member<'_>> = members
            .into_iter()
            .filter_map(|at| {
                Some(Member {
                    at,
                    of: all.get(at)?,
                })
            })
            .collect();
        by_cut(rules, members.clone(), &mut keep);
        let silent = members.iter().filter(|one| one.of.claimed.is_none());
        let silent: Vec<Member<'_>> = silent.copied().collect();
        if silent.len() < members.len() {
            by_receipt(rules, members, &mut keep);
        }
        by_receipt(rules, silent, &mut keep);
    }
    for hits in &mut hits {
        hits.sort_unstable();
        hits.dedup();
    }
    hits
}

/// The places of the candidates of each group.
pub(super) fn members_of(all: &[Candidate]) -> Vec<Vec<usize>> {
    let groups = all.iter().flat_map(|one| &one.groups);
    let count = groups.map(|group| group.0 + 1).max().unwrap_or(0);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (at, one) in all.iter().enumerate() {
        for group in &one.groups {
            if let Some(members) = members.get_mut(group.0) {
                members.push(at);
            }
        }
    }
    members
}

/// A candidate and its place.
#[derive(Clone, Copy)]
struct Member<'a> {
    at: usize,
    of: &'a Candidate,
}

type Keep<'a> = dyn FnMut(usize, RetentionRule, ByTime) + 'a;

fn by_cut(rules: &RetentionRules, mut members: Vec<Member<'_>>, keep: &mut Keep<'_>) {
    members.sort_unstable_by_key(|one| std::cmp::Reverse(one.of.by_cut()));
    let newest = members.first().map(|one| one.of.cut);
    for rule in RetentionRule::COUNTED {
        let (mut taken, mut period) = (0, None);
        for one in &members {
            let of_it = Some(rule.period(one.of.cut));
            if rule != RetentionRule::Last && of_it == period {
                continue;
            }
            if taken == rules.count(rule) {
                break;
            }
            (taken, period) = (taken + 1, of_it);
            keep(one.at, rule, ByTime::Cut);
        }
    }
    for one in members
        .iter()
        .filter(|one| is_within(rules, newest, one.of.cut))
    {
        keep(one.at, RetentionRule::Within, ByTime::Cut);
    }
}

fn by_receipt(rules: &RetentionRules, mut members: Vec<Member<'_>>, keep: &mut Keep<'_>) {
    members.sort_unstable_by_key(|one| std::cmp::Reverse(one.of.first_received()));
    let newest = members.first().map(|one| one.of.first_received());
    for rule in RetentionRule::COUNTED {
        let period = |one: &Member<'_>| rule.period(one.of.first_received());
        let periods = members.chunk_by(|one, next| period(one) == period(next));
        for in_one in periods.take(rules.count(rule)) {
            let newest = in_one.iter().max_by_key(|one| one.of.within_period());
            newest
                .into_iter()
                .for_each(|one| keep(one.at, rule, ByTime::Received));
        }
    }
    for one in members
        .iter()
        .filter(|one| is_within(rules, newest, one.of.first_received()))
    {
        keep(one.at, RetentionRule::Within, ByTime::Received);
    }
}

fn is_within(rules: &RetentionRules, newest: Option<Timestamp>, time: Timestamp) -> bool {
    let limits = rules.within.zip(newest);
    limits.is_some_and(|(within, newest)| newest.duration_since(time) <= within)
}
