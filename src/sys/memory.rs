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

/// What programs can still have without swapping: `MemAvailable` of `/proc/meminfo`; `None`: the
/// kernel does not say.
pub fn available() -> Option<Bytes> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    available_of(&text)
}

fn available_of(text: &str) -> Option<Bytes> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_what_the_kernel_says() {
        let text = "MemTotal:  100 kB\nMemFree:  7 kB\nMemAvailable:     12 kB\nBuffers: 3 kB\n";
        assert_eq!(available_of(text), Some(Bytes(12 << 10)));
        for text in [
            "",
            "MemAvailable: kB",
            "MemAvailable: 12 MB",
            "MemAvailable: -1 kB",
        ] {
            assert_eq!(available_of(text), None, "{text}");
        }
        assert!(available().is_none_or(|bytes| bytes.0 > 0));
    }
}
