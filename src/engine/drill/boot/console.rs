//! What a machine says on its serial console: lines without colours, as they may be printed, and no
//! more of them than fits. What it says is hostile.

use super::marks::{BootSign, asks_for_login, is_timers, is_wanting, sign};
use crate::model::clip;
use crate::model::printable::one_line;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The longest line; what is longer becomes several.
const MOST_LINE: usize = 1000;
/// What is kept of the beginning, and as much of the end, in bytes.
const KEPT: usize = 256 << 10;

/// What stands in lines by which systemd says that something has failed.
const COMPLAINTS: [&str; 4] = ["FAILED", "DEPEND", "[ TIME ]", "Timed out"];
/// Most of these lines that are told, and the longest part of one.
const MOST_COMPLAINTS: usize = 2;
const MOST_COMPLAINT: usize = 90;

/// What is being left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EscapeState {
    Text,
    Escape,
    /// Until a letter (ECMA-48, CSI).
    Sequence,
    /// Until its end (ECMA-48, OSC).
    Title,
}

/// A line that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedLine {
    pub sign: BootSign,
    pub line: String,
}

impl SignedLine {
    pub(super) fn new(sign: BootSign, line: &str) -> Self {
        let line = clip(&one_line(line.trim()), MOST_LINE / 5);
        Self { sign, line }
    }
}

/// Nothing has to be said for so long after a prompt for a login, and after what is an end.
const PROMPT_STANDS: Duration = Duration::from_millis(1500);
const END_STANDS: Duration = Duration::from_secs(5);
/// What is said so many lines later was no end.
const GOES_ON: u32 = 60;

/// What was said so far.
pub(super) struct GuestConsole {
    state: EscapeState,
    line: Vec<u8>,
    first: String,
    last: VecDeque<String>,
    last_bytes: usize,
    left_out: u64,
    /// What it has reached.
    up: Option<SignedLine>,
    /// The newest end that it told of, and how many lines ago.
    down: Option<SignedLine>,
    since_down: u32,
    heard: Instant,
    has_kernel: bool,
    timers: u32,
    is_wanting: bool,
    complaints: Vec<String>,
}

impl GuestConsole {
    pub(super) fn new() -> Self {
        Self {
            state: EscapeState::Text,
            line: Vec::new(),
            first: String::new(),
            last: VecDeque::new(),
            last_bytes: 0,
            left_out: 0,
            up: None,
            down: None,
            since_down: 0,
            heard: Instant::now(),
            has_kernel: false,
            timers: 0,
            is_wanting: false,
            complaints: Vec::new(),
        }
    }

    /// Takes what was said next.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.take_byte(byte);
        }
        self.heard = Instant::now();
    }

    /// The line that says that it is up: a target, or a prompt that stands.
    pub(super) fn up(&self) -> Option<SignedLine> {
        let prompt = || {
            let line = self.open_line().filter(|line| asks_for_login(line))?;
            let stands = self.heard.elapsed() >= PROMPT_STANDS;
            stands.then(|| SignedLine::new(BootSign::Up("login"), &line))
        };
        self.up.clone().or_else(prompt)
    }

    /// The line that says that it goes no further, and after which it has not.
    pub(super) fn down(&self) -> Option<SignedLine> {
        let open = self.open_line().and_then(|line| {
            let is_end = |sign: &BootSign| matches!(sign, BootSign::Down(_));
            let sign = sign(&line).filter(is_end)?;
            Some(SignedLine::new(sign, &line))
        });
        let stands = self.heard.elapsed() >= END_STANDS;
        open.or_else(|| self.down.clone()).filter(|_| stands)
    }

    /// How often it has said that it waited for something too long, by its own clock.
    pub(super) fn timers(&self) -> u32 {
        self.timers
    }

    /// Whether it has said that it lacks memory, or something of its processor.
    pub(super) fn is_wanting(&self) -> bool {
        self.is_wanting
    }

    /// Whether a kernel has said anything.
    pub(super) fn has_kernel(&self) -> bool {
        self.has_kernel
    }

    /// The first lines by which systemd says that something has failed.
    pub(super) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// The last lines, up to so many bytes.
    pub(super) fn last_lines(&self, most: usize) -> String {
        let open = self.open_line();
        let done = self.last.iter().rev().map(String::as_str);
        let first = self.first.lines().rev();
        let mut lines: Vec<&str> = Vec::new();
        let mut left = most;
        for line in open.as_deref().into_iter().chain(done).chain(first) {
            if line.len() + 2 > left {
                break;
            }
            left -= line.len() + 2;
            lines.push(line);
        }
        lines.reverse();
        lines.join("\n")
    }

    /// All that is kept.
    pub(super) fn text(&self) -> String {
        let mut text = self.first.clone();
        if self.left_out > 0 {
            text.push_str(&format!("({} bytes are left out here)\n", self.left_out));
        }
        for line in self
            .last
            .iter()
            .map(String::as_str)
            .chain(self.open_line().as_deref())
        {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn take_byte(&mut self, byte: u8) {
        use EscapeState::{Escape, Sequence, Text, Title};
        self.state = match (self.state, byte) {
            (_, 0x1b) => Escape,
            (Text, b'\n' | b'\r') => {
                self.end_line();
                Text
            }
            (Text, byte) => {
                // Others move a cursor, or ring.
                if byte >= b' ' || byte == b'\t' {
                    self.line.push(byte);
                }
                if self.line.len() >= MOST_LINE {
                    self.end_line();
                }
                Text
            }
            (Escape, b'[') => Sequence,
            (Escape, b']') => Title,
            (Escape, _) => Text,
            (Sequence, 0x40..=0x7e) => {
                // The cursor goes elsewhere.
                if matches!(byte, b'H' | b'f' | b'J') {
                    self.end_line();
                }
                Text
            }
            (Title, 0x07 | b'\n') => Text,
            (state, _) => state,
        };
    }

    fn open_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.line);
        let text = one_line(text.trim_end()).into_owned();
        (!text.is_empty()).then_some(text)
    }

    fn look_at(&mut self, line: &str) {
        self.since_down = self.since_down.saturating_add(1);
        if self.since_down > GOES_ON {
            self.down = None;
        }
        match sign(line) {
            Some(sign @ BootSign::Up(_)) => {
                self.up.get_or_insert_with(|| SignedLine::new(sign, line));
            }
            Some(sign @ BootSign::Down(_)) => {
                self.down = Some(SignedLine::new(sign, line));
                self.since_down = 0;
            }
            // Others went on in its line.
            None if asks_for_login(line) && !line.ends_with("login:") => {
                let login = || SignedLine::new(BootSign::Up("login"), line);
                self.up.get_or_insert_with(login);
            }
            None => {}
        }
        self.has_kernel |= line.contains("Linux version ");
        self.timers = self.timers.saturating_add(u32::from(is_timers(line)));
        self.is_wanting |= is_wanting(line);
        let mut signs = COMPLAINTS.iter();
        if self.complaints.len() < MOST_COMPLAINTS && signs.any(|sign| line.contains(sign)) {
            self.complaints.push(clip(line, MOST_COMPLAINT));
        }
    }

    fn end_line(&mut self) {
        let line = self.open_line();
        self.line.clear();
        let Some(line) = line else {
            return;
        };
        self.look_at(&line);
        if self.last.is_empty() && self.first.len() + line.len() < KEPT {
            self.first.push_str(&line);
            self.first.push('\n');
            return;
        }
        self.last_bytes += line.len() + 1;
        self.last.push_back(line);
        while self.last_bytes > KEPT {
            let Some(line) = self.last.pop_front() else {
                break;
            };
            self.last_bytes -= line.len() + 1;
            self.left_out += line.len() as u64 + 1;
        }
    }
}

/// The lines of a screen of letters, from its memory: a letter and its colours each.
pub(super) fn screen_lines(memory: &[u8]) -> Vec<String> {
    let rows = memory.chunks(160).map(|row| {
        let letters = row.iter().step_by(2);
        let row: String = letters
            .map(|&byte| match byte {
                b' '..=b'~' => char::from(byte),
                _ => ' ',
            })
            .collect();
        row.trim_end().to_owned()
    });
    rows.filter(|row| !row.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_and_a_prompt_is_seen_without_an_end() {
        let mut console = GuestConsole::new();
        let said = b"\x1b[2J\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mbasic.target\r\r\n\
            \x1b]0;title\x07ba\xffd \x07\r\nweb login";
        said.chunks(3).for_each(|part| console.take(part));
        console.take(b": ");
        // It has not stood for long.
        assert_eq!(console.up(), None);
        console.heard -= END_STANDS;
        assert_eq!(console.up().unwrap().line, "web login:");
        assert_eq!(console.down(), None);
        let text = console.text();
        assert!(
            text.starts_with("  OK  ] Reached target basic.target\nba"),
            "{text:?}"
        );
        assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
        assert_eq!(console.last_lines(14), "web login:");
        for number in 0..9 {
            let line = format!("\r[\x1b[0;1;31mFAILED\x1b[0m] Failed to mount {number}\n");
            console.take(line.as_bytes());
        }
        assert_eq!(console.complaints().len(), MOST_COMPLAINTS);
        assert_eq!(console.complaints()[0], "[FAILED] Failed to mount 0");
    }

    #[test]
    fn an_end_after_which_it_goes_on_is_none() {
        let mut console = GuestConsole::new();
        console.take(b"Press Enter for maintenance\n");
        assert_eq!(console.down(), None);
        console.heard -= END_STANDS;
        assert!(console.down().is_some());
        for number in 0..GOES_ON {
            console.take(format!("it goes on {number}\n").as_bytes());
        }
        console.heard -= END_STANDS;
        assert!(console.down().is_some());
        console.take(b"and on\n(initramfs) ");
        assert_eq!(console.down, None);
        console.heard -= END_STANDS;
        assert_eq!(console.down().unwrap().line, "(initramfs)");
        // A part of a line is none.
        console.take(b"\nuse this login:");
        console.take(b" admin\nweb login: [ 3.1] the kernel\n");
        assert_eq!(console.up().unwrap().line, "web login: [ 3.1] the kernel");
        assert!(console.timers() == 0 && !console.is_wanting());
    }

    #[test]
    fn what_is_kept_has_a_bound_and_has_both_ends() {
        let mut console = GuestConsole::new();
        console.take(b"the first line\n");
        for number in 0..100_000 {
            console.take(format!("line {number} of very many\n").as_bytes());
        }
        console.take(&[b'x'; 3 << 20]);
        console.take(b"\nthe last line\n");
        let text = console.text();
        assert!(text.len() < 2 * KEPT + 3 * MOST_LINE, "{}", text.len());
        assert!(text.starts_with("the first line\n") && text.ends_with("the last line\n"));
        assert!(text.contains("bytes are left out here"));
        assert!(console.last_lines(400).ends_with("the last line"));
        assert!(console.last_lines(400).len() <= 400);
    }

    #[test]
    fn a_screen_of_letters_is_read() {
        let mut memory = vec![0; 4000];
        for (at, letter) in b"host login:".iter().enumerate() {
            memory[320 + 2 * at] = *letter;
            memory[320 + 2 * at + 1] = 7;
        }
        assert_eq!(screen_lines(&memory), ["host login:"]);
        assert!(screen_lines(&[]).is_empty());
    }
}
