//! How much memory the machine has. It must never say more than there is.

use crate::error::{Error, ErrorKind, Result};
use crate::model::Bytes;

/// All of the machine's memory: `totalram` of sysinfo(2).
///
/// # Errors
/// `Failed`: the call is refused, as by a seccomp filter.
pub fn total() -> Result<Bytes> {
    match nix::sys::sysinfo::sysinfo() {
        Ok(info) => Ok(Bytes(info.ram_total())),
        Err(errno) => Err(Error::new(ErrorKind::Failed, "sysinfo(2) failed").with_source(errno)),
    }
}
