//! Lists, tables and ends of texts, each with a bound: runners keep only the end of what is
//! printed.

use crate::model::clip;
pub use crate::model::counted;
use crate::model::printable::one_line;
use comfy_table::Table;
use std::fmt::Write;

/// Most bytes of one line of a list.
const MOST_LINE: usize = 1000;
/// Most bytes of the warnings in a document.
const MOST_WARNINGS: usize = 4000;

/// The cells of a row, each in one line whatever it holds.
pub fn cells<const N: usize>(row: [String; N]) -> [String; N] {
    row.map(|cell| one_line(&cell).into_owned())
}

/// A table's lines, without the blanks that fill up the last column.
pub fn table_text(table: &Table) -> String {
    let lines = table.lines();
    let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// The first lines of a list, about `most` bytes of them, and how many more there are: runners keep
/// only the end of what is printed, and the verdict comes after this.
pub fn listed(lines: impl IntoIterator<Item = String>, most: usize, where_else: &str) -> String {
    let (mut text, mut left_out) = (String::new(), 0);
    for line in lines {
        let line = clip(&one_line(&line), MOST_LINE);
        if left_out > 0 || text.len() + line.len() >= most {
            left_out += 1;
        } else {
            text.push_str(&line);
            text.push('\n');
        }
    }
    if left_out > 0 {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "... and {left_out} more lines like these: {where_else}"
        );
    }
    text
}

/// The end of a text for a document, `most` bytes of JSON at most; an ellipsis stands for what was
/// cut off.
pub fn tail(text: &str, most: usize) -> String {
    let mut room = most;
    let mut fits = |c: char| {
        let takes = match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..' ' => 6,
            c => c.len_utf8(),
        };
        let left = room.checked_sub(takes);
        room = left.unwrap_or_default();
        left.is_some()
    };
    let kept = text.chars().rev().take_while(|c| fits(*c));
    let kept: usize = kept.map(char::len_utf8).sum();
    match text.len() - kept {
        0 => text.into(),
        cut => format!("…{}", text.get(cut..).unwrap_or_default()),
    }
}

/// The first warnings of a document, and how many more there are.
pub fn first_warnings(warnings: &[String], where_else: &str) -> Vec<String> {
    let mut room = MOST_WARNINGS;
    let mut shown: Vec<String> = Vec::new();
    for warning in warnings {
        let warning = clip(warning, MOST_LINE);
        let Some(rest) = room.checked_sub(warning.len()) else {
            break;
        };
        room = rest;
        shown.push(warning);
    }
    if shown.len() < warnings.len() {
        let more = warnings.len() - shown.len();
        shown.push(format!("... and {more} more: {where_else}"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_cut_and_say_so() {
        let lines = |count| (0..count).map(|n| format!("warning: number {n}"));
        let all = listed(lines(10), 3000, "ask");
        assert_eq!(all.lines().count(), 10);
        let cut = listed(lines(5000), 3000, "ask");
        assert!(cut.len() < 3100, "{}", cut.len());
        let shown = cut.lines().count() - 1;
        let end = format!("... and {} more lines like these: ask", 5000 - shown);
        assert_eq!(cut.lines().last(), Some(end.as_str()));
        assert!(listed(["x".repeat(50_000)], 3000, "ask").len() < 1100);
        let warnings: Vec<String> = lines(5000).collect();
        let first = first_warnings(&warnings, "ask");
        assert!(first.iter().map(String::len).sum::<usize>() < MOST_WARNINGS + 100);
        let end = format!("... and {} more: ask", 5001 - first.len());
        assert_eq!(first.last(), Some(&end));
        assert_eq!(first_warnings(&warnings[..3], "ask"), warnings[..3]);
    }

    #[test]
    fn of_what_is_long_the_end_is_kept() {
        let json = |text: &str| json!(text).to_string().len() - 2;
        let texts = ["x", "\0", "ä", "\n", "\"", "\u{1b}[31m", "a\tb\u{fffd}"];
        for text in texts.map(|text| text.repeat(3000)) {
            let kept = tail(&text, 1000);
            assert!(kept.starts_with('…') && text.ends_with(&kept['…'.len_utf8()..]));
            assert!((990..=1003).contains(&json(&kept)), "{}", json(&kept));
        }
        for text in ["", "short\n", &"x".repeat(1000)] {
            assert_eq!(tail(text, 1000), text);
        }
    }
}
