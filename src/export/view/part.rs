//! Which part of which disk of a view is meant.

use crate::model::Extent;

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachPart {
    /// Which disk of the view, from 0.
    pub disk: usize,
    /// Which part of it.
    pub place: Extent,
}
