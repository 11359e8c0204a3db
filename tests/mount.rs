//! Filesystems of snapshots, attached by the kernel's own drivers.

pub mod attached;
mod door;
mod scene;
