//! `info`: what a vault holds, by host, disk and snapshot, and what would be free again if each of
//! them were gone. It lists all objects, and reads each manifest and each index object once; no
//! data and no footer. It changes nothing, and must never leave out in silence what it could not
//! read.

mod growth;
mod listed;
mod needer;
mod outcome;
mod people;
mod seen;
mod segments;
mod walk;

pub use growth::Growth;
pub use outcome::{
    DiskHolding, Holding, HostHolding, MissingObjects, RunSeen, SnapshotHolding, UnreadPart,
    VaultHoldings,
};

use super::monitor::{Event, Monitor};
use super::reach::listed_and_not_there;
use super::reach::part_trees::{PartNode, PartTrees};
use super::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::model::{Bytes, SnapshotId};
use crate::store::{LiveRun, SnapshotRef, StoredSnapshot, Vault};
use crate::sys::memory;
use growth::GrowthCount;
use jiff::{SignedDuration, Timestamp};
use listed::{MOST_LENGTH, StoredLately, UnneededRule, VaultListing};
use people::People;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use walk::{CopyHolds, HoldingsWalk, WalkNode, too_large};

/// How often a manifest that is not there is asked for, and the time between.
const ASKED: u32 = 3;
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is asked, while waiting, whether to go on.
const TICK: Duration = Duration::from_millis(100);
/// A run that was not heard of for so long was killed, as it seems.
const SILENT: SignedDuration = SignedDuration::from_hours(24);
/// What a run has put may be older than it says that it is.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);
/// Most parts that could not be read that are told one by one.
const MOST_UNREAD: usize = 1000;
/// What a host with little memory may use.
const LEAST_MEMORY: u64 = 256 << 20;
/// What an index object's name takes in memory, and each time that it is named.
const NAME_BYTES: u64 = 64;
const NAMED_BYTES: u64 = 8;
/// What a place in the trees takes, with what is asked for it; and what is known of a copy.
const NODE_BYTES: u64 = 48 + 24;
const HOLDS_BYTES: u64 = 16 + 4;

/// Looks at all of a vault.
///
/// # Errors
/// The vault cannot be asked, or what is to be known of it does not fit into a quarter of the
/// host's memory. What is damaged is no error: it is told.
pub fn look_at_holdings(vault: &Vault, monitor: &dyn Monitor) -> Result<VaultHoldings> {
    let most = memory::total().map_or(0, |total| total.0 / 4);
    look_within(vault, monitor, most.max(LEAST_MEMORY))
}

/// The same within so much memory.
fn look_within(vault: &Vault, monitor: &dyn Monitor, most: u64) -> Result<VaultHoldings> {
    monitor.tell(Event::Phase(RunPhase::ListingVault));
    let mut look = HoldingsLook {
        vault,
        monitor,
        most,
        found: VaultHoldings::default(),
        people: People::default(),
        listed: VaultListing::default(),
        trees: PartTrees::default(),
        named: 0,
    };
    look.found.room = vault.room()?;
    // First objects, then sessions, then snapshots: what a run puts meanwhile is not seen, or its
    // session or its snapshot is.
    look.listed.read(vault, monitor, look.most)?;
    look.found.side = vault.side_objects(monitor)?;
    let sessions = vault.sessions_looked_at(monitor)?;
    let stored = vault.stored_snapshots(None)?;
    look.read_manifests(stored)?;
    look.walk()?;
    look.judge(&sessions.live)
}

/// A look at work.
struct HoldingsLook<'a> {
    vault: &'a Vault,
    monitor: &'a dyn Monitor,
    /// Most memory.
    most: u64,
    found: VaultHoldings,
    people: People,
    listed: VaultListing,
    trees: PartTrees,
    /// How often index objects are named.
    named: u64,
}

impl HoldingsLook<'_> {
    fn read_manifests(&mut self, mut stored: Vec<StoredSnapshot>) -> Result<()> {
        self.monitor
            .tell(Event::Phase(RunPhase::ReadingManifests(stored.len())));
        // Whatever a listing says.
        for one in &mut stored {
            one.length = one.length.min(MOST_LENGTH);
        }
        self.found.manifests = stored.iter().map(|one| one.length).sum();
        let mut left = stored;
        for look in 0..ASKED {
            if look > 0 && !left.is_empty() {
                self.wait(AGAIN)?;
            }
            let refs = left.iter().map(|one| one.snapshot.clone()).collect();
            let mut gone = Vec::new();
            for ((_, manifest), stored) in self.vault.manifests(refs).zip(left) {
                self.monitor.check()?;
                match manifest {
                    Ok(manifest) => self.take(&stored, &manifest)?,
                    Err(error) if error.kind() == ErrorKind::NotFound => gone.push(stored),
                    Err(why) => self.unread_manifest(&stored, why)?,
                }
            }
            left = gone;
        }
        if !left.is_empty() {
            // Deleted meanwhile, if a listing says so, too. A late one may still show it.
            let lists_late = self.vault.lists_late();
            let now = self.vault.snapshots()?;
            let now: BTreeSet<&SnapshotRef> = now.iter().collect();
            for stored in &left {
                match now.contains(&stored.snapshot) {
                    true if lists_late => {
                        self.found.unread_manifests += 1;
                        self.note_unread(stored.snapshot.id, late_or_lost());
                    }
                    true => {
                        let why = listed_and_not_there(stored.snapshot.id);
                        self.unread_manifest(stored, why)?;
                    }
                    false => {
                        let left = self.found.manifests.0.saturating_sub(stored.length.0);
                        self.found.manifests = Bytes(left);
                    }
                }
            }
        }
        Ok(())
    }

    fn wait(&self, long: Duration) -> Result<()> {
        let until = Instant::now() + long;
        while Instant::now() < until {
            self.monitor.check()?;
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn take(&mut self, stored: &StoredSnapshot, manifest: &Manifest) -> Result<()> {
        let id = stored.snapshot.id;
        let copies = self.people.add(id, stored.received, manifest)?;
        let snapshot = self.people.snapshots.len() as u32 - 1;
        self.listed.keep_manifest(snapshot, stored.length);
        for (copy, disk) in copies.into_iter().zip(&manifest.disks) {
            self.trees.add(copy, disk);
            self.named += disk.index.len() as u64;
            self.listed.need(copy, disk, &self.people.kin);
        }
        let trees = self.tree_bytes(&self.trees);
        match trees + self.listed.memory() + self.people.memory() <= self.most {
            true => Ok(()),
            false => Err(too_large(self.most).and_said(format!("snapshot {id} was read last"))),
        }
    }

    fn tree_bytes(&self, trees: &PartTrees) -> u64 {
        self.named * NAMED_BYTES + trees.names() as u64 * NAME_BYTES
    }

    /// A manifest cannot be read: its snapshot may need anything.
    fn unread_manifest(&mut self, stored: &StoredSnapshot, why: Error) -> Result<()> {
        if !is_told(&why) {
            return Err(why);
        }
        self.found.unread_manifests += 1;
        self.note_unread(stored.snapshot.id, why);
        Ok(())
    }

    fn note_unread(&mut self, snapshot: SnapshotId, why: Error) {
        self.found.has_damage |= why.kind() == ErrorKind::Damaged;
        if self.found.unread.len() < MOST_UNREAD {
            self.found.unread.push(UnreadPart { snapshot, why });
        }
    }

    /// Reads all index objects.
    fn walk(&mut self) -> Result<()> {
        let mut trees = std::mem::take(&mut self.trees);
        let count = trees.count_nodes();
        let built = count as u64 * NODE_BYTES + self.tree_bytes(&trees);
        if built + self.listed.memory() + self.people.memory() > self.most {
            return Err(too_large(self.most));
        }
        let forest = trees.into_forest();
        debug_assert_eq!(count, forest.nodes.len());
        let (nodes, members) = (forest.nodes, forest.members);
        let copies = self.people.kin.copies.len() as u64;
        let beside = nodes.len() as u64 * NODE_BYTES + copies * HOLDS_BYTES;
        let beside = beside + self.listed.memory() + self.people.memory();
        // Together with the segments, which the walk counts from here on.
        let beside = beside.saturating_sub(self.listed.segments.memory());
        self.monitor
            .tell(Event::Phase(RunPhase::ReadingIndexes(nodes.len())));
        let parts: Vec<_> = nodes.iter().map(|node| (node.id, node.blocks)).collect();
        let mut holds = vec![CopyHolds::default(); self.people.kin.copies.len()];
        let mut segments = std::mem::take(&mut self.listed.segments);
        let (mut unread, mut has_damage) = (Vec::new(), false);
        let mut walk = HoldingsWalk::new(
            &self.people.kin,
            &mut segments,
            &mut holds,
            &self.people.sizes,
        );
        let most = self.most;
        let fits = |walk: &HoldingsWalk<'_>| match beside + walk.memory() <= most {
            true => Ok(()),
            false => Err(too_large(most)),
        };
        let mut left = nodes.iter();
        self.vault
            .read_index_parts(&parts, self.monitor, &mut |_, map| {
                // As many answers as there are nodes, in their order.
                let Some(node) = left.next() else {
                    return Ok(());
                };
                let map = match map {
                    Ok(map) => Some(map),
                    Err(why) if is_told(&why) => {
                        has_damage |= why.kind() == ErrorKind::Damaged;
                        if unread.len() < MOST_UNREAD {
                            unread.push((node.first, why));
                        }
                        None
                    }
                    Err(error) => return Err(error),
                };
                walk.enter(place_of(node, &members), map);
                fits(&walk)
            })?;
        walk.leave(0);
        fits(&walk)?;
        self.found.has_damage |= has_damage;
        self.listed.segments = segments;
        for (copy, why) in unread {
            if let Some(snapshot) = self.people.snapshot_of(copy) {
                self.note_unread(snapshot, why);
            }
        }
        self.people.add_logical(&holds);
        Ok(())
    }

    /// Adds up what belongs to whom.
    fn judge(mut self, live: &[LiveRun]) -> Result<VaultHoldings> {
        let now = Timestamp::now();
        let is_silent = |run: &LiveRun| now.duration_since(run.heard) > SILENT;
        let began = live.iter().filter(|run| !is_silent(run));
        let began = began.map(|run| run.began().checked_sub(MARGIN).unwrap_or(Timestamp::MIN));
        let runs = live.iter().map(|run| RunSeen {
            what: run.to_string(),
            is_silent: is_silent(run),
        });
        self.found.runs = runs.collect();
        self.listed.ask_for_unlisted(self.vault, self.monitor)?;
        let began = began.min().unwrap_or(Timestamp::MAX);
        let all_read = self.found.unread_manifests == 0;
        let mut lately = StoredLately {
            count: GrowthCount::begin(self.vault.info().created, now),
            first_fulls: self.people.first_fulls(),
        };
        self.listed.add_up(
            &mut self.people,
            &mut self.found,
            UnneededRule { began, all_read },
            &mut lately,
        );
        self.people.add_stored();
        let later = self
            .people
            .later_fulls(lately.count.from, &lately.first_fulls);
        self.found.growth = lately.count.end(later);
        let People {
            mut snapshots,
            mut disks,
            mut hosts,
            ..
        } = self.people;
        snapshots.sort_by_key(|one| std::cmp::Reverse((one.time, one.id)));
        let most_first = |holding: &Holding| std::cmp::Reverse(holding.unique);
        disks.sort_by(|a, b| {
            let key = |one: &DiskHolding| most_first(&one.holding);
            (key(a), &a.host, &a.name).cmp(&(key(b), &b.host, &b.name))
        });
        hosts.sort_by(|a, b| {
            let key = |one: &HostHolding| most_first(&one.holding);
            (key(a), &a.name).cmp(&(key(b), &b.name))
        });
        self.found.has_damage |= self.found.missing.objects > 0;
        Ok(VaultHoldings {
            snapshots,
            disks,
            hosts,
            ..self.found
        })
    }
}

/// Both of a manifest, of a store whose listings may be late.
fn late_or_lost() -> Error {
    let what = "its manifest is listed and not there: the snapshot was deleted just now, or its \
                manifest is lost";
    Error::new(ErrorKind::NotFound, what)
        .with_hint("run it again in a minute: if it is still listed then, `stillpoint verify` it")
}

/// What is told, and stops nothing.
fn is_told(why: &Error) -> bool {
    use ErrorKind::{Archived, Damaged, Format};
    matches!(why.kind(), Archived | Damaged | Format)
}

fn place_of<'a>(node: &PartNode, members: &'a [u32]) -> WalkNode<'a> {
    let first = node.members as usize;
    let copies = members.get(first..first + node.snapshots as usize);
    WalkNode {
        depth: node.depth,
        blocks: node.blocks,
        copies: copies.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
