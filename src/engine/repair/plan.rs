//! What a repair means to do: a value before it is a deed. To make it the vault is only read.

use crate::engine::monitor::Monitor;
use crate::engine::verify::{BrokenObjects, is_damage};
use crate::error::{ErrorKind, Result};
use crate::format::FooterCopiesRef;
use crate::model::ObjectId;
use crate::store::{SnapshotRef, Vault};
use std::fmt;

/// An object of a vault that can be put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairedObject {
    /// What makes a snapshot exist.
    Manifest(SnapshotRef),
    /// A part of a disk's index.
    Index(ObjectId),
    /// A segment.
    Segment(ObjectId),
    /// Copies of footers.
    Copies(FooterCopiesRef),
}

impl fmt::Display for RepairedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(snapshot) => write!(f, "the manifest of {}", snapshot.id),
            Self::Index(id) => write!(f, "index {id}"),
            Self::Segment(id) => write!(f, "segment {id}"),
            Self::Copies(copies) => {
                write!(f, "copies of footers {}-{:08}", copies.run, copies.part)
            }
        }
    }
}

/// How an object is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is made anew from what is left in the vault.
    Rebuild,
    /// That of the second place is put in its place.
    FromSecond,
}

/// An object that is to be put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairDeed {
    /// Which.
    pub object: RepairedObject,
    /// What is wrong with it, as text.
    pub what: String,
    /// How.
    pub remedy: Remedy,
}

/// An object that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrepaired {
    /// Which.
    pub object: RepairedObject,
    /// What is wrong with it, as text.
    pub what: String,
    /// Why it stays so, as text.
    pub why: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RepairPlan {
    /// In this order: what is needed to read the rest comes first.
    pub(super) deeds: Vec<RepairDeed>,
    pub(super) left: Vec<Unrepaired>,
}

/// Where repairs come from.
pub(super) struct RepairSources<'a> {
    pub(super) vault: &'a Vault,
    pub(super) second: Option<&'a Vault>,
    /// Objects with copies of footers.
    pub(super) copies: &'a [FooterCopiesRef],
}

impl RepairPlan {
    /// Looks for a remedy for each object in which something is wrong.
    pub(super) fn make(
        sources: &RepairSources<'_>,
        broken: &BrokenObjects,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let manifests = broken.manifests.iter();
        let manifests =
            manifests.map(|(snapshot, what)| (RepairedObject::Manifest(snapshot.clone()), what));
        let indexes = broken.indexes.iter();
        let indexes = indexes.map(|(id, what)| (RepairedObject::Index(*id), what));
        let segments = broken.segments.iter();
        let segments = segments.map(|(id, what)| (RepairedObject::Segment(*id), what));
        let copies = broken.copies.iter();
        let copies = copies.map(|(copies, what)| (RepairedObject::Copies(*copies), what));
        let mut plan = Self::default();
        for (object, what) in manifests.chain(indexes).chain(segments).chain(copies) {
            monitor.check()?;
            let what = what.clone();
            match sources.remedy(&object)? {
                Ok(remedy) => plan.deeds.push(RepairDeed {
                    object,
                    what,
                    remedy,
                }),
                Err(why) => plan.left.push(Unrepaired { object, what, why }),
            }
        }
        Ok(plan)
    }
}

impl RepairSources<'_> {
    /// How an object can be put right, or why it cannot.
    fn remedy(&self, object: &RepairedObject) -> Result<std::result::Result<Remedy, String>> {
        if let RepairedObject::Segment(id) = object
            && is_whole(self.vault.stored_segment(*id, 0))?
        {
            let why = "it is as it was put: what refers to it asks for what was never in it";
            return Ok(Err(why.into()));
        }
        if self.can_rebuild(object)? {
            return Ok(Ok(Remedy::Rebuild));
        }
        let Some(second) = self.second else {
            return Ok(Err("nothing in the vault can replace it".into()));
        };
        Ok(match is_in(second, object)? {
            true => Ok(Remedy::FromSecond),
            false => Err("neither the vault nor the second place has what could replace it".into()),
        })
    }

    fn can_rebuild(&self, object: &RepairedObject) -> Result<bool> {
        match object {
            RepairedObject::Manifest(_) | RepairedObject::Index(_) => Ok(false),
            RepairedObject::Segment(id) => {
                Ok(self.vault.rebuilt_segment(*id, self.copies)?.is_some())
            }
            RepairedObject::Copies(copies) => Ok(self.vault.rebuilt_copies(*copies)?.is_some()),
        }
    }
}

/// Whether the second place has an object of that name. What is small is read, and is whole there;
/// a segment is read when it is put.
fn is_in(second: &Vault, object: &RepairedObject) -> Result<bool> {
    match object {
        RepairedObject::Manifest(snapshot) => is_whole(second.stored_manifest(snapshot)),
        RepairedObject::Index(id) => is_whole(second.stored_index(*id)),
        RepairedObject::Copies(copies) => is_whole(second.stored_copies(*copies)),
        RepairedObject::Segment(id) => {
            Ok(second.size_of_segment(*id)?.is_some_and(|size| size > 0))
        }
    }
}

/// Whether an object was read and is whole. What may pass says nothing of it, and is an error.
fn is_whole<T>(read: Result<T>) -> Result<bool> {
    match read {
        Ok(_) => Ok(true),
        Err(error) if is_damage(&error) || error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
