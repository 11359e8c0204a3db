//! The pages say what is so: each can be reached and shown, loses no word on the way, and every
//! command line in them is one.

use super::page::{Block, Span, blocks};
use super::*;
use clap::Parser;
use clap::error::ErrorKind as ClapError;
use std::collections::BTreeSet;
use std::path::Path;

const README: &str = include_str!("../../../README.md");
/// What a pipe holds. More of a page could be lost on a reader who takes his time.
const PIPE: usize = 1 << 16;

fn topic(words: &str) -> Vec<String> {
    words.split(' ').map(Into::into).collect()
}

/// All that is written for people, by name.
fn sources() -> impl Iterator<Item = (&'static str, &'static str)> {
    let pages = PAGES.iter().map(|page| (page.name, page.markdown));
    pages.chain([("README", README)])
}

fn spans(block: &Block) -> Vec<&Span> {
    match block {
        Block::Title(spans) | Block::Heading(spans) | Block::Paragraph(spans) => {
            spans.iter().collect()
        }
        Block::Item(_, spans) => spans.iter().collect(),
        Block::Entry(first, rest) => first.iter().chain(rest.iter().flatten()).collect(),
        Block::Code(_) => Vec::new(),
    }
}

/// What is to be typed: the lines in blocks of code, and the words between backticks.
fn typed(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in blocks(markdown) {
        if let Block::Code(lines) = &block {
            let line = |line: &str| line.strip_prefix("# ").unwrap_or(line).to_owned();
            found.extend(lines.lines().map(line));
        }
        found.extend(spans(&block).into_iter().filter_map(|span| match span {
            Span::Code(words) => Some(words.clone()),
            _ => None,
        }));
    }
    found
}

/// clap says a default by itself: who writes it into the help of an option says it twice.
#[test]
fn no_option_says_its_default_twice() {
    fn look(command: &clap::Command, count: &mut usize) {
        for option in command.get_arguments() {
            let help = option.get_long_help().or(option.get_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            let says = help.contains("[usually") || help.contains("[default");
            let (name, command) = (option.get_id(), command.get_name());
            let is_shown = !option.get_default_values().is_empty();
            assert!(!(says && is_shown), "{command} {name}: {help}");
            *count += usize::from(is_shown);
        }
        command.get_subcommands().for_each(|one| look(one, count));
    }
    let (mut commands, mut count) = (CommandLine::command(), 0);
    commands.build();
    look(&commands, &mut count);
    assert!(count > 20, "{count} defaults");
}

/// What runs commands on instances keeps the end of what they print.
#[test]
fn every_page_is_whole_where_little_is_kept() {
    for page in &PAGES {
        let text = help_text(&topic(page.name)).unwrap();
        assert!(text.len() < 12_000, "{}: {} bytes", page.name, text.len());
    }
}

#[test]
fn every_page_is_listed_shown_and_linked() {
    let list = help_text(&[]).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/pages");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let embedded = PAGES.iter().any(|page| page.markdown == text);
        assert!(embedded, "no page is {}", path.display());
    }
    for page in &PAGES {
        let listed = format!("  {:<10} {}\n", page.name, page.about);
        assert!(list.contains(&listed), "{list}");
        assert!(
            README.contains(&format!("| [`{}`](", page.name)),
            "{}",
            page.name
        );
        let commands = CommandLine::command();
        assert!(
            commands.find_subcommand(page.name).is_none(),
            "{}",
            page.name
        );

        let text = help_text(&topic(page.name)).unwrap();
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("==="))
        );
        assert!(text.len() < PIPE, "{}: {}", page.name, text.len());
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
        for line in text.lines().filter(|line| !line.starts_with("    ")) {
            assert!(line.chars().count() <= WIDTH, "{}: {line}", page.name);
        }
    }
}

#[test]
fn a_command_says_the_same_as_with_its_option() {
    for command in ["", "snapshot", "job", "job wait", "help"] {
        let words = command.split_whitespace().map(String::from);
        let said = help_text(&words.clone().collect::<Vec<_>>()).unwrap();
        let line = ["stillpoint".into()].into_iter().chain(words);
        let option = CommandLine::try_parse_from(line.chain(["--help".into()])).unwrap_err();
        assert_eq!(said, option.to_string());
    }
    for unknown in ["nosuch", "job nosuch", "snapshot now", "rescue now"] {
        let error = help_text(&topic(unknown)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(unknown), "{error}");
    }
}

#[test]
fn every_command_line_that_is_written_is_one() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, markdown) in sources() {
        for text in typed(markdown) {
            if !text.starts_with("stillpoint ") {
                continue;
            }
            count += 1;
            let words = shlex::split(&text).unwrap();
            match CommandLine::try_parse_from(&words) {
                Ok(line) => {
                    if let crate::cli::args::Command::Help(args) = line.command {
                        help_text(&args.topic).unwrap_or_else(|_| panic!("{name}: {text}"));
                    }
                }
                Err(error) if error.kind() == ClapError::DisplayHelp => {}
                Err(error) => wrong.push(format!("{name}: {text}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 50, "only {count} were found");
}

#[test]
fn every_option_that_is_written_is_one() {
    let mut commands = CommandLine::command();
    commands.build();
    let mut known = BTreeSet::new();
    let mut left = vec![&commands];
    while let Some(command) = left.pop() {
        known.extend(command.get_arguments().filter_map(|arg| arg.get_long()));
        left.extend(command.get_subcommands());
    }
    for (name, markdown) in sources() {
        for text in typed(markdown) {
            let first = text.split([' ', '=']).next().unwrap_or_default();
            if let Some(option) = first.strip_prefix("--") {
                assert!(known.contains(option), "{name}: {text}");
            }
        }
    }
}

/// The words, without what Markdown or roff put around them.
fn words(text: &str) -> BTreeSet<&str> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    parts.filter(|word| !word.is_empty()).collect()
}

#[test]
fn no_word_of_a_page_is_lost() {
    for page in &PAGES {
        let lines: Vec<&str> = page.markdown.lines().collect();
        // The names of a table's columns are shown where there are more than two; the language of
        // a block of code never is.
        let head = |at: usize| {
            lines
                .get(at + 1)
                .is_some_and(|below| below.starts_with("|---"))
        };
        let kept = lines.iter().enumerate();
        let kept = kept.filter(|(at, line)| !head(*at) && !line.starts_with("```"));
        let source: String = kept.flat_map(|(_, line)| [line, "\n"]).collect();

        let text = help_text(&topic(page.name)).unwrap();
        let lost: Vec<_> = words(&source).difference(&words(&text)).copied().collect();
        assert!(lost.is_empty(), "{}: {lost:?}", page.name);
        let roff = man::roff(page).replace("\\e", " ").replace("\\-", "-");
        let roff = roff
            .replace("\\fB", " ")
            .replace("\\fR", " ")
            .replace("\\*(Aq", "'");
        let lost: Vec<_> = words(&source).difference(&words(&roff)).copied().collect();
        // The title is what the page is called.
        let title: BTreeSet<&str> = words(lines[0]);
        assert!(
            lost.iter().all(|word| title.contains(word)),
            "{}: {lost:?}",
            page.name
        );
    }
}

#[test]
fn blocks_are_told_apart_and_filled() {
    let markdown = "# One\n\nA *b* `c d` [e](f.md).\n\n1. first\n   goes on\n2. second\n\n\
        | x | y | z |\n|---|---|---|\n| 1 | 2 | 3 |\n| 4 | | 5 |\n\n```sh\n  .a \\b\n```\n";
    let blocks = blocks(markdown);
    assert_eq!(
        text::wrapped(&blocks, 12),
        "One\n===\n\nA b `c d` e\n(f.md).\n\n1.  first\n    goes on\n2.  second\n\n\
        1\n    y: 2\n    z: 3\n\n4\n    z: 5\n\n      .a \\b\n"
    );
}

#[test]
fn the_front_page_has_the_figures_that_were_measured() {
    let figures = PAGES.iter().find(|page| page.name == "figures").unwrap();
    let costs = README
        .split("\n## ")
        .find(|part| part.starts_with("What it costs"));
    let rows = costs
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(figures.markdown.contains(cells[1]), "{row}");
        for cell in &cells[2..] {
            assert!(figures.markdown.contains(cell), "{row}");
        }
        count += 1;
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn man_pages_are_written_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let count = man::write(folder.path()).unwrap();
    assert!(count > PAGES.len() + 15, "{count}");
    for name in [
        "stillpoint.1",
        "stillpoint-job-wait.1",
        "stillpoint-rescue.7",
    ] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    // Its footer names the program, not the last word of the command.
    let version = env!("CARGO_PKG_VERSION");
    for (name, title) in [("job-wait.1", "job-wait 1"), ("rescue.7", "rescue 7")] {
        let title = format!(".TH stillpoint-{title} \"\" \"stillpoint {version}\" Stillpoint\n");
        let text = page(&format!("stillpoint-{name}"));
        assert!(text.contains(&title), "{title} is not in {text}");
    }
    let archives = page("stillpoint-s3.7");
    assert!(
        archives.contains(r"\et") && !archives.contains(r"\\"),
        "{archives}"
    );
    let error = man::write(&folder.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}
