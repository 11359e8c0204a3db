//! `help`: what a command takes, and the pages for people. They are part of the binary: on the
//! worst day nothing else may be there. It must never need a vault, a network, or root.

mod catalog;
mod man;
mod page;
mod pager;
#[cfg(test)]
mod tests;
mod text;

pub use catalog::PAGES;

use super::args::{CommandLine, Common, HelpArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::report::Report;
use clap::CommandFactory;
use serde_json::json;

/// Columns of a page.
const WIDTH: usize = 80;

pub fn run(args: &HelpArgs, common: &Common) -> Result<Report> {
    if let Some(folder) = &args.man_pages {
        let count = man::write(folder)?;
        let said = format!("wrote {count} man pages to {}", folder.display());
        let document = json!({"topic": "", "text": said, "man_pages": count});
        return Ok(Report::done(document, said));
    }
    let text = help_text(&args.topic)?;
    let document = json!({"topic": args.topic.join(" "), "text": text});
    if !common.json && pager::show(&text) {
        return Ok(Report::done(document, ""));
    }
    Ok(Report::done(document, text))
}

/// A page, or the help of a command.
fn help_text(topic: &[String]) -> Result<String> {
    if let [name] = topic
        && let Some(page) = PAGES.iter().find(|page| page.name == name)
    {
        return Ok(text::wrapped(&page::blocks(page.markdown), WIDTH));
    }
    let mut commands = CommandLine::command();
    // Without this, usage lines do not name the commands above.
    commands.build();
    let mut command = &mut commands;
    for word in topic {
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("{:?} is neither a page nor a command", topic.join(" ")),
            )
            .with_hint("`stillpoint help` lists both")
        })?;
    }
    Ok(command.render_long_help().to_string())
}
