//! The objects of a vault that a collector may condemn, and deleting them. Whether anything needs
//! them is for others to say.

use super::ask::ask_of_each;
use super::object_name::ObjectName;
use super::object_store::ObjectInfo;
use super::session::Session;
use super::vault::Vault;
use crate::error::Result;
use crate::format::Condemned;
use crate::model::{Bytes, Cancel, SnapshotId};
use jiff::Timestamp;

/// Objects that are deleted between two looks whether that is still right.
const AT_ONCE: usize = 1000;

/// An object that is there.
#[derive(Clone, Copy, Debug)]
pub struct Collectable {
    /// What it is.
    pub object: Condemned,
    /// Its length.
    pub size: Bytes,
    /// When it was put, by the store's clock.
    pub put: Timestamp,
}

impl Vault {
    /// Calls `each` for every object that can be condemned. Names that are none of the vault's are
    /// passed over.
    pub fn each_collectable(
        &self,
        cancel: &dyn Cancel,
        each: &mut dyn FnMut(Collectable),
    ) -> Result<()> {
        let folders = [
            ObjectName::segments(),
            ObjectName::indexes(),
            ObjectName::all_footers(),
            ObjectName::keeps(),
        ];
        for folder in folders {
            cancel.check()?;
            self.store.list(&folder, &mut |object| {
                if let Some(condemned) = condemned_of(&object) {
                    each(Collectable {
                        object: condemned,
                        size: Bytes(object.size),
                        put: object.modified,
                    });
                }
                cancel.check()
            })?;
        }
        Ok(())
    }

    /// Deletes objects that `plan` names. Before each thousand it is asked whether the plan still
    /// stands, and whether this collector's `session` does: another may have carried it out.
    /// Returns how many were deleted.
    pub fn delete_condemned(
        &self,
        plan: SnapshotId,
        objects: &[Condemned],
        session: &Session,
        cancel: &dyn Cancel,
    ) -> Result<usize> {
        let mut done = 0;
        for some in objects.chunks(AT_ONCE) {
            session.ask()?;
            if !self.has_plan(plan)? {
                return Ok(done);
            }
            let delete = |object: &Condemned| self.store.delete(&ObjectName::of_condemned(*object));
            ask_of_each(self.store.as_ref(), some, cancel, delete, |_, deleted| {
                done += usize::from(deleted.is_ok());
                deleted
            })?;
        }
        Ok(done)
    }

    /// Whether listings may be late here: the place is at the other end of a network.
    pub fn lists_late(&self) -> bool {
        self.store.capabilities().confirms
    }
}

fn condemned_of(object: &ObjectInfo) -> Option<Condemned> {
    let name = &object.name;
    let mut parts = name.components();
    let found = match parts.next()? {
        "segments" => Condemned::Segment(parts.last()?.parse().ok()?),
        "index" => Condemned::Index(parts.last()?.parse().ok()?),
        "footers" => {
            let (run, part) = name.run_and_number()?;
            Condemned::Copies { run, part }
        }
        "keeps" => Condemned::Keep {
            snapshot: parts.next()?.parse().ok()?,
            keep: parts.next()?.parse().ok()?,
        },
        _ => return None,
    };
    // What only looks like a name is nobody's.
    (ObjectName::of_condemned(found) == *name).then_some(found)
}
