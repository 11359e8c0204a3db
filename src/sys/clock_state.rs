//! Whether a time service keeps the clock: what the kernel knows of it; and whether it shows a time
//! at all. It must never set anything.
#![expect(unsafe_code, reason = "adjtimex(2) is not known to the compiler")]

use crate::error::{Error, ErrorKind, Result};
use jiff::{SignedDuration, Timestamp};
use std::mem::MaybeUninit;
use std::time::SystemTime;

/// Calendars end with the year 9999. What is added to the time (ten years at most) must have a
/// date, too.
const LEFT: SignedDuration = SignedDuration::from_hours(100 * 366 * 24);

/// Refuses a time of which no calendar knows: nothing could be dated by it.
///
/// # Errors
/// `Unsupported`: the clock shows such a time.
pub fn check_calendar(now: SystemTime) -> Result<()> {
    let known = Timestamp::try_from(now).ok();
    let known = known.filter(|now| now.checked_add(LEFT).is_ok() && now.checked_sub(LEFT).is_ok());
    known.map(drop).ok_or_else(|| {
        let what = "the clock of this host shows a time that is in no calendar, beyond the year \
                    9899 or before the year -9899; nothing was done";
        Error::new(ErrorKind::Unsupported, what)
            .with_hint("set it: `timedatectl` shows it, `timedatectl set-ntp true` has it kept")
    })
}

/// Whether the kernel's clock is kept by a time service; `None`: the kernel does not say. Whoever
/// sets the clock otherwise makes it one that is not kept (`ntp_clear`), and so does a service that
/// has said nothing for hours (`second_overflow`, both in the kernel's `kernel/time/ntp.c`).
pub fn is_synchronised() -> Option<bool> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `struct timex` is of integers alone, so zeros are a value of it; with `modes` of 0
    // the kernel sets nothing, and fills in the structure that it is given.
    let code = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    if code < 0 {
        return None;
    }
    // SAFETY: it was zeroed, and filled in by the kernel.
    let state = unsafe { state.assume_init() };
    Some(code != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_no_calendar_has_is_told() {
        let years = |count: u64| Duration::from_secs(count * 366 * 24 * 3600);
        let epoch = SystemTime::UNIX_EPOCH;
        for good in [
            epoch,
            SystemTime::now(),
            epoch + years(7800),
            epoch - years(1970),
        ] {
            check_calendar(good).unwrap();
        }
        for beyond in [
            epoch + years(8000),
            epoch + years(100_000),
            epoch - years(13_000),
        ] {
            let error = check_calendar(beyond).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("in no calendar"), "{error}");
        }
    }
}
