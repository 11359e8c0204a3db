//! The house rules that a program can check: how long files, functions and lines are, who imports
//! whom, where `unsafe` stands, that every file says what it is for, and that no test is forgotten.

mod circles;
mod docs;
mod names;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, top floor first; those of one floor do not import each other.
const FLOORS: &[&[&str]] = &[
    &["cli"],
    &["report"],
    &["fleet"],
    &["client", "job", "plan", "notify"],
    &["config"],
    &["engine"],
    &["capture", "restore", "export"],
    &["track", "freeze", "hooks", "store"],
    &["device", "format", "helper"],
    &["sys", "model", "error"],
];

struct File {
    path: PathBuf,
    text: String,
}

fn files(folder: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|ending| ending == "rs" || ending == "c")
            {
                let text = fs::read_to_string(&path).unwrap();
                found.push(File { path, text });
            }
        }
    }
    assert!(found.len() > 5, "the files of {folder} were found");
    found
}

fn complain(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The code of a file without its tests.
fn product(file: &File) -> &str {
    if file.path.ends_with("tests.rs") {
        return "";
    }
    let tests = "\n#[cfg(test)]\nmod tests";
    file.text.split(tests).next().unwrap_or_default()
}

#[test]
fn files_and_lines_are_short() {
    let mut wrong = Vec::new();
    for file in files("src").into_iter().chain(files("tests")) {
        let lines = file.text.lines().count();
        if lines > 500 {
            wrong.push(format!("{}: {lines} lines", file.path.display()));
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            if line.chars().count() > 100 {
                wrong.push(format!(
                    "{}:{number}: over 100 characters",
                    file.path.display()
                ));
            }
        }
    }
    complain(&wrong);
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for file in files("src") {
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in (1..).zip(file.text.lines()) {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            let starts = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn "];
            if open.is_none() && starts.iter().any(|start| code.starts_with(start)) {
                open = Some((number, indent, code.to_owned()));
            }
            let ends =
                line.trim_end() == format!("{}}}", " ".repeat(indent)) || code.ends_with("{}");
            if let Some((first, depth, name)) =
                open.take_if(|(_, depth, _)| ends && *depth == indent)
            {
                let _ = depth;
                if number - first > 70 {
                    wrong.push(format!(
                        "{}:{first}: {name}: over 70 lines",
                        file.path.display()
                    ));
                }
            }
        }
    }
    complain(&wrong);
}

#[test]
fn every_file_says_what_it_is_for() {
    let rust = files("src").into_iter().chain(files("tests"));
    let wrong: Vec<String> = rust
        .filter(|file| file.path.extension().is_some_and(|ending| ending == "rs"))
        .filter(|file| !file.text.starts_with("//!") && !file.text.starts_with("#![doc = "))
        .map(|file| format!("{}: starts without //!", file.path.display()))
        .collect();
    complain(&wrong);
}

#[test]
fn imports_go_down_only() {
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut wrong = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files("src") {
        let inside = file.path.strip_prefix(&root).unwrap();
        let first = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let room = first.strip_suffix(".rs").unwrap_or(first);
        let Some(here) = floor(room) else { continue };
        for (number, line) in (1..).zip(product(&file).lines()) {
            for part in line.split("crate::").skip(1) {
                let end = part
                    .find(|c: char| !c.is_ascii_lowercase())
                    .unwrap_or(part.len());
                let other = &part[..end];
                let Some(there) = floor(other) else { continue };
                let anyone = matches!(other, "model" | "error");
                if other != room && there <= here && !anyone {
                    wrong.push(format!(
                        "{}:{number}: {room} uses {other}",
                        inside.display()
                    ));
                }
            }
        }
    }
    complain(&wrong);
}

#[test]
fn unsafe_code_stands_in_sys_alone_and_nothing_is_left_to_do() {
    let mut wrong = Vec::new();
    for file in files("src") {
        let in_sys = file.path.components().any(|part| part.as_os_str() == "sys");
        for (number, line) in (1..).zip(product(&file).lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let place = format!("{}:{number}", file.path.display());
            if code.contains("unsafe {") && !in_sys {
                wrong.push(format!("{place}: unsafe outside sys"));
            }
            for word in ["todo!(", "unimplemented!(", "dbg!(", ".unwrap()"] {
                if code.contains(word) {
                    wrong.push(format!("{place}: {word}"));
                }
            }
            if code.contains("#[allow(") || code.contains("#![allow(") {
                wrong.push(format!("{place}: allow instead of expect with a reason"));
            }
        }
    }
    complain(&wrong);
}

#[test]
fn the_command_line_alone_knows_its_parser() {
    let mut wrong = Vec::new();
    for file in files("src") {
        let in_cli = file.path.components().any(|part| part.as_os_str() == "cli");
        if !in_cli && file.text.contains("clap") {
            wrong.push(format!("{}: names clap", file.path.display()));
        }
    }
    complain(&wrong);
}

#[test]
fn no_test_file_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let main = fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(area) = name.strip_suffix(".rs").filter(|area| *area != "main") {
            assert!(
                main.contains(&format!("\nmod {area};")),
                "tests/{name} is never run"
            );
        }
    }
}

/// What the README says outside of tables and blocks of code, a paragraph or item a string.
fn said(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        let apart = ["```", "|", "#", "- "]
            .iter()
            .any(|start| line.starts_with(start));
        if apart || line.is_empty() {
            paragraphs.push(String::new());
        }
        let shown = in_code
            || ["```", "|", "#"]
                .iter()
                .any(|start| line.starts_with(start));
        if !shown {
            let paragraph = paragraphs.last_mut().unwrap();
            paragraph.push_str(line);
            paragraph.push(' ');
        }
    }
    paragraphs
}

#[test]
fn the_readme_is_a_page_of_short_sentences() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).unwrap();
    let first = text
        .lines()
        .position(|line| line.starts_with("## Five minutes"));
    assert!(
        first.is_some_and(|lines| lines <= 80),
        "the first page: {first:?} lines"
    );
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| line.chars().count() > 300) {
        wrong.push(format!("README.md: over 300 characters: {line}"));
    }
    for paragraph in said(&text) {
        let ends = paragraph.replace("? ", ". ").replace("! ", ". ");
        for sentence in ends.split(". ") {
            let words = sentence.split_whitespace().count();
            if words >= 25 {
                wrong.push(format!("README.md: {words} words: {sentence}"));
            }
        }
    }
    complain(&wrong);
}
