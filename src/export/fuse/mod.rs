//! The disks of a snapshot as files, by FUSE: each as it is in the vault, and once more with what
//! the kernel's drivers write laid over it in memory. It must never write to a vault, nor let a
//! reader wait without end.

mod answers;
mod files;
mod layout;
mod reader;
mod scratch;
mod served;
mod server;
mod work;

pub use layout::{OVERLAY, RAW};
pub use served::{OnFailure, ReadFailure};
pub use server::{FuseControl, FuseDevice, FuseServer, ServeOptions, ServedDisk};
