//! Man pages of the commands and of the pages, for `scripts/install` and packages. It writes into
//! the directory that it is given, and must never write anywhere else.

use super::catalog::{PAGES, Page};
use super::page::{Block, Span, blocks};
use crate::cli::args::CommandLine;
use crate::error::{Error, ErrorKind, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use std::fs;
use std::path::Path;

/// The manual section of pages that belong to no command.
const SECTION: &str = "7";
const VERSION: &str = concat!("stillpoint ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "Stillpoint";
/// None, so that the same sources give the same pages; written out, as the next one would else be
/// taken for it.
const DATE: &str = "\"\"";

/// Writes all man pages, and returns how many.
pub fn write(folder: &Path) -> Result<usize> {
    let failed = |error: std::io::Error| {
        Error::new(
            ErrorKind::Io,
            format!("cannot write man pages to {}", folder.display()),
        )
        .with_hint("name a folder that is there and can be written to")
        .with_source(error)
    };
    let mut all = CommandLine::command();
    // Without this, the commands below it do not know their whole names.
    all.build();
    write_commands(&all, folder).map_err(failed)?;
    for page in &PAGES {
        let name = format!("stillpoint-{}.{SECTION}", page.name);
        fs::write(folder.join(name), roff(page)).map_err(failed)?;
    }
    let written = fs::read_dir(folder).map_err(failed)?.flatten();
    let ours = written.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("stillpoint")
    });
    Ok(ours.count())
}

/// Writes the pages of a command and of those below it.
fn write_commands(command: &Command, folder: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        write_commands(below, folder)?;
    }
    let page = Man::new(command.clone())
        .date(DATE)
        .source(VERSION)
        .manual(MANUAL);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = with_backslashes(&String::from_utf8_lossy(&text));
    fs::write(folder.join(page.get_filename()), text)
}

/// Escapes backslashes as all readers of roff know it: two of them are one in definitions only.
fn with_backslashes(text: &str) -> String {
    text.replace(r"\\", r"\e")
}

/// A page for `man`.
pub fn roff(page: &Page) -> String {
    let mut roff = Roff::new();
    let name = format!("stillpoint-{}", page.name);
    roff.control("TH", [&*name, SECTION, DATE, VERSION, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {}", page.about))]);
    roff.control("SH", ["DESCRIPTION"]);
    for block in blocks(page.markdown) {
        match block {
            // NAME says the same.
            Block::Title(_) => {}
            Block::Heading(spans) => {
                roff.control("SH", []);
                roff.text(inlines(&spans));
            }
            Block::Paragraph(spans) => {
                roff.control("PP", []);
                roff.text(inlines(&spans));
            }
            Block::Item(mark, spans) => {
                roff.control("IP", [&*mark, "4"]);
                roff.text(inlines(&spans));
            }
            Block::Entry(first, rest) => {
                if first.is_empty() {
                    roff.control("IP", []);
                } else {
                    roff.control("TP", []);
                    roff.text(inlines(&first));
                }
                for (number, cell) in rest.iter().enumerate() {
                    if number > 0 {
                        roff.control("br", []);
                    }
                    roff.text(inlines(cell));
                }
            }
            Block::Code(lines) => {
                roff.control("PP", []);
                roff.control("nf", []);
                roff.control("RS", ["4"]);
                for line in lines.lines() {
                    roff.text([roman(line)]);
                }
                roff.control("RE", []);
                roff.control("fi", []);
            }
        }
    }
    with_backslashes(&roff.render())
}

fn inlines(spans: &[Span]) -> Vec<Inline> {
    let shown = spans.iter().map(|span| match span {
        Span::Plain(words) => roman(words),
        Span::Strong(words) | Span::Code(words) => bold(words),
    });
    shown.collect()
}
