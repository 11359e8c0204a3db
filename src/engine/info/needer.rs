//! Who needs something, as far as that matters when things go: one copy of a disk, one snapshot,
//! one disk, one host, or several hosts. It must never name one where there are more.

/// Who needs something. What stands further down includes more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Needer {
    /// Nobody.
    #[default]
    Nobody,
    /// The copy of one disk in one snapshot, by its number.
    Copy(u32),
    /// Copies of several disks in one snapshot, by its number.
    Snapshot(u32),
    /// Copies of one disk in several snapshots, by the disk's number.
    Disk(u32),
    /// Snapshots of one host, by its number.
    Host(u32),
    /// Several hosts.
    Several,
}

/// The copy of one disk in one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CopyOf {
    pub(super) snapshot: u32,
    pub(super) disk: u32,
}

/// What belongs to what, by numbers.
#[derive(Default)]
pub(super) struct Kinship {
    pub(super) copies: Vec<CopyOf>,
    /// Of each disk.
    pub(super) disk_hosts: Vec<u32>,
    /// Of each snapshot.
    pub(super) snapshot_hosts: Vec<u32>,
}

impl Kinship {
    fn copy(&self, number: u32) -> Option<CopyOf> {
        self.copies.get(number as usize).copied()
    }

    /// The one snapshot that needs it.
    pub(super) fn snapshot(&self, needer: Needer) -> Option<u32> {
        match needer {
            Needer::Copy(number) => Some(self.copy(number)?.snapshot),
            Needer::Snapshot(number) => Some(number),
            _ => None,
        }
    }

    /// The one disk that needs it.
    pub(super) fn disk(&self, needer: Needer) -> Option<u32> {
        match needer {
            Needer::Copy(number) => Some(self.copy(number)?.disk),
            Needer::Disk(number) => Some(number),
            _ => None,
        }
    }

    /// The one host that needs it.
    pub(super) fn host(&self, needer: Needer) -> Option<u32> {
        match needer {
            Needer::Nobody | Needer::Several => None,
            Needer::Copy(number) => {
                let snapshot = self.copy(number)?.snapshot;
                self.snapshot_hosts.get(snapshot as usize).copied()
            }
            Needer::Snapshot(number) => self.snapshot_hosts.get(number as usize).copied(),
            Needer::Disk(number) => self.disk_hosts.get(number as usize).copied(),
            Needer::Host(number) => Some(number),
        }
    }

    /// Both of them.
    pub(super) fn join(&self, one: Needer, other: Needer) -> Needer {
        let same = |of: Option<u32>, and: Option<u32>| of.filter(|of| Some(*of) == and);
        match (one, other) {
            (Needer::Nobody, other) => other,
            (one, Needer::Nobody) => one,
            (one, other) if one == other => one,
            _ => {
                let disk = same(self.disk(one), self.disk(other)).map(Needer::Disk);
                let snapshot = same(self.snapshot(one), self.snapshot(other));
                let host = same(self.host(one), self.host(other));
                disk.or(snapshot.map(Needer::Snapshot))
                    .or(host.map(Needer::Host))
                    .unwrap_or(Needer::Several)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Two hosts; the first has two disks and three snapshots, one of both of its disks.
    fn kinship() -> Kinship {
        let copies = [(0, 0), (0, 1), (1, 0), (2, 1), (3, 2), (4, 2)];
        Kinship {
            copies: copies
                .map(|(snapshot, disk)| CopyOf { snapshot, disk })
                .to_vec(),
            disk_hosts: vec![0, 0, 1],
            snapshot_hosts: vec![0, 0, 0, 1, 1],
        }
    }

    /// The answer, by the set of all copies that need it.
    fn slow(kin: &Kinship, all: &BTreeSet<u32>) -> [Option<u32>; 3] {
        let only = |of: &dyn Fn(CopyOf) -> u32| {
            let found: BTreeSet<u32> = all.iter().map(|n| of(kin.copies[*n as usize])).collect();
            found.first().copied().filter(|_| found.len() == 1)
        };
        [
            only(&|copy| copy.snapshot),
            only(&|copy| copy.disk),
            only(&|copy| kin.disk_hosts[copy.disk as usize]),
        ]
    }

    proptest! {
        /// In whatever order they are told, and in whatever groups.
        #[test]
        fn what_is_told_of_all_is_true_of_all(
            groups in prop::collection::vec(prop::collection::vec(0..6_u32, 0..4), 0..4)
        ) {
            let kin = kinship();
            let joined = groups.iter().map(|group| {
                let each = group.iter().map(|n| Needer::Copy(*n));
                each.fold(Needer::Nobody, |all, one| kin.join(all, one))
            });
            let joined = joined.fold(Needer::Nobody, |all, one| kin.join(all, one));
            let all: BTreeSet<u32> = groups.iter().flatten().copied().collect();
            let [snapshot, disk, host] = slow(&kin, &all);
            prop_assert_eq!(kin.snapshot(joined), snapshot);
            prop_assert_eq!(kin.disk(joined), disk);
            prop_assert_eq!(kin.host(joined), host);
            prop_assert_eq!(joined == Needer::Nobody, all.is_empty());
        }
    }
}
