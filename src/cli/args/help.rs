//! The arguments of `help`, and the list of pages below the list of commands.

use super::super::help::PAGES;
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint help rescue\n  stillpoint help job wait")]
pub struct HelpArgs {
    /// A page, or a command; none given: all of them are listed
    #[arg(value_name = "PAGE|COMMAND", num_args = 0..=2)]
    pub topic: Vec<String>,
    /// Write a man page for each command and each page into this folder
    #[arg(long, hide = true, value_name = "DIRECTORY", conflicts_with = "topic")]
    pub man_pages: Option<PathBuf>,
}

/// What stands below the list of commands.
pub fn after_commands() -> String {
    let mut text = String::from("Pages, for `stillpoint help PAGE`:\n");
    for page in &PAGES {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:<10} {}", page.name, page.about);
    }
    text + "\nExample:\n  stillpoint init /backup/vault\n  \
        stillpoint snapshot --vault /backup/vault vda\n  \
        stillpoint restore --vault /backup/vault latest /dev/vdb"
}
