//! What a collection has found and done, as values.

use crate::engine::rewrite::{RewritePlan, RewriteReport};
use crate::error::{ErrorKind, Result};
use crate::format::Condemned;
use crate::model::{Bytes, SnapshotId};
use crate::store::Collectable;
use jiff::Timestamp;
use std::ops::AddAssign;

/// So many objects of one sort, and their lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: usize,
    /// How long together.
    pub bytes: Bytes,
}

/// Objects by their sorts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Segments.
    pub segments: Amount,
    /// Index objects.
    pub indexes: Amount,
    /// Objects of copies of footers.
    pub copies: Amount,
    /// What keeps snapshots.
    pub keeps: Amount,
}

impl Tally {
    /// Counts one more.
    pub(super) fn add(&mut self, object: Condemned, size: Bytes) {
        let amount = match object {
            Condemned::Segment(_) => &mut self.segments,
            Condemned::Index(_) => &mut self.indexes,
            Condemned::Copies { .. } => &mut self.copies,
            Condemned::Keep { .. } => &mut self.keeps,
        };
        amount.objects += 1;
        amount.bytes += size;
    }

    /// The same of what was found.
    pub(super) fn add_one(&mut self, one: &Collectable) {
        self.add(one.object, one.size);
    }

    /// All sorts together.
    pub fn all(&self) -> Amount {
        let sorts = [self.segments, self.indexes, self.copies, self.keeps];
        sorts.iter().fold(Amount::default(), |all, one| Amount {
            objects: all.objects + one.objects,
            bytes: all.bytes + one.bytes,
        })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let both = [
            (&mut self.segments, other.segments),
            (&mut self.indexes, other.indexes),
            (&mut self.copies, other.copies),
            (&mut self.keeps, other.keeps),
        ];
        for (mine, others) in both {
            mine.objects += others.objects;
            mine.bytes += others.bytes;
        }
    }
}

/// What has become of a plan that stood there.
#[derive(Clone, Debug)]
pub enum PlanOutcome {
    /// What it named was deleted, or in a dry run would be.
    CarriedOut {
        /// What of it.
        deleted: Tally,
        /// How many objects of it snapshots need after all.
        needed: usize,
        /// It stays until the next collection: another collector is at work, or listings may
        /// still show what is gone.
        stays: bool,
    },
    /// It may not be carried out before, by the store's clock.
    TooYoung(Timestamp),
    /// These runs have to end first, each in words.
    Awaits(Vec<String>),
    /// It could never be carried out and was taken away; why.
    Withdrawn(String),
    /// It is left as it is; why.
    Left(String),
}

/// A plan that stood there.
#[derive(Clone, Debug)]
pub struct EarlierPlan {
    /// Its name.
    pub id: SnapshotId,
    /// When it was put, by the store's clock.
    pub put: Timestamp,
    /// How many objects it names.
    pub objects: usize,
    /// What has become of it.
    pub outcome: PlanOutcome,
}

/// What is to be deleted next.
#[derive(Clone, Debug)]
pub struct NewPlan {
    /// Its name; `None` in a dry run.
    pub id: Option<SnapshotId>,
    /// What it names.
    pub objects: Tally,
}

/// What lies dead in segments that are needed, and what becomes of it.
#[derive(Debug)]
pub struct Rewriting {
    /// What was found, and what was to be done.
    pub plan: RewritePlan,
    /// What was done; nothing in a dry run.
    pub done: Option<RewriteReport>,
}

/// What a collection has found and done.
#[derive(Debug, Default)]
pub struct CollectReport {
    /// How many snapshots there are.
    pub snapshots: usize,
    /// What they need.
    pub needed: Tally,
    /// What nothing needs, and is too young to be named, or may be a run's that is at work.
    pub left_alone: Tally,
    /// Plans that stood there.
    pub earlier: Vec<EarlierPlan>,
    /// The plan that was put, if there is anything to delete.
    pub planned: Option<NewPlan>,
    /// What of the needed segments lies dead.
    pub rewriting: Option<Rewriting>,
    /// Runs that may be at work, each in words.
    pub at_work: Vec<String>,
}

impl CollectReport {
    /// Whether segments were given up.
    pub(super) fn gave_any_up(&self) -> bool {
        let done = self.rewriting.as_ref().and_then(|one| one.done.as_ref());
        done.is_some_and(|done| done.segments > 0)
    }

    /// Adds a plan that was put besides. That there is none is told, and is no failure: the next
    /// collection puts it.
    pub(super) fn plans_besides(&mut self, other: Result<Option<NewPlan>>) -> Result<()> {
        let other = match other {
            Err(error) if !matches!(error.kind(), ErrorKind::Interrupted(_)) => {
                let what =
                    format!("what was given up is not planned yet, the next gc does: {error}");
                let done = self.rewriting.as_mut().and_then(|one| one.done.as_mut());
                done.into_iter()
                    .for_each(|done| done.warnings.push(what.clone()));
                None
            }
            other => other?,
        };
        match (&mut self.planned, other) {
            (Some(planned), Some(other)) => planned.objects += other.objects,
            (planned @ None, other) => *planned = other,
            (Some(_), None) => {}
        }
        Ok(())
    }

    /// Notes that a plan was carried out so far, and stays.
    pub(super) fn stays(&mut self, plan: SnapshotId, done: &[Collectable]) {
        let mut all = self.earlier.iter_mut();
        let Some(one) = all.find(|one| one.id == plan) else {
            return;
        };
        if let PlanOutcome::CarriedOut { deleted, stays, .. } = &mut one.outcome {
            *deleted = Tally::default();
            done.iter().for_each(|one| deleted.add_one(one));
            *stays = true;
        }
    }
}
