//! What is to be done for somebody who waits.

use super::answers::RequestName;
use crate::model::Extent;

/// What is to be done.
pub(super) enum Deed {
    /// Of the disk as it is, or with what was written to a layer.
    Read {
        layer: Option<u32>,
    },
    Write {
        layer: u32,
        data: Vec<u8>,
    },
}

/// Something to be done for somebody who waits.
pub(super) struct Work {
    pub(super) name: RequestName,
    pub(super) disk: usize,
    /// Within the disk.
    pub(super) place: Extent,
    pub(super) deed: Deed,
}
