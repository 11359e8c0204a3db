//! What the threads of a server share.

use super::answers::{Answers, WaitingReply};
use super::layout::Layout;
use super::scratch::ReplayedPages;
use super::work::{Deed, Work};
use crate::export::image::Image;
use crate::model::{Bytes, Extent};
use fuser::{ReplyData, ReplyWrite};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Most failures that are told.
const MOST_TOLD: usize = 64;

/// Takes failed reads: for a log.
pub type OnFailure = Arc<dyn Fn(String) + Send + Sync>;

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
        let before = self.told.fetch_add(1, Ordering::Relaxed);
        if before < MOST_TOLD {
            (self.on_failure)(what.to_owned());
        } else if before == MOST_TOLD {
            (self.on_failure)("more reads have failed; no further ones are told".into());
        }
    }
}

/// What the threads share.
pub(super) struct Served {
    pub(super) layout: Layout,
    pub(super) answers: Answers,
    pub(super) images: Vec<Arc<Image>>,
    pub(super) scratch: Mutex<ReplayedPages>,
    pub(super) failures: Failures,
}

impl Served {
    pub(super) fn image(&self, disk: usize) -> Option<&Arc<Image>> {
        self.images.get(disk)
    }

    /// The work of a read, whoever waits for it being noted.
    pub(super) fn read(
        &self,
        disk: usize,
        offset: Bytes,
        length: usize,
        overlay: bool,
        reply: ReplyData,
    ) -> Work {
        Work {
            name: self.answers.expect(WaitingReply::Read(reply)),
            disk,
            place: Extent::new(offset, Bytes(length as u64)),
            deed: Deed::Read { overlay },
        }
    }

    /// The work of a write.
    pub(super) fn write(&self, disk: usize, offset: Bytes, data: &[u8], reply: ReplyWrite) -> Work {
        Work {
            name: self.answers.expect(WaitingReply::Write(reply)),
            disk,
            place: Extent::new(offset, Bytes(data.len() as u64)),
            deed: Deed::Write(data.to_vec()),
        }
    }
}
