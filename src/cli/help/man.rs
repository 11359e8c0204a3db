//! Man pages of the commands and of the pages, for `scripts/install`. It writes into the directory
//! that it is given, and must never write anywhere else.

use super::catalog::{PAGES, Page};
use super::page::{Block, Span, blocks};
use crate::cli::args::CommandLine;
use crate::error::{Error, ErrorKind, Result};
use clap::CommandFactory;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use std::fs;
use std::path::Path;

/// The manual section of pages that belong to no command.
const SECTION: &str = "7";
const VERSION: &str = concat!("stillpoint ", env!("CARGO_PKG_VERSION"));

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
    clap_mangen::generate_to(CommandLine::command(), folder).map_err(failed)?;
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

/// A page for `man`.
pub fn roff(page: &Page) -> String {
    let mut roff = Roff::new();
    let name = format!("stillpoint-{}", page.name);
    roff.control("TH", [&*name, SECTION, "", VERSION, "Stillpoint"]);
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
                roff.control("TP", []);
                roff.text(inlines(&first));
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
    roff.render()
}

fn inlines(spans: &[Span]) -> Vec<Inline> {
    let shown = spans.iter().map(|span| match span {
        Span::Plain(words) => roman(words),
        Span::Strong(words) | Span::Code(words) => bold(words),
    });
    shown.collect()
}
