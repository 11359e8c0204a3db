//! Filesystems of snapshots, attached by the kernel's own drivers.

pub mod attached;
mod door;
mod foreign;
mod half;
mod host_tree;
mod partitions;
mod scene;
mod shot;
