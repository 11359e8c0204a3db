//! Which objects of a vault are kept on the host, and what of them, by their names alone.

use crate::store::object_name::ObjectName;

/// What of an object is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Manifest,
    Index,
    SegmentEnd,
    Copies,
}

impl Kept {
    pub(super) fn of(name: &ObjectName) -> Option<Self> {
        match name.components().next()? {
            "snapshots" => Some(Self::Manifest),
            "index" => Some(Self::Index),
            "segments" => Some(Self::SegmentEnd),
            "footers" => Some(Self::Copies),
            _ => None,
        }
    }
}
