//! The order in which snapshots were taken, whatever the clocks said. It believes clocks only where
//! nothing better is known, and must never leave a snapshot out because its record is damaged.

use super::catalog::SnapshotRef;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::Manifest;
use crate::model::{Cancel, Epoch, SnapshotId};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;

/// Most disks of one snapshot whose parents and epochs are kept.
const MOST_DISKS: usize = 256;
/// Longest boot id that is believed, in bytes.
const MOST_BOOT_ID: usize = 64;

/// A snapshot, and what decides its place among the others.
#[derive(Clone, Debug)]
pub struct Dated {
    /// Which one.
    pub snapshot: SnapshotRef,
    /// When its run began, and when it was cut, by the host's clock; `None` where its manifest
    /// cannot be read.
    clock: Option<RunTimes>,
    parents: Vec<SnapshotId>,
    epochs: Vec<(BootMarks, Epoch)>,
}

#[derive(Clone, Copy, Debug)]
struct RunTimes {
    started: Timestamp,
    cut: Timestamp,
}

/// The marks of one disk in one boot. Their epochs only ever grow, unless the machine is taken back
/// to a saved state with its memory. So they decide the order only of snapshots of early writers,
/// whose cuts have no names. Later writers name each snapshot after all before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BootMarks {
    boot_id: String,
    map: u32,
}

impl Dated {
    /// By its manifest.
    pub fn new(snapshot: &SnapshotRef, manifest: &Manifest) -> Self {
        let disks = || manifest.disks.iter().take(MOST_DISKS);
        let cuts = disks().filter_map(|disk| disk.cut.as_ref());
        let cuts = cuts.filter(|cut| cut.name.is_none());
        let cuts = cuts.filter(|cut| (1..=MOST_BOOT_ID).contains(&cut.boot_id.len()));
        let epochs = cuts.map(|cut| {
            let marks = BootMarks {
                boot_id: cut.boot_id.clone(),
                map: cut.map,
            };
            (marks, cut.epoch)
        });
        Self {
            snapshot: snapshot.clone(),
            clock: Some(RunTimes {
                started: manifest.started,
                cut: manifest.time,
            }),
            parents: disks().filter_map(|disk| disk.parent).collect(),
            epochs: epochs.collect(),
        }
    }

    /// By its name alone: its manifest cannot be read.
    pub fn unread(snapshot: &SnapshotRef) -> Self {
        Self {
            snapshot: snapshot.clone(),
            clock: None,
            parents: Vec::new(),
            epochs: Vec::new(),
        }
    }

    /// When it was cut, as far as is known.
    fn time(&self) -> Timestamp {
        let begun = || {
            let ms = i64::try_from(self.snapshot.id.unix_ms()).ok();
            ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
        };
        self.clock
            .map(|clock| clock.cut)
            .or_else(begun)
            .unwrap_or(Timestamp::MAX)
    }

    /// Whether its name is later than its clock was: see [`SnapshotId::after`].
    fn is_after_all_names_below(&self) -> bool {
        let started = self.clock.map(|clock| clock.started.as_millisecond());
        let named = i64::try_from(self.snapshot.id.unix_ms()).unwrap_or(i64::MAX);
        started.is_some_and(|started| named > started)
    }
}

/// Snapshots in the order in which they were taken.
pub struct History {
    /// Oldest first.
    pub order: Vec<SnapshotRef>,
    /// Those whose clock cannot have been right, or that show that the clock is not right now.
    pub doubtful: Vec<Doubtful>,
}

/// A snapshot whose time does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubtful {
    /// Which one.
    pub snapshot: SnapshotId,
    /// When it was cut, by the host's clock then.
    pub time: Timestamp,
    /// What it does not fit to.
    pub than: Than,
}

/// What a time is too late for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Than {
    /// It has not come yet.
    Now(Timestamp),
    /// A snapshot that was taken after it says that it was cut before.
    Later(SnapshotId, Timestamp),
}

impl fmt::Display for Doubtful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        write!(f, "snapshot {} says {}, ", self.snapshot, of(self.time))?;
        match self.than {
            Than::Now(now) => write!(
                f,
                "which is later than now ({}): the clock was ahead then, or is behind now",
                of(now)
            ),
            Than::Later(id, time) => write!(
                f,
                "and {id}, which was taken after it, says {}: the clock was ahead, or was set back",
                of(time)
            ),
        }
    }
}

impl History {
    /// Reads the manifests of these snapshots. `cancel` is asked before each, and its error is
    /// returned.
    pub fn read(vault: &Vault, snapshots: &[SnapshotRef], cancel: &dyn Cancel) -> Result<Self> {
        let mut all = Vec::new();
        for (snapshot, manifest) in vault.manifests(snapshots.to_vec()) {
            cancel.check()?;
            match manifest {
                Ok(manifest) => all.push(Dated::new(&snapshot, &manifest)),
                // Deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => all.push(Dated::unread(&snapshot)),
            }
        }
        Ok(Self::of(all, Timestamp::now()))
    }

    /// Puts them in order: by the time of the cut, but never before what is known to have been
    /// taken before.
    pub fn of(mut all: Vec<Dated>, now: Timestamp) -> Self {
        all.sort_by_key(|one| (one.time(), one.snapshot.id));
        let later = successors(&all);
        let order = sorted(&later);
        let doubtful = order.iter().filter_map(|&at| {
            let one = all.get(at)?;
            let time = one.clock?.cut;
            let too_late = || {
                let mut known = later.get(at)?.iter().filter_map(|&next| all.get(next));
                let next = known.find(|next| next.clock.is_some_and(|next| next.cut < time))?;
                Some(Than::Later(next.snapshot.id, next.time()))
            };
            let than = match time > now {
                true => Than::Now(now),
                false => too_late()?,
            };
            Some(Doubtful {
                snapshot: one.snapshot.id,
                time,
                than,
            })
        });
        Self {
            doubtful: doubtful.collect(),
            order: order
                .iter()
                .filter_map(|&at| Some(all.get(at)?.snapshot.clone()))
                .collect(),
        }
    }
}

/// For each of them, which are known to have been taken after it: a parent comes before its
/// children, marks of an earlier epoch before those of a later one, and whatever was there before
/// that which took its name from it.
fn successors(all: &[Dated]) -> Vec<Vec<usize>> {
    let mut later = vec![Vec::new(); all.len()];
    let mut add = |before: usize, after: usize| {
        if let Some(known) = later.get_mut(before) {
            known.push(after);
        }
    };
    let places: HashMap<SnapshotId, usize> = all
        .iter()
        .enumerate()
        .map(|(at, one)| (one.snapshot.id, at))
        .collect();
    let mut marks: HashMap<&BootMarks, Vec<(Epoch, usize)>> = HashMap::new();
    let mut hosts: HashMap<Option<&str>, Vec<usize>> = HashMap::new();
    for (at, one) in all.iter().enumerate() {
        let parents = one.parents.iter().filter_map(|parent| places.get(parent));
        parents.for_each(|&parent| add(parent, at));
        for (of, epoch) in &one.epochs {
            marks.entry(of).or_default().push((*epoch, at));
        }
        hosts.entry(one.snapshot.host()).or_default().push(at);
    }
    for epochs in marks.values_mut() {
        epochs.sort_unstable();
        for pair in epochs.windows(2) {
            if let [(before, one), (after, two)] = pair
                && before < after
            {
                add(*one, *two);
            }
        }
    }
    for of_host in hosts.values_mut() {
        of_host.sort_unstable_by_key(|&at| all.get(at).map(|one| one.snapshot.id));
        let (mut head, mut since_head) = (None, Vec::new());
        for &at in of_host.iter() {
            if all.get(at).is_some_and(Dated::is_after_all_names_below) {
                since_head.drain(..).for_each(|before| add(before, at));
                head = Some(at);
            } else if let Some(head) = head {
                add(head, at);
            }
            since_head.push(at);
        }
    }
    later
}

/// An order in which each comes after what is known to be before it, and else as they stand. Where
/// what is known contradicts itself, as they stand.
fn sorted(later: &[Vec<usize>]) -> Vec<usize> {
    let mut waits_for = vec![0_usize; later.len()];
    for &next in later.iter().flatten() {
        if let Some(count) = waits_for.get_mut(next) {
            *count += 1;
        }
    }
    let mut taken = vec![false; later.len()];
    let free = |(at, count): (usize, &usize)| (*count == 0).then_some(Reverse(at));
    let mut ready: BinaryHeap<Reverse<usize>> =
        waits_for.iter().enumerate().filter_map(free).collect();
    let mut standing = 0..later.len();
    let mut order = Vec::with_capacity(later.len());
    while let Some(at) = ready
        .pop()
        .map(|Reverse(at)| at)
        .or_else(|| standing.next())
    {
        let Some(taken) = taken.get_mut(at).filter(|taken| !**taken) else {
            continue;
        };
        *taken = true;
        order.push(at);
        for &next in later.get(at).into_iter().flatten() {
            if let Some(count) = waits_for.get_mut(next) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push(Reverse(next));
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    /// A snapshot by its clock, and by what its name says; both in days.
    fn one(named: i64, at: i64) -> Dated {
        let time = |days: i64| Timestamp::from_millisecond(days * DAY).unwrap();
        let id = SnapshotId::generate(u64::try_from(named * DAY).unwrap());
        Dated {
            snapshot: SnapshotRef::named("h", id),
            clock: Some(RunTimes {
                started: time(at),
                cut: time(at),
            }),
            parents: Vec::new(),
            epochs: Vec::new(),
        }
    }

    fn child(at: i64, parent: &Dated) -> Dated {
        Dated {
            parents: vec![parent.snapshot.id],
            ..one(at, at)
        }
    }

    fn marked(at: i64, epoch: u32) -> Dated {
        let marks = BootMarks {
            boot_id: "b".into(),
            map: 7,
        };
        Dated {
            epochs: vec![(marks, Epoch(epoch))],
            ..one(at, at)
        }
    }

    /// Their places in the order in which they were given, and which are doubted on day 100.
    fn history(given: &[&Dated]) -> (Vec<usize>, Vec<usize>) {
        let place = |id| given.iter().position(|one| one.snapshot.id == id).unwrap();
        // However they are found.
        let backwards = given.iter().rev().map(|one| (*one).clone()).collect();
        let history = History::of(backwards, Timestamp::from_millisecond(100 * DAY).unwrap());
        let order = history.order.iter().map(|one| place(one.id)).collect();
        let doubtful = history.doubtful.iter().map(|one| place(one.snapshot));
        (order, doubtful.collect())
    }

    #[test]
    fn clocks_count_where_nothing_else_is_known() {
        let (a, b, c) = (one(1, 1), one(2, 2), one(3, 3));
        assert_eq!(history(&[&a, &b, &c]), (vec![0, 1, 2], vec![]));
        // Began first, was cut last: two runs at a time.
        let mut long = one(1, 1);
        long.clock.as_mut().unwrap().cut = Timestamp::from_millisecond(5 * DAY).unwrap();
        assert_eq!(history(&[&b, &c, &long]), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn a_clock_that_was_ahead_makes_nothing_the_newest() {
        let (a, ahead) = (one(1, 1), one(365, 365));
        let by_parent = child(3, &ahead);
        assert_eq!(history(&[&a, &ahead, &by_parent]), (vec![0, 1, 2], vec![1]));
        let (ahead, by_epoch) = (marked(365, 3), marked(3, 4));
        assert_eq!(history(&[&a, &ahead, &by_epoch]), (vec![0, 1, 2], vec![1]));
        // What took its name after it, of other disks too, and what came after that.
        let (by_name, then, last) = (one(366, 3), one(367, 4), one(368, 5));
        let all = [&a, &ahead, &by_name, &then, &last];
        assert_eq!(history(&all), (vec![0, 1, 2, 3, 4], vec![1]));
        // Nothing newer: it is the newest, and doubted all the same.
        assert_eq!(history(&[&a, &ahead]), (vec![0, 1], vec![1]));
    }

    #[test]
    fn a_clock_that_was_set_back_is_noticed_when_its_time_has_passed() {
        let (a, ahead) = (one(1, 1), one(50, 50));
        let next = child(3, &ahead);
        assert_eq!(history(&[&a, &ahead, &next]), (vec![0, 1, 2], vec![1]));
        let all = vec![ahead.clone(), next.clone()];
        let found = History::of(all, Timestamp::MAX).doubtful;
        let said = found[0].to_string();
        let (ahead, next) = (ahead.snapshot.id, next.snapshot.id);
        assert!(
            said.contains(&format!("snapshot {ahead} says 1970-02-20")),
            "{said}"
        );
        assert!(said.contains(&format!(
            "{next}, which was taken after it, says 1970-01-04"
        )));
    }

    #[test]
    fn what_contradicts_itself_leaves_nothing_out() {
        let (mut a, mut b) = (one(1, 1), one(2, 2));
        (a.parents, b.parents) = (vec![b.snapshot.id], vec![a.snapshot.id, a.snapshot.id]);
        let c = child(3, &b);
        assert_eq!(history(&[&a, &b, &c]).0, [0, 1, 2]);
        let own = Dated {
            parents: vec![a.snapshot.id],
            ..a.clone()
        };
        assert_eq!(history(&[&own]).0, [0]);
    }

    #[test]
    fn a_damaged_one_keeps_the_place_of_its_name() {
        let (a, b, c) = (one(1, 1), one(2, 2), one(3, 3));
        let newest = Dated::unread(&c.snapshot);
        assert_eq!(history(&[&a, &b, &newest]), (vec![0, 1, 2], vec![]));
        let oldest = Dated::unread(&a.snapshot);
        assert_eq!(history(&[&oldest, &b, &c]), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn ten_thousand_take_no_square_of_their_number() {
        let first = one(365, 365);
        let all: Vec<Dated> = (0..20_000)
            .map(|n| Dated {
                parents: vec![first.snapshot.id],
                ..marked(1 + n % 50, u32::try_from(n).unwrap())
            })
            .collect();
        let last = all.last().unwrap().snapshot.id;
        let history = History::of([vec![first], all].concat(), Timestamp::MAX);
        assert_eq!(history.order.len(), 20_001);
        assert_eq!(history.order.last().unwrap().id, last);
    }
}
