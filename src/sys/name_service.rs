//! Whom glibc asks for names where it is linked into the program. It must never load a module of
//! the machine's then: that one brings another glibc along, and the process crashes.
#![cfg_attr(
    all(target_env = "gnu", target_feature = "crt-static"),
    expect(unsafe_code, reason = "glibc's own switch has no safe wrapper")
)]

/// Has a glibc that is linked statically look into files and ask name servers, whatever
/// `/etc/nsswitch.conf` says. Call it before any thread starts. It does nothing where glibc is the
/// machine's own: its modules fit.
pub fn keep_to_what_is_linked() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    for (database, services) in [
        (c"hosts", c"files dns"),
        (c"passwd", c"files"),
        (c"group", c"files"),
    ] {
        // SAFETY: both are strings that end, and last; no other thread is there to look names up.
        unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
unsafe extern "C" {
    /// `int __nss_configure_lookup (const char *__dbname, const char *__string)`, glibc's
    /// `nss/nss.h`: replaces what the configuration says of a database.
    fn __nss_configure_lookup(
        database: *const libc::c_char,
        services: *const libc::c_char,
    ) -> libc::c_int;
}
