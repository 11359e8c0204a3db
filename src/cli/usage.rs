//! Wrong usage: one sentence that says what is wrong, with a hint of what would be right. It must
//! never show a value from the environment.

use super::args::CommandLine;
use super::output::{PATIENCE, conclude_error, verdict, write_patiently};
use crate::error::{Error, ErrorKind};
use crate::model::exit::{DONE, USAGE, exit};
use clap::error::{ContextKind, ContextValue, ErrorKind as Refusal};
use clap::{Command, CommandFactory};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// Prints what clap reports; `--help` and `--version` exit with success.
pub fn refused(error: &clap::Error) -> ExitCode {
    // Printing fails only when the reader is gone.
    if !error.use_stderr() {
        let _ = error.print();
        return exit(DONE);
    }
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let as_json = given.iter().any(|arg| arg == "--json");
    let mut meant = meant_by(&given);
    if error.kind() == Refusal::MissingSubcommand {
        let message = "a command is missing";
        if !as_json {
            let text = format!("{}\n{}\n", meant.render_help(), verdict(message));
            let _ = write_patiently(std::io::stderr().as_fd(), &text, PATIENCE);
            return exit(USAGE);
        }
        let hint = format!("`{} --help` lists them", name(&meant));
        return conclude_error(&Error::new(ErrorKind::Usage, message).with_hint(hint), true);
    }
    conclude_error(&explained(error, &mut meant), as_json)
}

/// Clap's error as one of ours.
fn explained(error: &clap::Error, meant: &mut Command) -> Error {
    let said = error.render().to_string();
    let (message, hint) = match missing(error, meant) {
        Some(both) => both,
        None => (sentence(&said), hint(&said, meant)),
    };
    Error::new(ErrorKind::Usage, message).with_hint(hint)
}

/// The message and hint for a command that takes names or `--all` and got neither.
fn missing(error: &clap::Error, meant: &Command) -> Option<(String, String)> {
    let lacks = |name: &str| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(all)) => all.iter().any(|one| one.starts_with(name)),
        _ => false,
    };
    if error.kind() != Refusal::MissingRequiredArgument {
        return None;
    }
    let (message, hint) = match meant.get_name() {
        "snapshot" if lacks("<DISKS>") => (
            "no disk was named",
            "name disks, as in `stillpoint snapshot vda`, or take all of them with --all; \
             `stillpoint disks` lists them",
        ),
        "mirror" if lacks("--to") => (
            "no second place was named",
            "name it with --to: a directory, s3://bucket/prefix, or a name from the configuration",
        ),
        "verify" if lacks("<IDS>") => (
            "no snapshot was named",
            "name snapshots, as in `stillpoint verify latest`, or check all of them with --all",
        ),
        _ => return None,
    };
    Some((message.into(), hint.into()))
}

/// The command that the words name, or as much of it as they name. It does not see the environment.
fn meant_by(given: &[OsString]) -> Command {
    let mut command = CommandLine::command();
    command.build();
    for word in given {
        if let Some(next) = command.find_subcommand(word) {
            command = next.clone();
        }
    }
    command
}

fn name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or(command.get_name())
}

/// Clap's own tips, and the usage of the command.
fn hint(said: &str, meant: &mut Command) -> String {
    let tips = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "));
    let tips: String = tips.map(|tip| format!("{tip}; ")).collect();
    let usage = meant.render_usage().to_string();
    let usage: Vec<&str> = usage.split_whitespace().skip(1).collect();
    let (usage, name) = (usage.join(" "), name(meant));
    format!("{tips}usage: {usage}; `{name} --help` shows all")
}

/// The first paragraph of clap's message, as one line.
fn sentence(text: &str) -> String {
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty());
    let words: Vec<&str> = paragraph.flat_map(str::split_whitespace).collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    line.trim_end_matches(['.', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn said(words: &[&str]) -> (String, String) {
        let given: Vec<OsString> = words.iter().map(OsString::from).collect();
        let all = ["stillpoint"].iter().chain(words);
        let error = CommandLine::try_parse_from(all).unwrap_err();
        let error = explained(&error, &mut meant_by(&given));
        (error.to_string(), error.hint().unwrap().to_owned())
    }

    #[test]
    fn what_is_wrong_is_said_once_with_what_would_be_right() {
        let (message, hint) = said(&["snapshot"]);
        assert_eq!(message, "no disk was named");
        assert!(hint.contains("--all"), "{hint}");
        let (message, hint) = said(&["verify"]);
        assert!(
            message == "no snapshot was named" && hint.contains("--all"),
            "{hint}"
        );
        let (message, hint) = said(&["snapshot", "vda", "--al-blocks"]);
        assert_eq!(message, "unexpected argument '--al-blocks' found");
        assert!(
            hint.starts_with("a similar argument exists: '--all-blocks'; usage: "),
            "{hint}"
        );
        let (_, hint) = said(&["restore", "--vault", "secret", "latest", "--format", "vmdk"]);
        let usage = "usage: stillpoint restore [OPTIONS] <ID> [TARGET]; ";
        assert_eq!(
            hint,
            format!("{usage}`stillpoint restore --help` shows all")
        );
        let (_, hint) = said(&["job", "list", "more"]);
        assert!(
            hint.contains("usage: stillpoint job list [OPTIONS]; "),
            "{hint}"
        );
    }
}
