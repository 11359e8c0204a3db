#![doc = include_str!("ARCHITECTURE.md")]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("disks are larger than 32-bit address spaces: 64-bit targets only");

pub mod capture;
pub mod cli;
pub mod client;
pub mod config;
pub mod device;
pub mod engine;
pub mod error;
pub mod export;
pub mod fleet;
pub mod format;
pub mod freeze;
mod helper;
pub mod hooks;
pub mod job;
pub mod model;
pub mod notify;
pub mod plan;
pub mod report;
pub mod restore;
pub mod store;
pub mod sys;
pub mod track;

pub use error::{Error, ErrorKind, Result};
