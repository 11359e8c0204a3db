//! System calls: the only room with unsafe code, each call behind a typed function.

pub mod block;
pub mod block_device;
pub mod buffer;
pub mod fsmap;
pub mod ring;
pub mod freeze;
pub mod process;
