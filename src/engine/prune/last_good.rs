//! That a disk keeps a good snapshot, whatever the rules say. It must never let the last one go
//! because one that is no good stays.

use super::policy::{Candidate, DiskGroup, members_of};
use crate::error::Result;
use std::cmp::Reverse;

/// A snapshot of one disk, as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskCopy {
    /// The snapshot's place among the candidates.
    pub at: usize,
    /// The disk.
    pub group: DiskGroup,
}

/// What is known of copies of disks; it may have to be read.
pub trait Goodness {
    /// Whether the copy is of no one instant.
    fn is_fuzzy(&self, copy: DiskCopy) -> bool;

    /// Whether the applications were to be quiesced for it, and were not.
    fn is_below(&self, copy: DiskCopy) -> bool;

    /// Whether the copy is complete, and nothing of it is known to be damaged.
    fn is_good(&mut self, copy: DiskCopy) -> Result<bool>;
}

/// What has to stay all the same, although no rule keeps it.
#[derive(Debug, Default)]
pub struct LastCopies {
    /// The newest good copies of disks of which no good one would stay.
    pub good: Vec<DiskCopy>,
    /// The newest good ones that are as consistent as they were asked to be, of disks of which only
    /// others would stay.
    pub as_asked: Vec<DiskCopy>,
}

/// What of `goes`, one for each candidate, has to stay all the same: the newest good copy of a disk
/// of which no good one stays. Where none at all is good, all that are there stay: they may be
/// wanted to repair one.
///
/// Copies of no one instant count where a disk has no others that are good. Nothing is asked about
/// a disk of which all stay.
///
/// Copies for which hooks failed are good: after a restore the application recovers as after a
/// power cut, which most can. But a hook that is broken for weeks must not push out the last copy
/// of which that is sure: it stays beside them. A level that somebody has lowered on purpose holds
/// nothing back: what was taken since is as it was asked to be.
pub fn last_good(
    all: &[Candidate],
    goes: &[bool],
    goodness: &mut dyn Goodness,
) -> Result<LastCopies> {
    let mut stay = LastCopies::default();
    for (group, members) in members_of(all).into_iter().enumerate() {
        let group = DiskGroup(group);
        let goes = |at: usize| goes.get(at).copied().unwrap_or(false);
        if !members.iter().any(|&at| goes(at)) {
            continue;
        }
        let copies = members.into_iter().map(|at| DiskCopy { at, group });
        let mut copies: Vec<DiskCopy> = copies.collect();
        // Those of one instant first, of these the ones that stay, and the newest of each.
        copies.sort_by_cached_key(|copy| {
            let time = all.get(copy.at).map(|one| (one.cut, one.snapshot));
            (goodness.is_fuzzy(*copy), goes(copy.at), Reverse(time))
        });
        let Some(found) = first_good(&copies, goodness)? else {
            let left = copies.into_iter().filter(|copy| goes(copy.at));
            stay.good.extend(left);
            continue;
        };
        if goes(found.at) {
            stay.good.push(found);
        }
        if !goodness.is_below(found) {
            continue;
        }
        copies.retain(|copy| !goodness.is_below(*copy) && !goodness.is_fuzzy(*copy));
        let as_asked = first_good(&copies, goodness)?;
        stay.as_asked.extend(as_asked.filter(|copy| goes(copy.at)));
    }
    Ok(stay)
}

fn first_good(copies: &[DiskCopy], goodness: &mut dyn Goodness) -> Result<Option<DiskCopy>> {
    for copy in copies {
        if goodness.is_good(*copy)? {
            return Ok(Some(*copy));
        }
    }
    Ok(None)
}
