//! What is to be done for somebody who waits.

use super::answers::RequestName;
use crate::model::Extent;

/// What is to be done.
pub(super) enum Deed {
    Read { overlay: bool },
    Write(Vec<u8>),
}

/// Something to be done for somebody who waits.
pub(super) struct Work {
    pub(super) name: RequestName,
    pub(super) disk: usize,
    /// Within the disk.
    pub(super) place: Extent,
    pub(super) deed: Deed,
}
