//! Filesystems of snapshots, attached by the kernel's own drivers.

mod attached;
mod door;
mod scene;
