//! What several test areas need. It must never leave anything behind.

pub mod cli;
pub mod golden;
pub mod held;
pub mod host;
pub mod marks;
pub mod model;
pub mod pace;
pub mod recorded;
pub mod rig;
pub mod run_dirs;
pub mod tracked;
pub mod tree;
pub mod vaults;
pub mod versions;
