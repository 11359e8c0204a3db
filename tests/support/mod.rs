//! What tests of several areas need.

pub mod loops;
