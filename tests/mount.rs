//! Filesystems of snapshots, attached by the kernel's own drivers.

pub mod attached;
mod command;
mod door;
mod foreign;
mod half;
mod host_tree;
pub mod lvm;
mod many_open;
pub mod md;
mod others;
mod partitions;
mod place;
pub mod scene;
pub mod shot;
