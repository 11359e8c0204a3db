//! `completions`: what a shell needs to complete command lines. It must never need a vault, a
//! network, or root, nor offer what is hidden from users.

use super::args::{CommandLine, CompletionsArgs, ShellArg};
use crate::error::Result;
use crate::report::Report;
use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use serde_json::json;

pub fn run(args: &CompletionsArgs) -> Result<Report> {
    let shell = match args.shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
    };
    let script = script(shell);
    let name = args.shell.to_possible_value();
    let name = name.as_ref().map(|value| value.get_name());
    let document = json!({"shell": name, "script": script});
    Ok(Report::done(document, script))
}

fn script(shell: Shell) -> String {
    let line = CommandLine::command();
    let mut shown = without_hidden(&line)
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true);
    let mut script = Vec::new();
    generate(shell, &mut shown, line.get_name(), &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command, and those below it, without arguments that are hidden: clap offers these, too.
fn without_hidden(command: &Command) -> Command {
    // Clap keeps names for as long as the process lasts, which prints this and ends.
    let name: &'static str = Box::leak(command.get_name().into());
    let about = command.get_about().cloned().unwrap_or_default();
    let arguments = command.get_arguments().filter(|one| !one.is_hide_set());
    let below = command.get_subcommands().filter(|one| !one.is_hide_set());
    Command::new(name)
        .about(about)
        .disable_help_subcommand(true)
        .args(arguments.cloned())
        .groups(command.get_groups().map(emptied))
        .subcommands(below.map(without_hidden))
}

/// The name of a group alone, as its members may be hidden; rules of arguments refer to it.
fn emptied(group: &clap::ArgGroup) -> clap::ArgGroup {
    clap::ArgGroup::new(group.get_id().clone()).multiple(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_offered() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for hidden in ["as-job", "man-pages"] {
                assert!(!script.contains(hidden), "{shell} offers {hidden}");
            }
            for shown in ["unmount", "password-file", "keep-within", "version"] {
                assert!(script.contains(shown), "{shell} lacks {shown}");
            }
        }
    }
}
