//! Parses a page's Markdown into the few blocks that both a terminal and a man page can show. It
//! must never lose words: what it does not know becomes text.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Words in one style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Plain text.
    Plain(String),
    /// Emphasised.
    Strong(String),
    /// To be typed, or printed by a program.
    Code(String),
}

impl Span {
    /// The words alone.
    pub fn words(&self) -> &str {
        match self {
            Self::Plain(words) | Self::Strong(words) | Self::Code(words) => words,
        }
    }
}

/// Words in several styles.
pub type Spans = Vec<Span>;

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// The page's title.
    Title(Spans),
    /// A heading below it.
    Heading(Spans),
    /// A paragraph, to be filled.
    Paragraph(Spans),
    /// An item of a list, with its mark: a number or a dash.
    Item(String, Spans),
    /// A row of a table: its first cell, and each other cell that is not empty, with the name of
    /// its column where there are several.
    Entry(Spans, Vec<Spans>),
    /// Lines that are not filled.
    Code(String),
}

/// The blocks of a page.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut reader = Reader::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        reader.take(event);
    }
    reader.blocks
}

#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    /// What was read of the current block.
    spans: Spans,
    strong: bool,
    /// The address of the current link.
    link: Option<String>,
    /// The next item's number, in a list that has them.
    number: Option<u64>,
    /// Set in an item until its first paragraph has ended.
    mark: Option<String>,
    code: Option<String>,
    columns: Vec<Spans>,
    row: Vec<Spans>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Code(words) => self.spans.push(Span::Code(words.into_string())),
            Event::SoftBreak | Event::HardBreak => self.text(" "),
            Event::Text(words) => self.text(&words),
            Event::Html(words) | Event::InlineHtml(words) => self.text(&words),
            _ => {}
        }
    }

    fn text(&mut self, words: &str) {
        if let Some(code) = &mut self.code {
            code.push_str(words);
        } else if self.strong {
            self.spans.push(Span::Strong(words.into()));
        } else {
            self.spans.push(Span::Plain(words.into()));
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::List(first) => {
                self.paragraph();
                self.number = first;
            }
            Tag::Item => {
                self.mark = Some(
                    self.number
                        .map_or("-".into(), |number| format!("{number}.")),
                );
                self.number = self.number.map(|number| number + 1);
            }
            Tag::CodeBlock(_) => {
                self.paragraph();
                self.code = Some(String::new());
            }
            Tag::Strong | Tag::Emphasis => self.strong = true,
            Tag::Link { dest_url, .. } => self.link = Some(dest_url.into_string()),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::Item => self.paragraph(),
            TagEnd::Heading(level) => {
                let spans = std::mem::take(&mut self.spans);
                self.blocks.push(match level {
                    pulldown_cmark::HeadingLevel::H1 => Block::Title(spans),
                    _ => Block::Heading(spans),
                });
            }
            TagEnd::CodeBlock => self.blocks.extend(self.code.take().map(Block::Code)),
            TagEnd::Strong | TagEnd::Emphasis => self.strong = false,
            TagEnd::Link => {
                if let Some(link) = self.link.take() {
                    self.text(&format!(" ({link})"));
                }
            }
            TagEnd::TableCell => self.row.push(std::mem::take(&mut self.spans)),
            TagEnd::TableHead => self.columns = std::mem::take(&mut self.row),
            TagEnd::TableRow => self.entry(),
            _ => {}
        }
    }

    fn paragraph(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        if spans.is_empty() {
            return;
        }
        self.blocks.push(match self.mark.take() {
            Some(mark) => Block::Item(mark, spans),
            None => Block::Paragraph(spans),
        });
    }

    fn entry(&mut self) {
        let mut cells = std::mem::take(&mut self.row).into_iter().zip(&self.columns);
        let Some((first, _)) = cells.next() else {
            return;
        };
        let named = self.columns.len() > 2;
        let rest = cells.filter(|(cell, _)| !cell.is_empty());
        let rest = rest.map(|(cell, column)| {
            if !named {
                return cell;
            }
            let name = column.iter().map(Span::words).collect::<String>();
            [vec![Span::Plain(format!("{name}: "))], cell].concat()
        });
        self.blocks.push(Block::Entry(first, rest.collect()));
    }
}
