//! What the threads of a server share.

use super::answers::{Answers, AwaitedFrom, RefusedWaits, RequestName, WaitingReply};
use super::layout::Layout;
use super::scratch::{LayerPlace, ReplayedPages};
use super::work::{Deed, Work};
use crate::error::{Error, ErrorKind};
use crate::export::in_place::InPlace;
use crate::model::{Bytes, Extent};
use crate::sys::locked::LockExt;
use fuser::{ReplyData, ReplyWrite};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Most failures that are told.
const MOST_TOLD: usize = 64;

/// A read that failed, or a write of a driver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailure {
    /// What failed, and why.
    pub what: String,
    /// Whether what the vault has is damaged; else it may be had another time.
    pub is_damage: bool,
}

/// Takes failed reads: for a log.
pub type OnFailure = Arc<dyn Fn(ReadFailure) + Send + Sync>;

/// Tells of failures, but not without end.
pub(super) struct Failures {
    on_failure: OnFailure,
    told: AtomicUsize,
}

impl Failures {
    pub(super) fn new(on_failure: OnFailure) -> Self {
        Self {
            on_failure,
            told: AtomicUsize::new(0),
        }
    }

    /// Says what failed, if not too much was said.
    pub(super) fn tell(&self, what: &str) {
        self.tell_failure(what.to_owned(), false);
    }

    /// The same of a read.
    pub(super) fn tell_read(&self, error: &Error) {
        self.tell_failure(error.to_string(), error.kind() == ErrorKind::Damaged);
    }

    fn tell_failure(&self, what: String, is_damage: bool) {
        let before = self.told.fetch_add(1, Ordering::Relaxed);
        let what = match before {
            ..MOST_TOLD => what,
            MOST_TOLD => "more reads have failed; no further ones are told".into(),
            _ => return,
        };
        (self.on_failure)(ReadFailure { what, is_damage });
    }
}

/// What the threads share.
pub(super) struct Served {
    pub(super) layout: Layout,
    pub(super) answers: Answers,
    pub(super) images: Vec<Arc<dyn InPlace>>,
    pub(super) scratch: Mutex<ReplayedPages>,
    pub(super) failures: Failures,
}

impl Served {
    pub(super) fn image(&self, disk: usize) -> Option<&Arc<dyn InPlace>> {
        self.images.get(disk)
    }

    /// The work of a read, whoever waits for it being noted; none where its disk hangs.
    pub(super) fn read(
        &self,
        disk: usize,
        place: Extent,
        layer: Option<u32>,
        reply: ReplyData,
    ) -> Option<Work> {
        let from = AwaitedFrom { disk, writes: None };
        Some(Work {
            name: self.expect(from, WaitingReply::Read(reply))?,
            disk,
            place,
            deed: Deed::Read { layer },
        })
    }

    /// The work of a write.
    pub(super) fn write(
        &self,
        place: LayerPlace<Bytes>,
        data: &[u8],
        reply: ReplyWrite,
    ) -> Option<Work> {
        let LayerPlace { layer, disk, at } = place;
        let writes = Some(layer);
        let from = AwaitedFrom { disk, writes };
        let data = data.to_vec();
        Some(Work {
            name: self.expect(from, WaitingReply::Write(reply))?,
            disk,
            place: Extent::new(at, Bytes(data.len() as u64)),
            deed: Deed::Write { layer, data },
        })
    }

    /// Takes note of one who waits, who is refused at once where the disk hangs.
    fn expect(&self, from: AwaitedFrom, reply: WaitingReply) -> Option<RequestName> {
        match self.answers.expect(from, reply) {
            Ok(name) => Some(name),
            Err(reply) => {
                if let Some(layer) = from.writes {
                    self.scratch.locked().give_up(layer);
                }
                reply.refuse();
                None
            }
        }
    }

    /// Gives up a layer that lacks a write; says why, the first time.
    pub(super) fn give_up(&self, layer: u32, why: &Error) {
        if self.scratch.locked().give_up(layer) {
            self.failures.tell_read(why);
        }
    }

    /// Refuses all whose time is over; returns how many.
    pub(super) fn refuse_late(&self) -> usize {
        self.refuse(self.answers.take_late())
    }

    /// Refuses all: nobody answers any more.
    pub(super) fn refuse_all(&self) {
        self.refuse(self.answers.take_all());
    }

    fn refuse(&self, refused: RefusedWaits<WaitingReply>) -> usize {
        for layer in &refused.layers {
            // Before the kernel knows of it.
            self.scratch.locked().give_up(*layer);
        }
        refused.refuse()
    }
}
