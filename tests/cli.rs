//! The program as its users meet it: real runs on real loop disks, with everything that can be
//! wrong about disks, vaults, targets and hosts.

mod hosts;
pub mod lab;
mod output;
mod refused;
mod whole;
