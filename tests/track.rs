//! The changed-block tracker on real loop disks. What needs other disks (discards of several ranges
//! on NVMe and virtio, passed-through commands, zones, other kernels) is left to the tests in VMs.

#[path = "track/changes.rs"]
mod changes;
#[path = "track/history.rs"]
mod history;
#[path = "track/lifetime.rs"]
mod lifetime;
#[path = "track/load.rs"]
mod load;
#[path = "track/object.rs"]
mod object;
