//! Numbers of things, as people say them.

use std::fmt::Display;

/// `1 disk`, `2 disks`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        assert_eq!(counted(0_usize, "hour"), "0 hours");
        assert_eq!(counted(1_u64, "day"), "1 day");
        assert_eq!(counted(-1_i64, "day"), "-1 days");
        assert_eq!(counted(24_i32, "hour"), "24 hours");
    }
}
