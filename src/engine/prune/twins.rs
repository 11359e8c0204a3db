//! The names that a snapshot has borne. While a collector gives it another one both are there for a
//! moment, and a late listing or a cache shows both for longer. So all of them that are listed stay
//! or go together: who kept one and took the other would lose the snapshot when the collector takes
//! the one that was kept. It must never part two names of one snapshot.

use crate::format::Manifest;
use crate::model::SnapshotId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A snapshot's name, and those that it has borne before.
#[derive(Debug)]
struct Borne {
    host: usize,
    names: Vec<SnapshotId>,
}

/// The names of the snapshots that are judged, by their places.
#[derive(Debug, Default)]
pub(super) struct Twins {
    hosts: HashMap<String, usize>,
    all: Vec<Borne>,
}

/// A name on a host, by the host's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct HostedName {
    host: usize,
    name: SnapshotId,
}

impl Twins {
    /// Adds the next one.
    pub(super) fn add(&mut self, manifest: &Manifest) {
        let next = self.hosts.len();
        let host = *self.hosts.entry(manifest.host.clone()).or_insert(next);
        let names = [manifest.snapshot].into_iter().chain(manifest.borne());
        let names = names.collect();
        self.all.push(Borne { host, names });
    }

    /// All names of the one at this place, its own first.
    pub(super) fn names(&self, at: usize) -> &[SnapshotId] {
        self.all.get(at).map_or(&[], |one| &one.names)
    }

    /// The places of those that are one snapshot, where there are several.
    pub(super) fn together(&self) -> Vec<Vec<usize>> {
        let mut first: HashMap<HostedName, usize> = HashMap::new();
        let mut leader: Vec<usize> = (0..self.all.len()).collect();
        for (at, one) in self.all.iter().enumerate() {
            let host = one.host;
            for name in one.names.iter().copied() {
                match first.entry(HostedName { host, name }) {
                    Entry::Vacant(entry) => drop(entry.insert(at)),
                    Entry::Occupied(entry) => {
                        let (one, other) = (lead(&leader, at), lead(&leader, *entry.get()));
                        leader[one.max(other)] = one.min(other);
                    }
                }
            }
        }
        let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
        for at in 0..leader.len() {
            groups.entry(lead(&leader, at)).or_default().push(at);
        }
        groups.into_values().filter(|all| all.len() > 1).collect()
    }
}

/// The least place that this one is joined with.
fn lead(leader: &[usize], mut at: usize) -> usize {
    while let Some(&next) = leader.get(at).filter(|next| **next != at) {
        at = next;
    }
    at
}
