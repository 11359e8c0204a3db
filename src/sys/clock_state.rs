//! Whether a time service keeps the clock: what the kernel knows of it. It must never set anything.
#![expect(unsafe_code, reason = "adjtimex(2) is not known to the compiler")]

use std::mem::MaybeUninit;

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
