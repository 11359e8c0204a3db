//! Collectors' plans as they stand in a vault: reading, putting and withdrawing them. A plan is
//! several objects: those with numbers below 64 list what is to be deleted, those from 64 on the
//! runs that have to end first. It must never take part of a plan for all of it.

use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, ObjectKind, PlanList, PlanPart};
use crate::model::{ObjectId, SnapshotId};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Most parts that are looked at, of all plans: each takes up to 64 MiB to read.
pub(super) const MOST_PARTS: usize = 1024;
/// Parts with these numbers and above list runs.
pub(super) const FIRST_OF_RUNS: u32 = PlanPart::MOST_PARTS;

/// A plan.
pub struct Plan {
    /// Its name.
    pub id: SnapshotId,
    /// What it means to delete, as far as it could be read.
    pub objects: BTreeSet<Condemned>,
    /// When the last part that lists objects was put, by the store's clock.
    pub put: Timestamp,
    /// All parts that list objects are there and could be read.
    pub is_whole: bool,
    /// By number, the runs that have to end: those of any one of these.
    pub awaited: BTreeMap<u32, BTreeSet<SnapshotId>>,
    /// Why not all of it could be read.
    pub unreadable: Option<Error>,
    parts: BTreeSet<u32>,
}

/// A number for a part that lists runs. It is picked at random, so that of two collectors none
/// takes the other's.
fn number_of_runs() -> u32 {
    const END: u32 = 100_000_000;
    let random = ObjectId::generate().0;
    let random = u32::from_le_bytes([random[0], random[1], random[2], random[3]]);
    FIRST_OF_RUNS + random % (END - FIRST_OF_RUNS)
}

/// The plan and the number of a part.
pub(super) fn part_named(name: &ObjectName) -> Option<(SnapshotId, u32)> {
    let (plan, number) = name.run_and_number()?;
    // Other names there do not belong to the vault.
    (ObjectName::plan_part(plan, number) == *name).then_some((plan, number))
}

impl Vault {
    /// All plans, the oldest names first.
    pub fn plans(&self) -> Result<Vec<Plan>> {
        let mut plans: BTreeMap<SnapshotId, Plan> = BTreeMap::new();
        let mut count = BTreeMap::new();
        let mut parts = 0;
        let listed = self.store.list_all(&ObjectName::condemned())?;
        for object in listed.iter() {
            let Some((id, number)) = part_named(&object.name) else {
                continue;
            };
            let plan = plans.entry(id).or_insert_with(|| Plan {
                id,
                objects: BTreeSet::new(),
                put: object.modified,
                is_whole: false,
                awaited: BTreeMap::new(),
                unreadable: None,
                parts: BTreeSet::new(),
            });
            let is_first = plan.parts.range(..FIRST_OF_RUNS).next().is_none();
            plan.parts.insert(number);
            if number < FIRST_OF_RUNS {
                // The time of a part that names runs counts only where there is no other.
                plan.put = match is_first {
                    true => object.modified,
                    false => plan.put.max(object.modified),
                };
            }
            parts += 1;
            let part = match parts <= MOST_PARTS {
                true => self.plan_part(&object.name),
                false => Err(Error::new(ErrorKind::Damaged, "it has too many parts")),
            };
            match part {
                Ok(PlanPart {
                    parts,
                    list: PlanList::Objects(objects),
                }) if number < FIRST_OF_RUNS => {
                    count.insert((id, number), parts);
                    plan.objects.extend(objects);
                }
                Ok(PlanPart {
                    list: PlanList::Awaited(runs),
                    ..
                }) if number >= FIRST_OF_RUNS => {
                    plan.awaited.insert(number, runs);
                }
                Ok(_) => {
                    let what = format!("{}: it is another part than its name says", object.name);
                    plan.unreadable = Some(Error::new(ErrorKind::Damaged, what));
                }
                // It was withdrawn or carried out meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let _ = plan.parts.remove(&number);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
                    plan.unreadable = Some(error.context(&object.name));
                }
                Err(error) => return Err(error),
            }
        }
        for plan in plans.values_mut() {
            let told = count.get(&(plan.id, 0)).copied().unwrap_or_default();
            let is_there = |number| count.get(&(plan.id, number)) == Some(&told);
            plan.is_whole = told > 0 && plan.unreadable.is_none() && (0..told).all(is_there);
        }
        Ok(plans.into_values().collect())
    }

    /// The names of all plans that stand, or of which a part does, whether it can be read or not.
    pub fn standing_plans(&self) -> Result<Vec<SnapshotId>> {
        let mut names = BTreeSet::new();
        self.store.list(&ObjectName::condemned(), &mut |object| {
            if names.len() < MOST_PARTS {
                names.extend(part_named(&object.name).map(|(plan, _)| plan));
            }
            Ok(())
        })?;
        Ok(names.into_iter().collect())
    }

    pub(super) fn plan_part(&self, name: &ObjectName) -> Result<PlanPart> {
        let bytes = self.store.get(name, ObjectKind::Condemned.most_stored())?;
        PlanPart::decode(&bytes, self.sealer())
    }

    /// Puts a plan to delete these objects. It is one when its last part is there.
    pub fn put_plan(&self, id: SnapshotId, objects: &BTreeSet<Condemned>) -> Result<()> {
        let all: Vec<Condemned> = objects.iter().copied().collect();
        let lists: Vec<&[Condemned]> = all.chunks(PlanPart::MOST).collect();
        let most = PlanPart::MOST_PARTS as usize;
        let lists = lists.get(..most).unwrap_or(&lists);
        for (number, list) in (0..).zip(lists) {
            let part = PlanPart {
                parts: lists.len() as u32,
                list: PlanList::Objects(list.iter().copied().collect()),
            };
            self.put_plan_part(id, number, &part)?;
        }
        Ok(())
    }

    /// Says which runs have to end before this plan is carried out.
    pub fn put_awaited(&self, plan: &mut Plan, runs: BTreeSet<SnapshotId>) -> Result<()> {
        let part = PlanPart {
            parts: 1,
            list: PlanList::Awaited(runs),
        };
        let number = number_of_runs();
        plan.parts.insert(number);
        self.put_plan_part(plan.id, number, &part)
    }

    fn put_plan_part(&self, id: SnapshotId, number: u32, part: &PlanPart) -> Result<()> {
        let name = ObjectName::plan_part(id, number);
        let bytes = part.encode(self.sealer())?;
        let length = bytes.len() as u64;
        self.store.put(&name, bytes.into())?;
        super::confirm::confirm_kept(self.store.as_ref(), &name, length)
    }

    /// Whether a plan still stands: its first part is there.
    pub fn has_plan(&self, id: SnapshotId) -> Result<bool> {
        match self.store.size(&ObjectName::plan_part(id, 0)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Withdraws a plan. Its first part goes first: without it, it is none.
    pub fn withdraw_plan(&self, plan: &Plan) -> Result<()> {
        let mut parts = plan.parts.iter();
        parts.try_for_each(|number| self.store.delete(&ObjectName::plan_part(plan.id, *number)))
    }
}
