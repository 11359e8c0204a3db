//! The pages for developers fit the house: rooms, files that they name, and their length.

use super::{complain, files};
use std::fs;
use std::path::Path;

const PAGES: [&str; 6] = [
    "ARCHITECTURE.md",
    "DECISIONS.md",
    "INVARIANTS.md",
    "LIMITS.md",
    "SKIPPED.md",
    "format/FORMAT.md",
];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_map_of_the_house_is_short_and_names_each_room() {
    let map = page("ARCHITECTURE.md");
    let lines = map.lines().count();
    assert!(lines <= 120, "ARCHITECTURE.md: {lines} lines");
    let mut wrong = Vec::new();
    for room in super::FLOORS.iter().copied().flatten() {
        if !map.contains(&format!("\n| `{room}` |")) {
            wrong.push(format!("ARCHITECTURE.md has no row for {room}"));
        }
    }
    complain(&wrong);
}

/// What stands between two backticks and looks like a file of the house.
fn named_files(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|code| {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
        let is_file = [".rs", ".c", ".md"]
            .iter()
            .any(|ending| code.ends_with(ending));
        is_file && code.contains('/') && code.chars().all(is_path) && !code.starts_with('/')
    })
}

#[test]
fn each_file_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    let mut wrong = Vec::new();
    let all = files("src");
    for name in PAGES {
        let text = page(name);
        for file in named_files(&text) {
            found += 1;
            let is_there = root.join("src").join(file).exists() || root.join(file).exists();
            // The kernel's files have its folders.
            let kernel = ["block/", "kernel/", "drivers/", "fs/", "arch/", "include/"];
            if !is_there && !kernel.iter().any(|folder| file.starts_with(folder)) {
                wrong.push(format!("{name}: no file {file}"));
            }
        }
    }
    assert!(found > 20 && !all.is_empty(), "{found} files were named");
    complain(&wrong);
}
