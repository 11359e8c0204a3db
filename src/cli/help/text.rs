//! A page as text for a terminal or a file. It must never hold a control character.

use super::page::{Block, Span};

/// Columns by which the body of an item or entry is indented.
const INDENT: usize = 4;

/// The blocks, filled to `width` columns; code is not filled.
pub fn wrapped(blocks: &[Block], width: usize) -> String {
    let mut text = String::new();
    let mut before: Option<&Block> = None;
    for block in blocks {
        let listed = |block: &Block| matches!(block, Block::Item(..));
        if before.is_some_and(|before| !(listed(before) && listed(block))) {
            text.push('\n');
        }
        before = Some(block);
        match block {
            Block::Title(spans) => underlined(&mut text, spans, '='),
            Block::Heading(spans) => underlined(&mut text, spans, '-'),
            Block::Paragraph(spans) => fill(&mut text, spans, "", 0, width),
            Block::Item(mark, spans) => fill(&mut text, spans, mark, INDENT, width),
            Block::Entry(first, rest) => {
                fill(&mut text, first, "", 0, width);
                let pad = " ".repeat(INDENT);
                rest.iter()
                    .for_each(|cell| fill(&mut text, cell, &pad, INDENT, width));
            }
            Block::Code(lines) => {
                for line in lines.lines() {
                    text.push_str(format!("{:INDENT$}{line}", "").trim_end());
                    text.push('\n');
                }
            }
        }
    }
    text
}

fn words(spans: &[Span]) -> String {
    let shown = spans.iter().map(|span| match span {
        Span::Code(words) => format!("`{words}`"),
        Span::Plain(words) | Span::Strong(words) => words.clone(),
    });
    shown.collect()
}

fn underlined(text: &mut String, spans: &[Span], with: char) {
    let words = words(spans);
    text.push_str(&words);
    text.push('\n');
    text.extend(std::iter::repeat_n(with, words.chars().count()));
    text.push('\n');
}

/// Fills lines with the words. The first begins with `mark`, and all are indented by `indent`.
fn fill(text: &mut String, spans: &[Span], mark: &str, indent: usize, width: usize) {
    let mut line = format!("{mark:indent$}");
    let mut empty = true;
    for word in words(spans).split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
