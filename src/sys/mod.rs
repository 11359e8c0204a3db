//! System calls: the only room with unsafe code, each call behind a typed function.

pub mod block;
pub mod bpf;
pub mod bpf_scratch;
pub mod buffer;
pub mod cgroup;
pub mod dirents;
pub mod fiemap;
pub mod freeze;
pub mod fsinfo;
pub mod fsmap;
pub mod handle;
pub mod io_limit;
pub mod io_priority;
pub mod lease;
pub mod locked;
pub mod loop_device;
pub mod loop_file;
pub mod machine;
pub mod memory;
pub mod mountinfo;
pub mod mounting;
pub mod pidfd;
pub mod plain;
pub mod process;
pub mod ring;
pub mod secret;
