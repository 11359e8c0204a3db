//! Which objects of copies of footers a run reads, to learn what the vault has. Where all would be
//! too much, those go first that most hosts' newest snapshots name: of a fleet they hold the image
//! that it was made from. Then the newest. What is left out costs room in the vault, never data.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, FooterCopies, FooterCopiesRef};
use crate::model::{Bytes, Cancel, SnapshotId};
use crate::store::catalog::{SnapshotRef, named_by};
use crate::store::object_name::ObjectName;
use crate::store::vault::Vault;
use crate::sys::machine::host_name;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Most hosts whose newest manifests are read.
const DRAWN: usize = 16;
/// Most objects that are thought of: manifests may name any number.
const MOST_THERE: usize = 1 << 17;

/// What a run that looks for chunks may cost.
pub struct LookOptions<'a> {
    /// The run. Its session has been put before.
    pub run: SnapshotId,
    /// How much it is to read of its disks: what is asked for must be worth it.
    pub wanted: Bytes,
    /// It may get so many bytes for footers at least, after copies were read once.
    pub least: Bytes,
    /// What the snapshots name that it builds on.
    pub named: &'a [FooterCopiesRef],
    /// Asked now and then; its error is returned.
    pub cancel: &'a dyn Cancel,
}

/// What may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ReadBounds {
    /// Of copies of footers.
    bytes: u64,
    objects: usize,
    /// Names that are listed.
    names: usize,
}

impl ReadBounds {
    /// A sixteenth of what is to be read of the disks, and a request for 16 MiB of that.
    fn of(wanted: Bytes) -> Self {
        let requests = (wanted.0 >> 24) as usize;
        Self {
            bytes: (wanted.0 / 16).clamp(1 << 20, 256 << 20),
            objects: requests.clamp(16, 256),
            names: 1000 * requests.clamp(4, 64),
        }
    }

    /// Whether all of these may be read.
    fn hold<'a>(self, all: impl Iterator<Item = &'a CopiesNamed>) -> bool {
        let (mut objects, mut bytes) = (0, 0_u64);
        for one in all {
            objects += 1;
            bytes = bytes.saturating_add(one.copies.bytes);
        }
        objects <= self.objects && bytes <= self.bytes
    }
}

/// What is to be read, what is worth most coming first.
pub(super) struct Chosen {
    pub(super) copies: Vec<FooterCopiesRef>,
    /// How many objects more there are, as far as they were listed.
    pub(super) left_out: u64,
}

/// Chooses of what is in the vault. What a collector means to delete is as if it were not there.
pub(super) fn choose(vault: &Vault, look: &LookOptions<'_>) -> Result<Chosen> {
    let bounds = ReadBounds::of(look.wanted);
    let mut there = CopiesThere::default();
    let all = list(
        vault,
        &ObjectName::all_footers(),
        bounds.names,
        look.cancel,
        &mut |name, size| {
            let Some((run, part)) = name.run_and_number() else {
                return;
            };
            let copies = FooterCopiesRef {
                run,
                part,
                bytes: size,
            };
            if ObjectName::footers(copies) == *name {
                there.add(copies, 0);
            }
        },
    )?;
    // It may be there though no listing shows it.
    look.named.iter().for_each(|copies| there.add(*copies, 1));
    if !all || !bounds.hold(there.0.values()) {
        for snapshot in draw(vault, bounds.names, look.cancel)? {
            look.cancel.check()?;
            // What cannot be read says nothing; `verify` says that.
            if let Ok(manifest) = vault.manifest(&snapshot) {
                let disks = manifest.disks.iter();
                let mut named: Vec<_> = disks.flat_map(|disk| &disk.footers).copied().collect();
                named.sort_unstable();
                named.dedup();
                named.into_iter().for_each(|copies| there.add(copies, 1));
            }
        }
    }
    let is_usable = |one: &CopiesNamed| {
        let FooterCopiesRef { run, part, bytes } = one.copies;
        bytes <= FooterCopies::MAX_LEN && !vault.is_condemned(Condemned::Copies { run, part })
    };
    let usable = there.0.into_values().filter(is_usable);
    Ok(within(usable.collect(), bounds))
}

/// Objects by what they are known by, whatever their length is said to be.
#[derive(Default)]
struct CopiesThere(HashMap<FooterCopiesRef, CopiesNamed>);

impl CopiesThere {
    /// One that is listed or named once more; what was said first of its length counts.
    fn add(&mut self, copies: FooterCopiesRef, named: u32) {
        let known = FooterCopiesRef { bytes: 0, ..copies };
        if let Some(one) = self.0.get_mut(&known) {
            one.named += named;
        } else if self.0.len() < MOST_THERE {
            self.0.insert(known, CopiesNamed { copies, named });
        }
    }
}

/// An object, and how many of the manifests that were read name it.
struct CopiesNamed {
    copies: FooterCopiesRef,
    named: u32,
}

/// Those that are worth most, as far as they may be read.
fn within(mut all: Vec<CopiesNamed>, bounds: ReadBounds) -> Chosen {
    all.sort_unstable_by_key(|one| (Reverse(one.named), Reverse(one.copies.run), one.copies.part));
    let (mut copies, mut bytes) = (Vec::new(), 0);
    let count = all.len();
    for one in all {
        if copies.len() == bounds.objects {
            break;
        }
        if one.copies.bytes <= bounds.bytes - bytes {
            bytes += one.copies.bytes;
            copies.push(one.copies);
        }
    }
    Chosen {
        left_out: (count - copies.len()) as u64,
        copies,
    }
}

/// Lists so many names at most; returns whether that is all there are.
fn list(
    vault: &Vault,
    prefix: &ObjectName,
    most: usize,
    cancel: &dyn Cancel,
    each: &mut dyn FnMut(&ObjectName, u64),
) -> Result<bool> {
    let (mut seen, mut more) = (0, false);
    let listed = vault.store.list(prefix, &mut |object| {
        more = seen == most;
        seen += 1;
        match more {
            true => Err(Error::new(ErrorKind::Failed, "enough was listed")),
            false => {
                each(&object.name, object.size);
                cancel.check()
            }
        }
    });
    match (listed, more) {
        (Err(error), false) => Err(error),
        (_, more) => Ok(!more),
    }
}

/// The newest snapshots of hosts that are drawn by lot.
fn draw(vault: &Vault, most: usize, cancel: &dyn Cancel) -> Result<Vec<SnapshotRef>> {
    let mut newest: BTreeMap<String, SnapshotRef> = BTreeMap::new();
    list(
        vault,
        &ObjectName::snapshots(),
        most,
        cancel,
        &mut |name, _| {
            let Some(snapshot) = named_by(name.clone()) else {
                return;
            };
            let Some(host) = snapshot.host().map(str::to_owned) else {
                return;
            };
            let known = newest.entry(host).or_insert_with(|| snapshot.clone());
            if known.id < snapshot.id {
                *known = snapshot;
            }
        },
    )?;
    // The same ones each time, so that this host has them in its cache, and for each host others.
    let lot = |host: &str| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(host_name().as_bytes()).update(b"/");
        *hasher.update(host.as_bytes()).finalize().as_bytes()
    };
    let mut hosts: Vec<_> = newest.into_iter().collect();
    hosts.sort_by_cached_key(|(host, _)| lot(host));
    hosts.truncate(DRAWN);
    Ok(hosts.into_iter().map(|(_, snapshot)| snapshot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(run: u64, bytes: u64, named: u32) -> CopiesNamed {
        let run = SnapshotId::generate(run);
        let copies = FooterCopiesRef {
            run,
            part: 0,
            bytes,
        };
        CopiesNamed { copies, named }
    }

    #[test]
    fn what_most_hosts_name_goes_first_and_then_the_newest() {
        let all = || {
            let mut all: Vec<CopiesNamed> = (1..100).map(|n| candidate(n * 1000, 10, 0)).collect();
            all.push(candidate(1, 50, 9));
            all
        };
        let bounds = ReadBounds {
            bytes: 85,
            objects: 16,
            names: 1,
        };
        let chosen = within(all(), bounds);
        let bytes: Vec<u64> = chosen.copies.iter().map(|one| one.bytes).collect();
        assert_eq!(bytes, [50, 10, 10, 10], "the image first");
        let newest = chosen.copies[1..].windows(2);
        assert!(newest.clone().all(|pair| pair[0].run > pair[1].run));
        assert_eq!(chosen.left_out, 96);
        let few = ReadBounds {
            objects: 2,
            ..bounds
        };
        assert_eq!(within(all(), few).copies.len(), 2);
    }

    #[test]
    fn what_is_read_is_little_beside_what_is_copied() {
        let small = ReadBounds::of(Bytes(16 << 20));
        assert_eq!((small.bytes, small.objects), (1 << 20, 16));
        let large = ReadBounds::of(Bytes(1 << 50));
        assert_eq!((large.bytes, large.objects), (256 << 20, 256));
        assert_eq!(large.names, 64_000);
    }
}
