//! What a writer heeds of collectors' plans. A plan that it sees when it begins will not wait for
//! it: it must refer to nothing that such a plan names. A later plan waits for it; where one was
//! carried out without having waited, it must not make its snapshot.

use super::heeded_plans::Heeded;
use super::object_name::ObjectName;
use super::plans::{FIRST_OF_RUNS, MOST_PARTS, part_named};
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, PlanList, PlanPart};
use crate::model::SnapshotId;
use std::collections::BTreeSet;

/// How often a part that is listed is asked for before it is taken for gone.
const ASKED: u32 = 3;
/// Most names that are kept in memory, of all plans together: 16 bytes each.
const MOST_NAMED: usize = 1 << 22;

impl Vault {
    /// Looks what collectors mean to delete; from here on that counts as lost. To be called when
    /// the run's session has been put, and before anything is looked for that it may refer to. A
    /// second call of the same run asks nothing.
    ///
    /// # Errors
    /// A plan cannot be read: the run must refer to nothing that it has not put itself.
    pub fn heed_plans(&self, run: SnapshotId) -> Result<()> {
        if self.heeded.lock().run == Some(run) {
            return Ok(());
        }
        let mut seen = Heeded {
            run: Some(run),
            ..Heeded::default()
        };
        let mut missed = BTreeSet::new();
        let mut lists = Vec::new();
        let mut parts = 0;
        for object in self.store.list_all(&ObjectName::condemned())? {
            let Some((plan, number)) = part_named(&object.name) else {
                continue;
            };
            parts += 1;
            if parts > MOST_PARTS || seen.named.len() > MOST_NAMED {
                return Err(too_many());
            }
            if number >= FIRST_OF_RUNS {
                lists.push((plan, object.name));
                continue;
            }
            seen.plans.insert(plan);
            match self.part_surely(&object.name).map(|part| part.list) {
                Ok(PlanList::Objects(objects)) => {
                    objects.into_iter().for_each(|one| seen.named.add(one));
                }
                Ok(PlanList::Awaited(_)) => {
                    let what = format!("{}: it is another part than its name says", object.name);
                    return Err(Error::new(ErrorKind::Damaged, what));
                }
                // What it named is deleted by now, or is not to be; or the answer is wrong.
                Err(error) if error.kind() == ErrorKind::NotFound => drop(missed.insert(plan)),
                Err(error) => {
                    let what = "what a collector means to delete cannot be read";
                    return Err(error.context(&object.name).context(what));
                }
            }
        }
        for (plan, name) in lists {
            match missed.contains(&plan) {
                true => drop(seen.doubted.insert(name)),
                false => drop(seen.plans.insert(plan)),
            }
        }
        seen.plans.retain(|plan| !missed.contains(plan));
        seen.named.sort();
        *self.heeded.lock() = seen;
        Ok(())
    }

    /// A part that was listed. That it is not there is believed at the third time.
    fn part_surely(&self, name: &ObjectName) -> Result<PlanPart> {
        for _ in 1..ASKED {
            match self.plan_part(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    std::thread::sleep(self.heeded.again());
                }
                answer => return answer,
            }
        }
        self.plan_part(name)
    }

    /// Whether a plan names this that was there when the run began.
    pub fn is_condemned(&self, object: Condemned) -> bool {
        self.heeded.lock().named.contains(object)
    }

    /// Whether any plan names anything that was there when the run began.
    pub fn heeds_any(&self) -> bool {
        self.heeded.lock().named.len() > 0
    }

    /// An error when a plan was put since `run` has begun, and is carried out without waiting for
    /// it: what the run refers to may be gone. Nothing is asked for a run that has not
    /// [looked](Self::heed_plans), as it refers to what it has put itself.
    pub(super) fn check_not_passed_over(&self, run: SnapshotId) -> Result<()> {
        let seen = {
            let heeded = self.heeded.lock();
            match heeded.run == Some(run) {
                true => (heeded.plans.clone(), heeded.doubted.clone()),
                false => return Ok(()),
            }
        };
        let (seen, doubted) = seen;
        for object in self.store.list_all(&ObjectName::condemned())? {
            let Some((plan, number)) = part_named(&object.name) else {
                continue;
            };
            if number < FIRST_OF_RUNS || seen.contains(&plan) {
                continue;
            }
            match self.plan_part(&object.name).map(|part| part.list) {
                Ok(PlanList::Awaited(runs)) if runs.contains(&run) => {}
                Ok(_) => return Err(passed_over()),
                // All of that plan was gone when the run began.
                Err(error)
                    if error.kind() == ErrorKind::NotFound && doubted.contains(&object.name) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(passed_over()),
                Err(error) => return Err(error.context(&object.name)),
            }
        }
        Ok(())
    }
}

/// As one that cannot be read: the run refers to nothing that it has not put itself.
fn too_many() -> Error {
    let what = "what collectors mean to delete is more than this host keeps in mind";
    Error::new(ErrorKind::Damaged, what)
}

fn passed_over() -> Error {
    let what = "a collector has not waited for this run: what it refers to may be deleted";
    Error::new(ErrorKind::Failed, what)
        .with_hint("the snapshots that are there are as they were; run it again")
}
