//! Targets of a restore: images, whole sets, larger devices, devices that hold something, and
//! restores that do not come to their end.

mod ahead;
mod confirm;
mod holes;
mod in_use;
mod larger;
mod names;
mod qcow2;
mod refused;
mod set;
mod unfinished;
