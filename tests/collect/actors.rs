//! Writers that take snapshots of small disks, by the product's own drafts and sessions, a step at
//! a time: they fall asleep, are killed, go on from what others have left. And who
//! deletes snapshots.

use super::world::{Broken, Who, World, pace};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use stillpoint::engine::{RetentionOptions, RetentionRules, Silent, carry_out_prune, plan_prune};
use stillpoint::format::{IndexRef, Manifest, Packed, SessionRecord};
use stillpoint::model::{BlockIndex, Bytes, Content, ObjectId, Run, RunMap, SnapshotId};
use stillpoint::store::{
    ChunksElsewhere, Draft, LEAST_LOOKING, LookOptions, LookedFor, ObjectName, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

/// Blocks of a disk.
const BLOCKS: u64 = 8;

/// What a host notes of what its runs have put: by segment, its length and the block in it.
pub type Notes = Arc<Mutex<BTreeMap<ObjectId, (u64, u64)>>>;

pub struct Writer {
    world: Arc<World>,
    vault: Arc<Vault>,
    host: String,
    number: u32,
    notes: Notes,
    /// What it has put itself: noted for others when it is killed.
    own: BTreeMap<ObjectId, (u64, u64)>,
    draft: Option<Draft>,
    run: SnapshotId,
    step: u32,
    until: Option<Timestamp>,
    /// What it builds on: index objects and the map.
    base: Vec<IndexRef>,
    map: RunMap,
    delta: RunMap,
    /// What any writer has put.
    elsewhere: Option<ChunksElsewhere>,
}

/// What is in many blocks, so that it is found elsewhere.
const PLAIN: [u8; 100] = [7; 100];

impl Writer {
    pub fn new(world: &Arc<World>, number: u32, host: String, notes: Notes) -> Option<Self> {
        let vault = Vault::open(world.of(Who::Writer(number))).ok()?;
        Some(Self {
            world: Arc::clone(world),
            vault: Arc::new(vault),
            host,
            number,
            notes,
            own: BTreeMap::new(),
            draft: None,
            run: SnapshotId::generate(0),
            step: 0,
            until: None,
            base: Vec::new(),
            map: RunMap::new(),
            delta: RunMap::new(),
            elsewhere: None,
        })
    }

    /// It is killed.
    pub fn fall_dead(&self) {
        let mut state = self.world.state();
        state.dead.insert(Who::Writer(self.number));
        state.awake.remove(&self.run);
    }

    /// One step; whether there are more.
    pub fn step(&mut self) -> bool {
        let chance = self.world.below(60);
        let now = self.world.state().now;
        if self.until.is_some_and(|until| now < until) {
            return true;
        }
        if self.until.take().is_some() {
            self.world.state().awake.insert(self.run);
        }
        match chance {
            0 => {
                self.world
                    .tell(&format!("writer {} is killed", self.number));
                self.world.state().dead.insert(Who::Writer(self.number));
                self.world.state().awake.remove(&self.run);
                self.draft = None;
                self.notes.lock().unwrap().append(&mut self.own);
                return false;
            }
            1..4 => {
                let hours = self.world.below(40) as i64;
                self.world
                    .tell(&format!("writer {} sleeps for {hours} h", self.number));
                self.until = Some(now + SignedDuration::from_hours(hours));
                self.world.state().awake.remove(&self.run);
                return true;
            }
            _ => {}
        }
        self.step += 1;
        let acted = match chance {
            4 => Err(Error::new(ErrorKind::NoSpace, "the vault is full")),
            _ => self.act(),
        };
        match acted {
            Ok(more) => more,
            Err(error) => {
                self.world
                    .tell(&format!("writer {} fails: {error}", self.number));
                self.world.state().awake.remove(&self.run);
                self.draft = None;
                let takes_back = match self.world.broken {
                    Broken::TakesBack => true,
                    Broken::TakesBackUnshared => !self.vault.shares_blocks(),
                    _ => false,
                };
                if takes_back {
                    let store = self.world.of(Who::Writer(self.number));
                    let own = self.own.keys().map(|id| ObjectName::segment(*id));
                    own.for_each(|name| drop(store.delete(&name)));
                }
                false
            }
        }
    }

    fn act(&mut self) -> Result<bool> {
        match self.step {
            1 => self.begin()?,
            2 => self.look()?,
            3..6 => {
                for _ in 0..=self.world.below(2) {
                    self.put_segment()?;
                }
                if self.world.below(2) == 0 {
                    // From here on others find what it has put, if they were told to look for it.
                    let draft = self.draft.as_ref();
                    draft.map_or(Ok(Vec::new()), Draft::finish_copies)?;
                }
            }
            _ => {
                let done = self.commit();
                self.world.state().awake.remove(&self.run);
                self.draft = None;
                done?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn begin(&mut self) -> Result<()> {
        let now = self.world.state().now;
        // The host's clock is wrong by hours.
        let wrong = SignedDuration::from_hours(self.world.below(60) as i64 - 30);
        let clock = now + wrong;
        let known = self.vault.snapshots_of(&self.host)?;
        let last = known.last().map(|one| one.id);
        self.run = SnapshotId::after(last, clock.as_millisecond() as u64);
        let record = SessionRecord {
            host: self.host.clone(),
            pid: 1,
            boot_id: "boot".into(),
            command: "snapshot".into(),
            started: clock,
            heartbeat: clock,
        };
        let session = self.vault.begin_session_at(pace(), self.run, record)?;
        self.draft = Some(Draft::begin_in(&self.vault, session, None));
        let mut state = self.world.state();
        state.awake.insert(self.run);
        state.runs.insert(Who::Writer(self.number), self.run);
        drop(state);
        self.world
            .tell(&format!("writer {} begins {}", self.number, self.run));
        if self.world.broken != Broken::NoHeed {
            self.vault.heed_plans(self.run)?;
        }
        let Some(parent) = known.last().filter(|_| self.world.below(8) > 0) else {
            return Ok(());
        };
        let manifest = match self.vault.manifest(parent) {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        self.base = manifest.disks[0].index.clone();
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        if !self.base.is_empty() {
            match self.vault.load_index(&self.base, BLOCKS) {
                Ok(map) => self.map = map,
                Err(error) if error.kind() == ErrorKind::Damaged => self.base.clear(),
                Err(error) => return Err(error),
            }
        }
        let lost = self.vault.lost_segments(&self.map, &|| Ok(()))?;
        let gone: Vec<u64> = self
            .map
            .iter()
            .filter(|run| run.segment().is_some_and(|id| lost.contains(&id)))
            .flat_map(|run| run.start.0..run.end())
            .collect();
        let missing: BTreeSet<u64> = (0..BLOCKS)
            .filter(|block| gone.contains(block) || self.map.get(BlockIndex(*block)).is_none())
            .collect();
        // What others have left, if it is there.
        let notes = self.notes.lock().unwrap().clone();
        let lengths = notes.iter().map(|(id, (length, _))| (*id, *length));
        let absent = self.vault.lost_of_lengths(lengths, &|| Ok(()))?;
        let left = notes.into_iter().filter(|(id, _)| !absent.contains(id));
        let mut taken = BTreeMap::new();
        for (segment, (length, block)) in left {
            if missing.contains(&block) && self.world.below(3) > 0 {
                taken.insert(segment, length);
                self.insert(block, Content::Data { segment, slot: 0 });
            }
        }
        self.draft.as_ref().unwrap().take_over(taken);
        self.look_elsewhere()?;
        for block in missing {
            if let Some(content) = self.found_elsewhere()? {
                self.insert(block, content);
            } else if self.delta.get(BlockIndex(block)).is_none() {
                match self.world.below(2) {
                    0 => self.insert(block, Content::Zero),
                    _ => self.put_block(block)?,
                }
            }
        }
        Ok(())
    }

    /// Learns what any writer has put, where the vault is made so.
    fn look_elsewhere(&mut self) -> Result<()> {
        if !self.vault.shares_blocks() || self.world.broken == Broken::NoHeed {
            return Ok(());
        }
        let look = LookOptions {
            run: self.run,
            wanted: Bytes(1 << 30),
            least: LEAST_LOOKING,
            named: &[],
            cancel: &|| Ok(()),
        };
        self.elsewhere = Some(ChunksElsewhere::load(&self.vault, &look)?);
        Ok(())
    }

    /// Where what is in all blocks stands, if it is asked for.
    fn found_elsewhere(&self) -> Result<Option<Content>> {
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|_| self.world.below(2) == 0) else {
            return Ok(None);
        };
        let hash = self.vault.sealer().hash_of(&PLAIN);
        let block = LookedFor {
            plain: &PLAIN,
            hash,
        };
        Ok(elsewhere.find(&[Some(block)])?[0])
    }

    fn insert(&mut self, block: u64, content: Content) {
        self.delta.insert(Run {
            start: BlockIndex(block),
            count: 1,
            content,
        });
    }

    fn put_segment(&mut self) -> Result<()> {
        let block = self.world.below(BLOCKS);
        self.put_block(block)
    }

    fn put_block(&mut self, block: u64) -> Result<()> {
        let draft = self.draft.as_ref().unwrap();
        let mut writer = draft.sealer().create_segment(Vec::new()).unwrap();
        // Others in the same segment: most of it is dead one day.
        let others = (0..self.world.below(4)).map(|_| self.world.below(BLOCKS));
        let blocks: Vec<u64> = [block].into_iter().chain(others).collect();
        for block in &blocks {
            let mut packed = Packed::default();
            let bytes = [*block as u8; 84].into_iter().chain(ObjectId::generate().0);
            let mut bytes: Vec<u8> = bytes.collect();
            if self.world.below(2) == 0 {
                bytes = PLAIN.to_vec();
            }
            let chunk = draft.sealer().encode_chunk(&bytes, &mut packed).unwrap();
            writer.push(&chunk, &packed);
        }
        let (segment, bytes) = writer.finish();
        let length = bytes.len() as u64;
        draft.put_segment(segment, bytes.into(), &[])?;
        self.own.insert(segment, (length, block));
        for (slot, block) in (0..).zip(blocks) {
            self.insert(block, Content::Data { segment, slot });
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let draft = self.draft.take().unwrap();
        let copies = draft.finish_copies()?;
        let used = self.elsewhere.as_ref();
        let used = used.map(|elsewhere| elsewhere.used_in(&self.delta, &BTreeMap::new()));
        let used = used.unwrap_or_default();
        let shared = used.segments.len();
        draft.take_over(used.segments);
        let mut map = self.map.clone();
        map.overlay(&self.delta);
        let fold = self.base.is_empty()
            || self.world.below(4) == 0
            || (self.world.broken != Broken::NoHeed && draft.is_condemned(&self.base));
        let index = match fold {
            true => draft.put_index(&map, BLOCKS, true)?,
            false => {
                let new = draft.put_index(&self.delta, BLOCKS, false)?;
                self.base.iter().cloned().chain(new).collect()
            }
        };
        let mut needs: BTreeSet<ObjectName> = map
            .iter()
            .filter_map(|run| run.segment())
            .map(ObjectName::segment)
            .collect();
        needs.extend(index.iter().map(|part| ObjectName::index(part.id)));
        let mut manifest = manifest(&self.vault, &self.host, self.run, &index);
        manifest.disks[0].footers = copies;
        draft.commit(&mut manifest)?;
        let name = ObjectName::manifest(&self.host, self.run);
        self.notes
            .lock()
            .unwrap()
            .retain(|id, _| !needs.contains(&ObjectName::segment(*id)));
        self.world
            .tell(&format!("writer {} reports {name}", self.number));
        if shared > 0 {
            self.world
                .tell(&format!("{shared} segments of others are reported"));
        }
        let there = self.world.names("");
        if let Some(missing) = needs.iter().find(|name| !there.contains(*name)) {
            let what = format!("{name} was reported without {missing}");
            self.world.state().lost.get_or_insert(what);
        }
        self.world.report(&name, needs);
        Ok(())
    }
}

/// The manifest of a snapshot of one small disk.
pub fn manifest(vault: &Vault, host: &str, run: SnapshotId, index: &[IndexRef]) -> Manifest {
    manifest_of(vault, host, run, index, BLOCKS)
}

/// The same of a disk of so many blocks.
pub fn manifest_of(
    vault: &Vault,
    host: &str,
    run: SnapshotId,
    index: &[IndexRef],
    blocks: u64,
) -> Manifest {
    let now = "2020-01-01T00:00:00Z";
    let disk = json!({
        "identity": {"name": "vda", "dev": {"major": 8, "minor": 0}, "size": blocks << 16,
            "logical_block": 512, "serial": null, "wwn": null, "diskseq": null, "table_id": null},
        "level": "crash", "mode": "full", "reason": "", "parent": null, "all_blocks": false,
        "passes": 1, "read_bytes": 0, "changed_bytes": 0, "stored_bytes": 0, "frozen_bytes": 0,
        "free_skipped_bytes": 0, "free_rules": 1, "filesystems": [], "index": index,
        "footers": [], "cut": null,
    });
    let all = json!({
        "format": 2, "snapshot": run, "vault": vault.info().id, "time": now, "started": now,
        "host": host, "kernel": "", "writer": "", "level": "crash", "requested_level": "crash",
        "freeze_us": null, "warnings": [], "tags": {}, "hooks": null, "disks": [disk],
    });
    serde_json::from_value(all).unwrap()
}

/// Deletes a reported snapshot.
pub fn delete_one(world: &Arc<World>) {
    let pick = {
        let mut state = world.state();
        let count = state.reported.len() as u64;
        if count == 0 {
            return;
        }
        let place = state.random.below(count) as usize;
        let name = state.reported.keys().nth(place).cloned().unwrap();
        state.reported.remove(&name);
        name
    };
    world.tell(&format!("{pick} is deleted"));
    let vault = Vault::open(world.of(Who::Deleter)).unwrap();
    let id = pick.components().last().unwrap().to_owned();
    if let Some(found) = vault
        .snapshots()
        .unwrap()
        .iter()
        .find(|one| one.id.to_string() == id)
    {
        vault.delete(found).unwrap();
    } else {
        // A listing is late: it is known by its name.
        let _ = world.of(Who::Deleter).delete(&pick);
    }
}

/// A prune. What its plan leaves stays, under whatever name.
pub fn prune_some(world: &Arc<World>) {
    let last = 1 + world.below(4) as u32;
    let now = world.state().now;
    let options = RetentionOptions {
        rules: RetentionRules {
            last,
            ..RetentionRules::default()
        },
        host: None,
        disk: None,
        tags: BTreeMap::new(),
        take_last_good: true,
        now,
    };
    let vault = Vault::open(world.of(Who::Pruner)).unwrap();
    let Ok(mut plan) = plan_prune(&vault, &options, &Silent) else {
        return;
    };
    let stays = plan.judged.iter().filter(|one| !one.goes());
    let stays: Vec<SnapshotId> = stays.map(|one| one.snapshot.id).collect();
    for one in plan.going() {
        let id = one.snapshot.id;
        if stays.iter().any(|other| other.is_akin_to(id)) {
            continue;
        }
        let name = ObjectName::manifest(&one.host, id);
        let mut state = world.state();
        state.reported.remove(&name);
        state.pruned.insert(name);
    }
    let going = plan.going().count();
    let done = carry_out_prune(&vault, &mut plan, &Silent);
    world.tell(&format!("pruned {going}: {done:?}"));
}
