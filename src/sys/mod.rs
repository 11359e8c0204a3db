//! System calls: the only room with unsafe code, each call behind a typed function.

pub mod bpf;
pub mod bpf_scratch;
