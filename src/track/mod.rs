//! Which blocks of a disk changed since when, and whether that answer can be trusted.

mod source;

pub use source::ChangeSource;
