//! A moment, as people write it on a command line.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A day (its beginning, UTC) or a time like `2027-01-31T12:00:00Z`.
///
/// # Errors
/// It is neither; in words, with an example of each.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let day = || {
        // A time without a zone is no day: what it says of the hour would be dropped.
        let day: Date = text.parse().ok().filter(|_| !text.contains([':', 'T']))?;
        Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let words = "give a day like 2027-01-31, or a time like 2027-01-31T12:00:00Z";
    text.parse().ok().or_else(day).ok_or_else(|| words.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_beginning_and_all_else_is_refused() {
        let day = moment("2027-01-31").unwrap();
        assert_eq!(day, moment("2027-01-31T00:00:00Z").unwrap());
        assert_eq!(day, moment("2027-01-31T02:00:00+02:00").unwrap());
        for wrong in [
            "",
            "yesterday",
            "2027-02-30",
            "1700000000",
            "2027-01-31T12:00:00",
        ] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
