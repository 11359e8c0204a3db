//! What is attached on this host of a test's own, told by its run directory and by the names that
//! its devices have.

use crate::support::host::attempt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Loop devices on our files, whoever's, and what is mounted below the folder in any namespace.
pub fn what_is_attached(run_dir: &Path) -> Vec<String> {
    let text = run_dir.to_str().unwrap();
    let mut found: Vec<String> = processes()
        .filter_map(|process| std::fs::read_to_string(process.join("mountinfo")).ok())
        .flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains(text))
        .collect();
    let said = attempt(
        "losetup",
        &["--list", "--noheadings", "--output", "NAME,BACK-FILE"],
    );
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    // One that has outlived its mounts shows the end of the path alone.
    let left = |line: &str| line.contains(" /stillpoint-overlay/");
    let ours = said
        .lines()
        .filter(|line| line.contains(text) || left(line));
    found.extend(ours.map(str::to_owned));
    found
}

/// All threads: each may have a view of its own.
fn processes() -> impl Iterator<Item = std::path::PathBuf> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok())
    });
    numbers.flat_map(|process| {
        let threads = std::fs::read_dir(process.path().join("task"));
        threads
            .into_iter()
            .flatten()
            .flatten()
            .map(|thread| thread.path())
    })
}

/// Waits for what the kernel takes down by itself, and for what tests beside this one have
/// attached.
#[track_caller]
pub fn assert_nothing_attached(run_dir: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let left = what_is_attached(run_dir);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
