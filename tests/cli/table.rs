//! Rows of what must be refused, and how each is checked: the exit code, one sentence that says
//! what happened, one that says what to do, and nothing left behind. Each row runs twice, for
//! people and with `--json`. The sentences of a table stand in a golden file.

use super::lab::{Disk, Lab, Run, finish, is_frozen, noise};
use crate::support::golden::{self, Normal};
use std::any::Any;

/// What a row's setting up leaves, undone when dropped.
pub type Held = Box<dyn Any>;

fn nothing(_: &Stage) -> Held {
    Box::new(())
}

/// What the rows share: a mounted disk with two snapshots in the vault.
pub struct Stage {
    pub disk: Disk,
    pub lab: Lab,
}

/// One row.
pub struct Row {
    name: &'static str,
    set_up: fn(&Stage) -> Held,
    /// `{disk}`, `{name}`, `{dir}` and `{prefix}` (of all IDs) are filled in.
    command: &'static str,
    code: i32,
}

/// A row that needs no setting up.
pub const fn row(name: &'static str, command: &'static str, code: i32) -> Row {
    Row {
        name,
        set_up: nothing,
        command,
        code,
    }
}

impl Row {
    /// The same after this.
    pub const fn after(self, set_up: fn(&Stage) -> Held) -> Self {
        Self { set_up, ..self }
    }
}

impl Stage {
    pub fn new(test: &str) -> Option<Self> {
        let lab = Lab::with_vault(test)?;
        let mut disk = lab.disk("disk", 24 << 20);
        let place = disk.mount("ext4");
        std::fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
        for _ in 0..2 {
            lab.run(&["snapshot", &disk.device]).expect(0);
        }
        Some(Self { disk, lab })
    }

    fn fill_in(&self, command: &str) -> Vec<String> {
        let listed = self.lab.vault_files();
        let snapshots = self.lab.path("vault/snapshots");
        let mut names = listed
            .iter()
            .filter(|(path, _)| path.starts_with(&snapshots));
        let prefix = names.next().map_or(String::new(), |(path, _)| {
            path.file_name().unwrap().to_str().unwrap()[..6].to_owned()
        });
        let text = command
            .replace("{disk}", &self.disk.device)
            .replace("{name}", self.disk.name())
            .replace("{dir}", &self.lab.at(""))
            .replace("{prefix}", &prefix);
        let words = text.split_whitespace();
        words.map(|word| word.replace("''", "")).collect()
    }

    fn run(&self, row: &Row, json: bool) -> Run {
        let mut args = self.fill_in(row.command);
        if json {
            args.push("--json".into());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match args.strip_prefix(&["NOBODY"]) {
            None => self.lab.run(&args),
            Some(args) => {
                let prefix = [
                    "setpriv",
                    "--reuid=65534",
                    "--regid=65534",
                    "--clear-groups",
                ];
                finish(&mut self.lab.command_with(&prefix, args))
            }
        }
    }

    /// Checks a row; what it says to people.
    fn check(&self, row: &Row) -> String {
        let _held = (row.set_up)(self);
        let before = self.lab.files();
        let run = self.run(row, false).expect(row.code);
        assert_eq!(run.stdout, "", "{}", row.name);
        let (message, hint) = two_sentences(row.name, &run.stderr);
        let run = self.run(row, true).expect(row.code);
        assert_eq!(run.stderr, "", "{}: --json", row.name);
        let error = run.json()["error"].clone();
        let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["hint", "kind", "message"], "{}", row.name);
        let again = error["message"].as_str().unwrap();
        assert_eq!(without_ids(again), without_ids(&message), "{}", row.name);
        assert_eq!(error["hint"], hint.as_str(), "{}", row.name);
        assert_eq!(self.lab.files(), before, "{}: files", row.name);
        assert!(self.lab.freeze_records().is_empty(), "{}", row.name);
        assert!(
            self.disk
                .mounted
                .as_ref()
                .is_none_or(|place| !is_frozen(place))
        );
        let (name, command) = (row.name, row.command);
        format!("{name}\n$ stillpoint {command}\n! hint: {hint}\n! stillpoint: {message}\n\n")
    }

    /// Checks all rows; what they say is what the golden file of this name holds.
    pub fn check_all(&self, rows: &[Row], golden: &str) {
        // All that is wrong is told at once.
        let (mut failed, mut texts) = (Vec::new(), Vec::new());
        for row in rows {
            let checked = std::panic::AssertUnwindSafe(|| self.check(row));
            match std::panic::catch_unwind(checked) {
                Ok(text) => texts.push(text),
                Err(_) => {
                    eprintln!("FAILED: {}", row.name);
                    failed.push(row.name);
                }
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
        let mut normal = Normal::default();
        normal.call(self.lab.dir.path().to_str().unwrap(), "/DIR");
        normal.call(self.disk.name(), "DISK");
        let texts: Vec<String> = texts.iter().map(|text| normal.text(text)).collect();
        golden::check(golden, &texts.join("\n"));
    }
}

/// Each run has another ID.
fn without_ids(text: &str) -> String {
    let words = text.split_inclusive(['/', ' ']);
    words.filter(|word| !word.starts_with("01")).collect()
}

/// What happened, and what to do, as people are told it: one line each.
pub fn two_sentences(name: &str, stderr: &str) -> (String, String) {
    // On a busy machine a run may have told how far it is.
    let begin = stderr.find("hint: ").unwrap_or_default();
    let lines: Vec<&str> = stderr[begin..].lines().collect();
    let [first, last] = lines[..] else {
        panic!("{name}: not a hint and a verdict: {stderr:?}");
    };
    let hint = first.strip_prefix("hint: ").expect(stderr);
    // The verdict is last: what a runner keeps is the end.
    let message = last.strip_prefix("stillpoint: ").expect(stderr);
    for text in [message, hint] {
        let one = text.len() > 8 && !text.contains(". ") && !text.ends_with(['.', ':']);
        assert!(one, "{name}: not one sentence: {text:?}");
    }
    (message.to_owned(), hint.to_owned())
}
