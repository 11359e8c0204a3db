//! Snapshots as things that are read in place, without restoring them. It must never hand out a
//! byte that was not checked, nor write to a vault.

mod image;

pub use image::Image;
