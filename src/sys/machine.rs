//! This machine: its name, its kernel, its boot, and how long it has slept. It only asks.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use std::path::Path;
use std::time::Duration;

/// The clocks are read this often; the reading with the shortest time between them counts.
const READINGS: usize = 8;

/// The host's name; a part that is no text is replaced.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What names this boot of the machine.
///
/// # Errors
/// `/proc` is not mounted.
pub fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).io_context("read", path)?;
    Ok(text.trim().to_owned())
}

/// What names the machine among all others, by its firmware; `None` where that gives no such name.
/// A copy of a virtual machine has another, though all its files are the same.
pub fn machine_uuid() -> Option<String> {
    let text = std::fs::read_to_string("/sys/class/dmi/id/product_uuid").ok()?;
    let text = text.trim();
    let plausible = (1..=64).contains(&text.len());
    plausible.then(|| text.to_owned())
}

/// The kernel's release: `6.1.0-18-cloud-amd64`.
pub fn kernel_release() -> String {
    let name = nix::sys::utsname::uname();
    let release = name.map(|name| name.release().to_string_lossy().into_owned());
    release.unwrap_or_default()
}

/// The first two numbers of the kernel's release; `None` where it has no such numbers.
pub fn kernel_version() -> Option<(u32, u32)> {
    version_of(&kernel_release())
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Bytes of a page of memory.
pub fn page_size() -> Bytes {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    Bytes(size.and_then(|size| size.try_into().ok()).unwrap_or(4096))
}

/// How long ago this boot of the machine began, suspends and hibernations included. While a
/// hypervisor pauses the machine it stands still.
///
/// # Errors
/// The clock cannot be read.
pub fn since_boot() -> Result<Duration> {
    read(ClockId::CLOCK_BOOTTIME)
}

fn read(clock: ClockId) -> Result<Duration> {
    let time = clock_gettime(clock)
        .map_err(|errno| Error::new(ErrorKind::Failed, "cannot read a clock").with_source(errno))?;
    Ok(Duration::from(time))
}

/// How long the machine was suspended or hibernated since this boot began: one clock goes on then,
/// the other does not. Its disks may have been elsewhere meanwhile.
///
/// # Errors
/// A clock cannot be read.
pub fn asleep() -> Result<Duration> {
    let mut best = (Duration::MAX, Duration::ZERO);
    for _ in 0..READINGS {
        let before = read(ClockId::CLOCK_MONOTONIC)?;
        let boot = read(ClockId::CLOCK_BOOTTIME)?;
        let between = read(ClockId::CLOCK_MONOTONIC)?.saturating_sub(before);
        best = best.min((between, boot.saturating_sub(before)));
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_understood() {
        assert_eq!(version_of("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version_of("5.10.0-28-cloud-amd64"), Some((5, 10)));
        assert_eq!(version_of("x"), None);
    }

    #[test]
    fn the_clock_of_the_boot_goes_on() {
        let before = since_boot().unwrap();
        assert!(before > asleep().unwrap());
        assert!(since_boot().unwrap() >= before);
    }

    #[test]
    fn a_machine_that_is_awake_does_not_sleep() {
        let before = asleep().unwrap();
        std::thread::yield_now();
        assert!(asleep().unwrap().abs_diff(before) < Duration::from_millis(100));
    }
}
