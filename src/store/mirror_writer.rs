//! Puts the objects of one vault into its second place, as a run that others can see. It must never
//! take away what is there, but for an object whose bytes are known to be wrong, and then only to
//! put the right ones under that name.

use super::catalog::named_by;
use super::confirm::confirm_kept;
use super::object_name::ObjectName;
use super::session::Session;
use super::stored::StoredObject;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::SessionRecord;
use crate::model::SnapshotId;

/// Most objects that are put at once: each is in memory, with 33 MiB at most.
const MOST_AT_ONCE: usize = 4;
/// Fewest: one is read and checked while the other is put.
const LEAST_AT_ONCE: usize = 2;

/// How a manifest comes to the second place.
#[derive(Clone, Copy, Debug, Default)]
pub struct ManifestPut {
    /// The one that is there is damaged.
    pub replaces: bool,
    /// The snapshot may be there under another name, which somebody may take away when this one is
    /// seen: it is never taken back. Where a key tells that it is so, that need not be said.
    pub is_like_another: bool,
}

/// A mirror at work in the second place.
pub struct MirrorWriter<'a> {
    target: &'a Vault,
    session: Session,
}

impl<'a> MirrorWriter<'a> {
    /// Says in the second place that a mirror writes there, so that what it puts, and relies on, is
    /// left alone. A note that is seen in the source at the same moment shows that both are one
    /// place, under whatever names: that is refused.
    pub fn begin(target: &'a Vault, source: &Vault, record: SessionRecord) -> Result<Self> {
        let started = u64::try_from(record.started.as_millisecond()).unwrap_or_default();
        let run = SnapshotId::generate(started);
        let session = target.begin_session(run, record)?;
        // A store that does not answer this cannot be told apart from others so.
        match source.store.size(&ObjectName::session(run, 0)) {
            Ok(_) => Err(same_place(&source.location(), &target.location())),
            Err(_) => {
                target.heed_plans(run)?;
                Ok(Self { target, session })
            }
        }
    }

    /// The same of a repair that has no other place to put things from.
    pub fn begin_alone(target: &'a Vault, record: SessionRecord) -> Result<Self> {
        let started = u64::try_from(record.started.as_millisecond()).unwrap_or_default();
        let session = target.begin_session(SnapshotId::generate(started), record)?;
        Ok(Self { target, session })
    }

    /// The same where nothing may be deleted meanwhile that it relies on.
    ///
    /// # Errors
    /// Of kind `Busy` where a collector's plan stands: it may name what is about to come back, and
    /// may have been made because of what is gone.
    pub fn begin_without_plans(target: &'a Vault, record: SessionRecord) -> Result<Self> {
        let writer = Self::begin_alone(target, record)?;
        // A plan that comes from here on waits for this session.
        let standing = target.standing_plans()?;
        if !standing.is_empty() {
            return Err(plans_stand(target, &standing));
        }
        target.heed_plans(writer.session.run())?;
        Ok(writer)
    }

    /// How many objects are worth putting at once.
    pub fn puts_at_once(&self) -> usize {
        let puts = self.target.store.capabilities().puts;
        puts.clamp(LEAST_AT_ONCE, MOST_AT_ONCE)
    }

    /// Puts an object, and asks for its size where the store is of a sort that says "done" of what
    /// it has not kept. One that another mirror has put meanwhile is no error.
    pub fn put(&self, object: &StoredObject) -> Result<()> {
        self.put_new(object).map(drop)
    }

    /// The same; whether it was this mirror that has put it.
    fn put_new(&self, object: &StoredObject) -> Result<bool> {
        self.session.check()?;
        let name = &object.name;
        match self.target.store.put(name, object.bytes.clone()) {
            Ok(()) => self.confirm(object).map(|()| true),
            Err(error) if error.kind() == ErrorKind::Exists => {
                match self.target.store.size(name)? {
                    size if size == object.length() => Ok(false),
                    size => Err(other_length(object, size)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a snapshot exist: puts its manifest, unless the mirror was taken for dead, and what it
    /// has put may be garbage; that is asked before and after.
    pub fn put_manifest(&self, object: &StoredObject, how: ManifestPut) -> Result<()> {
        let ManifestPut {
            replaces,
            is_like_another,
        } = how;
        self.target.check_not_passed_over(self.session.run())?;
        self.session.ask()?;
        if !replaces && self.has_come_meanwhile(object)? {
            return Ok(());
        }
        let put = match replaces {
            true => self.replace(object).map(|()| true),
            false => self.put_new(object),
        };
        // An error does not say that it is not there.
        let is_ours = *put.as_ref().unwrap_or(&true);
        let may_go = || !is_like_another && !self.has_other_names(object);
        // The machine may have stood still while it was put.
        let stands = put.and_then(|_| self.session.ask());
        stands.map_err(
            |error| match is_ours && self.session.check().is_err() && may_go() {
                true => self.take_back(&object.name, error),
                // What it refers to was there while this mirror lived.
                false => error,
            },
        )
    }

    /// Whether another mirror has put it, as far as a store does not refuse a name that is taken.
    fn has_come_meanwhile(&self, object: &StoredObject) -> Result<bool> {
        if !self.target.store.capabilities().confirms {
            return Ok(false);
        }
        match self.target.store.size(&object.name) {
            Ok(size) => Ok(size == object.length()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a snapshot has borne other names, as far as the key that is there reads it.
    fn has_other_names(&self, manifest: &StoredObject) -> bool {
        let snapshot = named_by(manifest.name.clone());
        let read = snapshot.and_then(|one| self.target.decode(&one, &manifest.bytes).ok());
        read.is_some_and(|manifest| !manifest.rewrites.is_empty())
    }

    fn take_back(&self, manifest: &ObjectName, error: Error) -> Error {
        match self.target.store.delete(manifest) {
            Ok(()) => error,
            Err(_) => error.and_said(format!(
                "{manifest} may be in {} all the same, and lack blocks: `stillpoint verify` there \
                 tells",
                self.target.location()
            )),
        }
    }

    /// Puts an object in place of one of the same name whose bytes are wrong. An equal length
    /// tells nothing: where the store is of a sort that says "done" of what it has not kept, the
    /// bytes are read again.
    pub fn replace(&self, object: &StoredObject) -> Result<()> {
        self.session.check()?;
        let store = self.target.store.as_ref();
        store.replace(&object.name, object.bytes.clone())?;
        store.forget(&object.name);
        self.confirm(object)?;
        if store.capabilities().confirms {
            let kept = store.get(&object.name, object.length())?;
            store.forget(&object.name);
            if kept != object.bytes {
                return Err(not_replaced(object));
            }
        }
        Ok(())
    }

    /// Puts an object where it is missing, or in place of what is wrong there.
    pub fn put_right(&self, object: &StoredObject) -> Result<()> {
        match self.target.store.size(&object.name) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.put(object),
            _ => self.replace(object),
        }
    }

    fn confirm(&self, object: &StoredObject) -> Result<()> {
        confirm_kept(self.target.store.as_ref(), &object.name, object.length())
    }
}

/// The error of a place in which something may be collected.
fn plans_stand(target: &Vault, plans: &[SnapshotId]) -> Error {
    let (place, count) = (target.location(), plans.len());
    let first = plans
        .first()
        .map_or_else(String::new, SnapshotId::to_string);
    let what = format!(
        "{place}: a collector means to delete objects there ({count} plans; the first is \
         condemned/{first}-00000000), which may be what has to come back"
    );
    Error::new(ErrorKind::Busy, what).with_hint(
        "nothing was put; let nothing run `gc` or `prune` there, wait until one that runs has \
         ended, delete what is in the folder condemned there (the next `gc` plans anew), and run \
         it again",
    )
}

fn other_length(object: &StoredObject, size: u64) -> Error {
    let (name, length) = (&object.name, object.length());
    let what = format!("{name} was put by somebody else with {size} bytes in place of {length}");
    Error::new(ErrorKind::Damaged, what).with_hint("run it again: it says so and puts it right")
}

fn not_replaced(object: &StoredObject) -> Error {
    let name = &object.name;
    let what = format!("the store said that it had replaced {name}, and still has other bytes");
    Error::new(ErrorKind::Damaged, what)
        .with_hint("run it again; if it stays so, take that object out there and run it again")
}

/// The error of a second place that is the first one.
pub(super) fn same_place(source: &str, target: &str) -> Error {
    let what = format!("{target} and {source} are one place: that makes no second copy");
    Error::new(ErrorKind::Usage, what).with_hint("name another place with --to")
}
