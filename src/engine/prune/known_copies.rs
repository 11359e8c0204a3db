//! What is known of the disks of the snapshots that are judged: which ones they are, and whether a
//! copy is good. It reads an index only when it is asked about that copy, and keeps no index.

use super::last_good::{DiskCopy, Goodness};
use super::policy::DiskGroup;
use crate::engine::monitor::Monitor;
use crate::engine::verify::is_damage;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DamagedChunks, DiskRecord, Manifest};
use crate::model::{Content, Level, RunMap, block_count, clip};
use crate::store::{SnapshotRef, Vault};
use std::collections::HashMap;

/// Most disks of all snapshots together; each takes some 200 bytes.
const MOST_DISKS: usize = 1 << 20;
/// Most bytes of a disk's name.
const MOST_NAME: usize = 64;

/// A disk of a snapshot.
pub(super) struct JudgedDisk {
    pub(super) name: String,
    fuzzy: bool,
    /// The applications were to be quiesced, and were not.
    below: bool,
    /// It is judged beside others of that name, and beside others of that serial number: names
    /// change from boot to boot, and numbers are not always one disk's alone.
    pub(super) groups: Vec<DiskGroup>,
}

/// The disks of all snapshots, by their places.
#[derive(Default)]
pub(super) struct JudgedDisks {
    of: Vec<Vec<JudgedDisk>>,
    count: usize,
    groups: HashMap<[u8; 32], DiskGroup>,
}

impl JudgedDisks {
    /// Adds those of the next snapshot.
    pub(super) fn add(&mut self, manifest: &Manifest) -> Result<()> {
        self.count += manifest.disks.len();
        if self.count > MOST_DISKS {
            let what =
                format!("there are more than {MOST_DISKS} disks to judge: nothing was deleted");
            let error = Error::new(ErrorKind::Unsupported, what);
            return Err(error.with_hint("name one host after the other: --host HOST"));
        }
        let disks = manifest.disks.iter();
        let disks = disks.map(|disk| self.disk(manifest, disk)).collect();
        self.of.push(disks);
        Ok(())
    }

    fn disk(&mut self, manifest: &Manifest, disk: &DiskRecord) -> JudgedDisk {
        let (host, known) = (manifest.host.as_str(), &disk.identity);
        let asks = manifest.requested_level == Level::Application;
        let name = self.group(&[host, "name", &known.name]);
        let number = Some(known.key()).filter(|key| *key != known.name);
        let number = number.map(|number| self.group(&[host, "number", number]));
        JudgedDisk {
            name: clip(&known.name, MOST_NAME),
            fuzzy: disk.level <= Level::Fuzzy,
            below: asks && disk.level < Level::Application,
            groups: [name].into_iter().chain(number).collect(),
        }
    }

    fn group(&mut self, parts: &[&str]) -> DiskGroup {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let next = DiskGroup(self.groups.len());
        *self
            .groups
            .entry(*hasher.finalize().as_bytes())
            .or_insert(next)
    }

    /// Those of the snapshot at this place.
    pub(super) fn of(&self, at: usize) -> &[JudgedDisk] {
        self.of.get(at).map_or(&[], Vec::as_slice)
    }

    /// The names of those of them that are in these groups.
    pub(super) fn names(&self, at: usize, groups: &[DiskGroup]) -> Vec<String> {
        let is_one = |disk: &&JudgedDisk| disk.groups.iter().any(|group| groups.contains(group));
        let disks = self.of(at).iter().filter(is_one);
        let mut names: Vec<String> = disks.map(|disk| disk.name.clone()).collect();
        names.dedup();
        names
    }
}

/// What is known of copies, read from the vault where it is asked for.
pub(super) struct KnownCopies<'a> {
    pub(super) vault: &'a Vault,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) disks: &'a JudgedDisks,
    pub(super) snapshots: &'a [SnapshotRef],
    /// By the places of snapshots and disks.
    looked: HashMap<(usize, usize), bool>,
    damage: Option<KnownDamages>,
}

/// What is known to be damaged.
enum KnownDamages {
    Read(DamagedChunks),
    /// It cannot be read, so no copy is known to be good.
    Unreadable(String),
}

impl<'a> KnownCopies<'a> {
    pub(super) fn new(
        vault: &'a Vault,
        monitor: &'a dyn Monitor,
        disks: &'a JudgedDisks,
        snapshots: &'a [SnapshotRef],
    ) -> Self {
        Self {
            vault,
            monitor,
            disks,
            snapshots,
            looked: HashMap::new(),
            damage: None,
        }
    }

    /// Why no copy could be called good, if that is so.
    pub(super) fn warning(&self) -> Option<String> {
        match &self.damage {
            Some(KnownDamages::Unreadable(why)) => Some(format!(
                "what is known to be damaged cannot be read ({why}), so no copy is known to be good"
            )),
            _ => None,
        }
    }

    fn damage(&mut self) -> Result<Option<&DamagedChunks>> {
        if self.damage.is_none() {
            self.damage = Some(match self.vault.damage() {
                Ok(damage) => KnownDamages::Read(damage),
                Err(error) if is_damage(&error) => KnownDamages::Unreadable(error.to_string()),
                Err(error) => return Err(error),
            });
        }
        match &self.damage {
            Some(KnownDamages::Read(damage)) => Ok(Some(damage)),
            _ => Ok(None),
        }
    }

    /// Whether the manifest and the index of this disk can be read, and all segments that they name
    /// are there, long enough, and not known to be damaged.
    fn look(&mut self, at: usize, disk: usize) -> Result<bool> {
        self.monitor.check()?;
        let Some(snapshot) = self.snapshots.get(at) else {
            return Ok(false);
        };
        let read = self.vault.manifest(snapshot).and_then(|manifest| {
            let Some(record) = manifest.disks.get(disk) else {
                return Ok(None);
            };
            let blocks = block_count(record.identity.size);
            let map = self.vault.read_index(&record.index, blocks, self.monitor)?;
            Ok(Some(map))
        });
        let map = match read {
            Ok(Some(map)) => map,
            Ok(None) => return Ok(false),
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        if !self.vault.lost_segments(&map, self.monitor)?.is_empty() {
            return Ok(false);
        }
        let damage = self.damage()?;
        Ok(damage.is_some_and(|damage| !names_damage(&map, damage)))
    }
}

fn names_damage(map: &RunMap, damage: &DamagedChunks) -> bool {
    !damage.is_empty()
        && map.iter().any(|run| match run.content {
            Content::Data { segment, slot } if damage.names(segment) => {
                // A run of data is within the slots of one segment.
                let slots = slot..slot.saturating_add(run.count as u32);
                !damage.within(segment, slots).is_empty()
            }
            _ => false,
        })
}

impl Goodness for KnownCopies<'_> {
    fn is_fuzzy(&self, copy: DiskCopy) -> bool {
        let mut disks = self.disks.of(copy.at).iter();
        disks.any(|disk| disk.groups.contains(&copy.group) && disk.fuzzy)
    }

    fn is_below(&self, copy: DiskCopy) -> bool {
        let mut disks = self.disks.of(copy.at).iter();
        disks.any(|disk| disk.groups.contains(&copy.group) && disk.below)
    }

    fn is_good(&mut self, copy: DiskCopy) -> Result<bool> {
        let disks = self.disks.of(copy.at).iter().enumerate();
        let disk = disks.filter(|(_, disk)| disk.groups.contains(&copy.group));
        let Some((disk, _)) = disk.into_iter().next() else {
            return Ok(false);
        };
        if let Some(known) = self.looked.get(&(copy.at, disk)) {
            return Ok(*known);
        }
        let is_good = self.look(copy.at, disk)?;
        self.looked.insert((copy.at, disk), is_good);
        Ok(is_good)
    }
}
