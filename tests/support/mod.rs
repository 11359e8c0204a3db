//! What several test areas need. It must never leave anything behind.

pub mod disks;
pub mod freezable;
pub mod loops;
pub mod recorded;
pub mod rig;
pub mod tracked;
