//! The program as its users meet it: real runs on real loop disks, with everything that can be
//! wrong about disks, vaults, targets and hosts.

mod busy;
mod damage;
mod hosts;
pub mod lab;
mod output;
mod pipes;
mod refused;
mod table;
mod whole;
