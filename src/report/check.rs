//! What the place of a vault can and cannot do, and which settings fit.

use super::text::counted;
use super::{Report, asked};
use crate::model::exit::{BELOW, DONE, FAILED};
use crate::model::printable::one_line;
use crate::store::{CheckRow, RowState, StoreCheck};
use serde_json::{Value, json};
use std::fmt::Write;

/// What `check` reports.
pub fn report(found: &StoreCheck) -> Report {
    let json = json!({
        "location": found.location,
        "rows": found.rows.iter().map(document).collect::<Vec<_>>(),
        "round_trip_ms": found.round_trip.map(|time| time.as_micros() as f64 / 1000.0),
        "settings": found.settings,
        "left_behind": found.left_behind,
        "requests": found.requests,
    });
    let worst = found.worst();
    let mut report = Report::done(json, text(found));
    report.code = match worst {
        RowState::Good | RowState::Unknown => DONE,
        RowState::Warning => BELOW,
        RowState::Bad => FAILED,
    };
    report
}

fn document(row: &CheckRow) -> Value {
    json!({
        "name": row.name,
        "state": match row.state {
            RowState::Good => "good",
            RowState::Unknown => "unknown",
            RowState::Warning => "warning",
            RowState::Bad => "bad",
        },
        "found": row.found,
        "remedy": row.remedy,
    })
}

fn text(found: &StoreCheck) -> String {
    let mut text = String::new();
    for row in &found.rows {
        let mark = match row.state {
            RowState::Good => "ok",
            RowState::Unknown => "??",
            RowState::Warning => "! ",
            RowState::Bad => "!!",
        };
        let name = row.name.replace('_', " ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark}  {name}: {}", one_line(&row.found));
        if let Some(remedy) = &row.remedy {
            let _ = writeln!(text, "      {}", one_line(remedy));
        }
    }
    if let Some(requests) = &found.requests {
        let _ = writeln!(text, "{}", asked(requests));
    }
    let bad = found.rows.iter().any(|row| row.state == RowState::Bad);
    if !bad && !found.settings.is_empty() {
        let _ = writeln!(text, "in config.toml:");
        for line in &found.settings {
            let _ = writeln!(text, "  {}", one_line(line));
        }
    }
    let warnings = found.rows.iter();
    let warnings = warnings
        .filter(|row| row.state == RowState::Warning)
        .count();
    let place = one_line(&found.location);
    let _ = match (bad, warnings) {
        (true, _) => write!(text, "no vault can be kept in {place} as it is"),
        (false, 0) => write!(text, "a vault can be kept in {place}"),
        (false, count) => write!(
            text,
            "a vault can be kept in {place}, with {}",
            counted(count, "warning")
        ),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_row_decides() {
        let row = |state| CheckRow {
            name: "left_behind",
            state,
            found: "found".into(),
            remedy: Some("remedy".into()),
        };
        let checked = |states: &[RowState]| {
            report(&StoreCheck {
                location: "place".into(),
                rows: states.iter().map(|state| row(*state)).collect(),
                settings: vec!["[vaults.NAME]".into()],
                ..StoreCheck::default()
            })
        };
        let good = checked(&[RowState::Good, RowState::Unknown]);
        assert_eq!(good.code, DONE);
        assert!(
            good.text
                .ends_with("  [vaults.NAME]\na vault can be kept in place")
        );
        let warned = checked(&[RowState::Warning, RowState::Good]);
        assert_eq!(warned.code, BELOW);
        assert!(
            warned
                .text
                .starts_with("!   left behind: found\n      remedy\n")
        );
        assert!(
            warned.text.ends_with("place, with 1 warning"),
            "{}",
            warned.text
        );
        let bad = checked(&[RowState::Bad, RowState::Warning]);
        assert_eq!(bad.code, FAILED);
        assert!(!bad.text.contains("[vaults") && bad.text.ends_with("in place as it is"));
    }
}
