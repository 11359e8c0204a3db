//! So many bytes a second, as people write it.

use crate::model::{Bytes, counted};

/// The slowest rate: by it a block takes 16 s, and a GiB three days. Who asks for less has left out
/// a letter, and a run that never ends keeps all others from beginning.
const LEAST: Bytes = Bytes(4 << 10);

/// Parses bytes a second: `20MiB/s`, or without the `/s`.
///
/// # Errors
/// It is no rate, or one by which nothing would end; the text says what one looks like.
pub fn parse_rate(text: &str) -> Result<Bytes, String> {
    match bytes_a_second(text) {
        None => Err("a rate looks like this: 20MiB/s".into()),
        Some(rate) if rate < LEAST => Err(format!(
            "{} a second: no run would end; 4KiB/s is the least",
            counted(rate.0, "byte")
        )),
        Some(rate) => Ok(rate),
    }
}

fn bytes_a_second(text: &str) -> Option<Bytes> {
    let text = text.trim();
    let text = text.strip_suffix("/s").unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let rate = number.parse::<u64>().ok()?.checked_mul(factor)?;
    (rate > 0).then_some(Bytes(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit() {
        assert_eq!(parse_rate("20MiB/s"), Ok(Bytes(20 << 20)));
        assert_eq!(parse_rate("5 MB/s"), Ok(Bytes(5_000_000)));
        assert_eq!(parse_rate("1GiB"), Ok(Bytes(1 << 30)));
        for bad in [
            "",
            "20",
            "MiB",
            "0MiB/s",
            "-1MB",
            "1.5MB",
            "20Mbit/s",
            "99999999999GiB",
        ] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_by_which_nothing_ends_is_none() {
        for slow in ["1B", "1B/s", "1kB/s", "4095B"] {
            let told = parse_rate(slow).unwrap_err();
            assert!(told.contains("4KiB/s is the least"), "{slow}: {told}");
        }
        assert_eq!(parse_rate("4KiB/s"), Ok(LEAST));
    }
}
