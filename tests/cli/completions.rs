//! What shells complete, in the shells themselves: bash and fish are asked what they would offer,
//! zsh whether it takes the function for the command's.

use super::lab::PROGRAM;
use crate::support::host::{run as tool, skipped};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The file that a shell reads, in a folder of its own.
fn written(shell: &str, name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, tool(PROGRAM, &["completions", shell])).unwrap();
    (folder, file)
}

/// Whether there is such a shell; reports it when not.
fn is_there(shell: &str) -> bool {
    let found = Command::new(shell).args(["-c", "true"]).output().is_ok();
    if !found {
        skipped("cli: completions", &format!("no {shell}"));
    }
    found
}

/// The commands that the program lists.
fn commands() -> BTreeSet<String> {
    let help = tool(PROGRAM, &["--help"]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let starts = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = starts.filter_map(|line| line.split_whitespace().next());
    let names: BTreeSet<String> = names.map(Into::into).collect();
    assert!(names.len() > 20, "{names:?}");
    names
}

/// What bash offers for the last of these words.
fn bash(file: &Path, words: &[&str]) -> BTreeSet<String> {
    let script = "source \"$1\"; shift
        COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))
        complete -p stillpoint >&2 || exit 1
        _stillpoint stillpoint \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let file = file.to_str().unwrap();
    let fixed = ["--norc", "--noprofile", "-c", script, "bash", file];
    let said = tool("bash", &[&fixed, words].concat());
    said.lines().map(Into::into).collect()
}

fn is_offered(offered: &BTreeSet<String>, all: &[&str], none: &[&str]) {
    for word in all {
        assert!(offered.contains(*word), "{word} is not in {offered:?}");
    }
    for word in none {
        assert!(!offered.contains(*word), "{word} is in {offered:?}");
    }
}

#[test]
fn bash_completes_commands_options_and_values() {
    let (_folder, file) = written("bash", "stillpoint");
    let first = bash(&file, &["stillpoint", ""]);
    let missing: Vec<_> = commands().difference(&first).cloned().collect();
    assert!(missing.is_empty(), "{missing:?} are not offered");
    let second = bash(&file, &["stillpoint", "sn"]);
    assert_eq!(second, BTreeSet::from(["snapshot".into()]));
    let wait = bash(&file, &["stillpoint", "job", "w"]);
    assert_eq!(wait, BTreeSet::from(["wait".into()]));
    let options = bash(&file, &["stillpoint", "snapshot", "--"]);
    is_offered(&options, &["--level", "--vault", "--json"], &["--as-job"]);
    let options = bash(&file, &["stillpoint", "help", "--"]);
    is_offered(&options, &["--json"], &["--man-pages"]);
    let formats = bash(&file, &["stillpoint", "restore", "--format", ""]);
    assert_eq!(formats, BTreeSet::from(["qcow2".into(), "raw".into()]));
}

#[test]
fn fish_completes_commands_and_options() {
    if !is_there("fish") {
        return;
    }
    let (_folder, file) = written("fish", "stillpoint.fish");
    let offered = |line: &str| -> BTreeSet<String> {
        let script = format!("source {}; complete -C {line:?}", file.display());
        let said = tool("fish", &["--no-config", "-c", &script]);
        let words = said.lines().filter_map(|line| line.split('\t').next());
        words.map(Into::into).collect()
    };
    let first = offered("stillpoint ");
    let missing: Vec<_> = commands().difference(&first).cloned().collect();
    assert!(missing.is_empty(), "{missing:?} are not offered");
    is_offered(&offered("stillpoint job w"), &["wait"], &["list"]);
    let options = offered("stillpoint snapshot --");
    is_offered(&options, &["--level", "--json"], &["--as-job"]);
}

#[test]
fn zsh_takes_it_for_the_commands_completion() {
    if !is_there("zsh") {
        return;
    }
    let (folder, file) = written("zsh", "_stillpoint");
    tool("zsh", &["-f", "-n", file.to_str().unwrap()]);
    // -C and -D: neither looks at who owns the folders, nor leaves a dump of what it found.
    let script = format!(
        "fpath=({} $fpath); autoload -Uz compinit && compinit -u -D || exit 1
        print -r -- $_comps[stillpoint]; autoload +X _stillpoint && whence -w _stillpoint",
        folder.path().display()
    );
    let said = tool("zsh", &["-f", "-c", &script]);
    assert_eq!(said, "_stillpoint\n_stillpoint: function");
    let text = std::fs::read_to_string(&file).unwrap();
    let missing: Vec<_> = commands()
        .into_iter()
        .filter(|name| !text.contains(&format!("\n'{name}:")))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are not offered");
}
