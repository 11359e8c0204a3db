//! Texts for people, as whole files in `tests/cli/golden`. They are what stands between a reworded
//! sentence and a hundred tests: other tests assert the kind and one marker.
//!
//! `STILLPOINT_RENEW_GOLDEN=1 scripts/test golden` writes them anew; `git diff` shows what changed
//! for users.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the files are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden")
}

/// The text is what the golden file of this name holds.
#[track_caller]
pub fn check(name: &str, text: &str) {
    if let Some(difference) = difference(name, text) {
        panic!("{difference}\n{MEANT}");
    }
}

/// What to do where the new words are right.
pub const MEANT: &str = "if that is meant: STILLPOINT_RENEW_GOLDEN=1 scripts/test golden";

/// The first line in which a text is other than the golden file of this name, in few words: who
/// runs tests elsewhere keeps the end of what they say.
pub fn difference(name: &str, text: &str) -> Option<String> {
    let file = folder().join(name).with_extension("txt");
    if std::env::var_os("STILLPOINT_RENEW_GOLDEN").is_some() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&file, text).unwrap();
        return None;
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    let (mut old, mut new) = (golden.lines(), text.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => {
                let (old, new) = (old.unwrap_or("(end)"), new.unwrap_or("(end)"));
                return Some(format!("{name}.txt:{number}: was {old:?}, is {new:?}"));
            }
        }
    }
    None
}

/// Puts words in the place of what differs from run to run and from host to host: names that are
/// given, IDs, loop devices, times, sizes, durations.
#[derive(Default)]
pub struct Normal {
    names: Vec<(String, &'static str)>,
    ids: Vec<String>,
}

impl Normal {
    /// This text is called so from now on.
    pub fn call(&mut self, text: &str, word: &'static str) {
        self.names.push((text.to_owned(), word));
    }

    /// The text without what differs. Lines that are the same then are one: how many places there
    /// are is the filesystem's business.
    pub fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        let is_word = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric());
        for (name, word) in self.names.iter().filter(|(name, _)| !is_word(name)) {
            text = text.replace(name, word);
        }
        let lines = text.lines().map(|line| squeezed(&self.line(line)));
        let mut lines: Vec<String> = lines.collect();
        lines.dedup_by(|one, other| one == other && !one.is_empty());
        lines.join("\n")
    }

    fn line(&mut self, line: &str) -> String {
        let (mut out, mut before) = (String::new(), "");
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = match first.is_ascii_alphanumeric() {
                true => word_length(rest),
                false => first.len_utf8(),
            };
            let (word, after) = rest.split_at(length);
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            if is_number && (out.ends_with("..") || is_counted(before, after)) {
                out.push('N');
                (before, rest) = (word, after);
                continue;
            }
            let (told, after) = self.word(word, after);
            out.push_str(&told);
            if first.is_ascii_alphanumeric() {
                before = word;
            }
            rest = after;
        }
        out
    }

    /// What stands for a word, and what is left of the line.
    fn word<'a>(&mut self, word: &str, after: &'a str) -> (String, &'a str) {
        if let Some((_, called)) = self.names.iter().find(|(name, _)| name == word) {
            return ((*called).to_owned(), after);
        }
        if is_id(word) {
            return (self.id(word), after);
        }
        if is_loop(word) {
            return ("LOOP".into(), after);
        }
        if word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return ("HASH".into(), after);
        }
        let unit = word.trim_start_matches(|letter: char| letter.is_ascii_digit());
        if unit == word {
            return (word.to_owned(), after);
        }
        if !unit.is_empty() {
            // `20ms`.
            let kind = after_quantity(unit).map(|found| found.0);
            return (kind.unwrap_or(word).to_owned(), after);
        }
        if let Some(after) = after_time(word, after) {
            return ("TIME".into(), after);
        }
        match after_quantity(after) {
            Some((kind, after)) => (kind.into(), after),
            None => (word.to_owned(), after),
        }
    }

    fn id(&mut self, word: &str) -> String {
        if word.len() < ID {
            return "PREFIX".into();
        }
        let known = self.ids.iter().position(|id| id == word);
        let place = known.unwrap_or_else(|| {
            self.ids.push(word.to_owned());
            self.ids.len() - 1
        });
        format!("ID-{}", place + 1)
    }
}

/// Whether a number between these is another one each time.
fn is_counted(before: &str, after: &str) -> bool {
    // What is asked of a vault depends on how many segments a disk stands in.
    let asked = [" put,", " get,", " size,", " list,", " delete;"];
    let of_these = ["..", " pass", " place", " files"]
        .iter()
        .chain(&asked)
        .any(|word| after.starts_with(word));
    of_these || ["epoch", "process", "slot"].contains(&before)
}

/// Letters of an ID.
const ID: usize = 26;

fn word_length(text: &str) -> usize {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric());
    end.unwrap_or(text.len())
}

/// An ID, or the six letters of one that rows of refusals use.
fn is_id(word: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    [6, 12, ID].contains(&word.len())
        && word.starts_with("01")
        && word.bytes().all(letters)
        && word.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_loop(word: &str) -> bool {
    let number = word.strip_prefix("loop").unwrap_or_default();
    number.starts_with(|letter: char| letter.is_ascii_digit())
}

/// What follows a time that begins with this year.
fn after_time<'a>(year: &str, after: &'a str) -> Option<&'a str> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let day = after.get(..6)?;
    if year.len() != 4 || !day.starts_with('-') || !digits(&day[1..3]) || &day[3..4] != "-" {
        return None;
    }
    let time = after[6..].trim_start_matches(['T', ' ']);
    Some(time.trim_start_matches(|letter: char| letter.is_ascii_digit() || ":.Z".contains(letter)))
}

/// What kind of quantity the digits before begin, and what follows it.
fn after_quantity(after: &str) -> Option<(&'static str, &str)> {
    let digits = |letter: char| letter.is_ascii_digit();
    let fraction = after
        .strip_prefix('.')
        .map(|rest| rest.trim_start_matches(digits));
    let rest = fraction.unwrap_or(after);
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let (unit, after) = rest.split_at(word_length(rest));
    match unit {
        "B" | "KiB" | "MiB" | "GiB" | "TiB" => Some(("SIZE", after)),
        "ns" | "us" | "µs" | "ms" | "s" => Some(("DURATION", after)),
        _ => None,
    }
}

/// Columns are as wide as what is in them.
fn squeezed(line: &str) -> String {
    let text = line.trim_start();
    let mut out = line[..line.len() - text.len()].to_owned();
    for (n, part) in text.split("  ").filter(|part| !part.is_empty()).enumerate() {
        if n > 0 {
            out.push_str("  ");
        }
        out.push_str(part.trim());
    }
    out
}

#[test]
fn what_differs_is_named_and_what_is_said_stays() {
    let mut normal = Normal::default();
    normal.call("/tmp/x", "DIR");
    normal.call("loop1", "DISK");
    let ids = ["01M8J7B89BZPS4GYK5YVVHY00E", "01M8J7B89BZPS4GYK5YVVHY00F"];
    let text = format!(
        "/dev/loop1 and loop10 in /tmp/x/y: 1.50 MiB, 20ms, 3 disks   at \
         2026-01-02T03:04:05.6Z\n  {0} {1} {0}",
        ids[0], ids[1]
    );
    let told = "/dev/DISK and LOOP in DIR/y: SIZE, DURATION, 3 disks  at TIME\n  ID-1 ID-2 ID-1";
    assert_eq!(normal.text(&text), told);
}
