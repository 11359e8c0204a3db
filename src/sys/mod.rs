//! System calls: the only room with unsafe code, each call behind a typed function.

pub mod block;
pub mod bpf;
pub mod bpf_scratch;
pub mod buffer;
pub mod freeze;
pub mod fsmap;
pub mod process;
pub mod ring;
