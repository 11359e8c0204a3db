//! What several test areas need.

pub mod loops;
pub mod recorded;
