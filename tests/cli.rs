//! The program as its users meet it: real runs on real loop disks, with everything that can be
//! wrong about disks, vaults, targets and hosts.

mod against;
mod all;
mod bounded;
mod busy;
mod claims;
mod clock;
mod completions;
mod container;
mod damage;
pub mod drill;
mod drill_boot;
mod golden;
mod ground;
mod help;
mod hints;
mod hosts;
mod journal;
pub mod lab;
mod output;
mod partial;
mod pins;
mod pipes;
mod printed;
mod refused;
mod reports;
pub mod schema;
mod serve;
mod skipped;
mod swap;
mod table;
mod twins;
mod unproven;
mod whole;
mod words;
