//! The protocol byte by byte, in each of its styles, by a client that says what others never would.

use super::image::{BLOCKS, SIZE, Stage};
use super::server::Served;
use crate::support::model::Chance;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::ObjectName;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const BLOCK_STATUS: u16 = 7;
pub const DF: u16 = 4;

const OPTION: u64 = 0x4948_4156_454f_5054;
pub const ACK: u32 = 1;
pub const REFUSED: u32 = 1 << 31;

/// How replies come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Old,
    Simple,
    Structured,
    Extended,
}

pub const STYLES: [Style; 4] = [
    Style::Old,
    Style::Simple,
    Style::Structured,
    Style::Extended,
];

/// A client.
pub struct Client {
    pub stream: UnixStream,
    pub style: Style,
    /// Where the last request began.
    offset: u64,
}

/// One chunk of a reply, or all of it.
#[derive(Debug)]
pub struct Chunk {
    pub kind: u16,
    pub is_last: bool,
    pub cookie: u64,
    pub payload: Vec<u8>,
}

impl Client {
    /// One that has just connected, and heard the greeting.
    pub fn connect(served: &Served) -> Self {
        Self::greeted(&served.socket(), 3)
    }

    /// The same, of any server, with these flags.
    pub fn greeted(socket: &Path, flags: u32) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).unwrap();
        stream.set_write_timeout(limit).unwrap();
        let mut client = Self::of(stream);
        let hello = client.take(18);
        assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
        client.say(&flags.to_be_bytes());
        client
    }

    fn of(stream: UnixStream) -> Self {
        let (style, offset) = (Style::Simple, 0);
        Self {
            stream,
            style,
            offset,
        }
    }

    /// One that has come as far as to requests.
    pub fn at(served: &Served, style: Style) -> Self {
        Self::connect(served).agree(style)
    }

    /// The same, if there is room for it.
    pub fn try_at(served: &Served, style: Style) -> Option<Self> {
        let mut stream = UnixStream::connect(served.socket()).unwrap();
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).unwrap();
        stream.read_exact(&mut [0; 18]).ok()?;
        let mut client = Self::of(stream);
        client.say(&3_u32.to_be_bytes());
        Some(client.agree(style))
    }

    /// Goes on as far as to requests.
    fn agree(mut self, style: Style) -> Self {
        let client = &mut self;
        client.style = style;
        match style {
            Style::Old => {
                client.option(1, b"vda");
                let reply = client.take(10);
                assert_eq!(reply[..8], SIZE.to_be_bytes());
                return self;
            }
            Style::Simple => {}
            Style::Structured => assert_eq!(client.ask(8, b""), [(ACK, vec![])]),
            Style::Extended => assert_eq!(client.ask(11, b""), [(ACK, vec![])]),
        }
        if style != Style::Simple {
            let query = [&text(b"vda")[..], &[0, 0, 0, 1], &text(b"base:allocation")].concat();
            let replies = client.ask(10, &query);
            assert_eq!(replies.len(), 2, "{replies:?}");
        }
        let replies = client.ask(7, &[&text(b"vda")[..], &[0, 0]].concat());
        assert_eq!(replies.last().unwrap().0, ACK);
        self
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether the server has ended it.
    pub fn is_over(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        let length = data.len() as u32;
        let head = [&OPTION.to_be_bytes()[..], &option.to_be_bytes()].concat();
        self.say(&[&head[..], &length.to_be_bytes(), data].concat());
    }

    /// The answers to an option, up to the one that ends them.
    pub fn ask(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.option(option, data);
        let mut replies = Vec::new();
        loop {
            let head = self.take(20);
            assert_eq!(head[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
            assert_eq!(u32_at(&head, 8), option);
            let reply = u32_at(&head, 12);
            let payload = self.take(u32_at(&head, 16) as usize);
            replies.push((reply, payload));
            if reply == ACK || reply & REFUSED != 0 {
                return replies;
            }
        }
    }

    pub fn request(&mut self, command: u16, flags: u16, offset: u64, length: u64) {
        self.offset = offset;
        let is_extended = self.style == Style::Extended;
        let magic: u32 = if is_extended {
            0x21e4_1c71
        } else {
            0x2560_9513
        };
        let mut header = magic.to_be_bytes().to_vec();
        header.extend(flags.to_be_bytes());
        header.extend(command.to_be_bytes());
        header.extend(77_u64.to_be_bytes());
        header.extend(offset.to_be_bytes());
        if is_extended {
            header.extend(length.to_be_bytes());
        } else {
            header.extend((length as u32).to_be_bytes());
        }
        self.say(&header);
    }

    /// The next chunk; a simple reply is a chunk without its bytes, whose kind is the error.
    pub fn chunk(&mut self) -> Chunk {
        let is_extended = self.style == Style::Extended;
        if matches!(self.style, Style::Old | Style::Simple) {
            let head = self.take(16);
            assert_eq!(u32_at(&head, 0), 0x6744_6698);
            return Chunk {
                kind: u32_at(&head, 4) as u16,
                is_last: true,
                cookie: u64_at(&head, 8),
                payload: Vec::new(),
            };
        }
        let head = self.take(if is_extended { 32 } else { 20 });
        let magic = if is_extended {
            0x6e8a_278c
        } else {
            0x668e_33ef
        };
        assert_eq!(u32_at(&head, 0), magic);
        if is_extended {
            assert_eq!(u64_at(&head, 16), self.offset);
        }
        let length = match is_extended {
            true => u64_at(&head, 24) as usize,
            false => u32_at(&head, 16) as usize,
        };
        Chunk {
            kind: (u32_at(&head, 4) & 0xffff) as u16,
            is_last: head[5] & 1 == 1,
            cookie: u64_at(&head, 8),
            payload: self.take(length),
        }
    }

    /// Reads a part of the disk, however it comes; an error's number, if it is one.
    pub fn read(&mut self, flags: u16, offset: u64, length: u64) -> Result<Vec<u8>, u32> {
        self.request(READ, flags, offset, length);
        let mut bytes = vec![0xee; length as usize];
        // Where each chunk stands that has come.
        let mut covered = vec![false; length as usize];
        loop {
            let chunk = self.chunk();
            assert_eq!(chunk.cookie, 77);
            if matches!(self.style, Style::Old | Style::Simple) {
                return match chunk.kind {
                    0 => Ok(self.take(length as usize)),
                    errno => Err(errno.into()),
                };
            }
            if chunk.kind & 1 << 15 != 0 {
                assert!(chunk.is_last);
                return Err(u32_at(&chunk.payload, 0));
            }
            let at = (u64_at(&chunk.payload, 0) - offset) as usize;
            let count = match chunk.kind {
                1 => chunk.payload.len() - 8,
                2 => u32_at(&chunk.payload, 8) as usize,
                kind => panic!("a chunk of kind {kind}"),
            };
            match chunk.kind {
                1 => bytes[at..][..count].copy_from_slice(&chunk.payload[8..]),
                _ => bytes[at..][..count].fill(0),
            }
            let here = &mut covered[at..][..count];
            assert!(count > 0 && !here.contains(&true), "{at} comes twice");
            here.fill(true);
            if chunk.is_last {
                assert!(!covered.contains(&false), "a part did not come");
                return Ok(bytes);
            }
        }
    }

    /// Writes; the error's number, or 0.
    pub fn write(&mut self, flags: u16, offset: u64, bytes: &[u8]) -> u32 {
        let payload = match self.style {
            Style::Extended => 1 << 5,
            _ => 0,
        };
        self.request(WRITE, flags | payload, offset, bytes.len() as u64);
        self.say(bytes);
        self.outcome()
    }

    /// The error's number that a command gets.
    pub fn refused(&mut self, command: u16, flags: u16, offset: u64, length: u64) -> u32 {
        self.request(command, flags, offset, length);
        self.outcome()
    }

    pub fn outcome(&mut self) -> u32 {
        let chunk = self.chunk();
        match self.style {
            Style::Old | Style::Simple => chunk.kind.into(),
            _ if chunk.kind == 0 => 0,
            _ => u32_at(&chunk.payload, 0),
        }
    }
}

pub fn text(words: &[u8]) -> Vec<u8> {
    [&(words.len() as u32).to_be_bytes()[..], words].concat()
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn all_styles_read_the_same() {
    let stage = Stage::new();
    let served = Served::new(vec![("vda", stage.image())]);
    for style in STYLES {
        let mut client = Client::at(&served, style);
        let mut chance = Chance(17);
        for _ in 0..300 {
            let offset = chance.below(SIZE);
            let most = [1, 700, 3 * BLOCK_SIZE, SIZE][chance.below(4) as usize];
            let most = most.min(SIZE - offset);
            let length = 1 + chance.below(most);
            let expected = &stage.truth[offset as usize..][..length as usize];
            let read = client.read(0, offset, length).unwrap();
            assert!(read == expected, "{style:?}: {offset}, {length} bytes");
        }
        client.request(2, 0, 0, 0);
        assert!(client.is_over());
    }
}

#[test]
fn what_cannot_be_done_is_an_error_and_the_next_request_is_heard() {
    let stage = Stage::new();
    let served = Served::new(vec![("vda", stage.image())]);
    let (eperm, einval, eoverflow) = (1, 22, 75);
    for style in STYLES {
        let mut client = Client::at(&served, style);
        for round in 0..3 {
            client.request(WRITE, 0, 0, 100_000);
            client.say(&vec![7; 100_000]);
            let chunk = client.chunk();
            let said = match style {
                Style::Old | Style::Simple => chunk.kind.into(),
                _ => u32_at(&chunk.payload, 0),
            };
            assert_eq!(said, eperm);
            for (command, flags, offset, length, errno) in [
                (4, 0, 0, 512, eperm),
                (6, 0, 0, 512, eperm),
                (READ, 0, SIZE, 1, einval),
                (READ, 0, SIZE - 1, 2, einval),
                (READ, 0, u64::MAX, 2, einval),
                (READ, 0, 0, 0, einval),
                (READ, 1 << 9, 0, 512, einval),
                (99, 0, 0, 512, einval),
                // A flush, and what shall be got before it is asked for.
                (3, 0, 0, 0, 0),
                (5, 0, 0, SIZE, 0),
                (5, 0, 1, SIZE, einval),
            ] {
                let said = client.refused(command, flags, offset, length);
                assert_eq!(said, errno, "{style:?}: {command} {offset} {length}");
            }
            let df = client.refused(READ, DF, 0, 1 << 20);
            match style {
                Style::Old | Style::Simple => assert_eq!(df, einval),
                _ => assert_eq!(df, eoverflow),
            }
            let status = client.refused(BLOCK_STATUS, 0, SIZE - 1, 2);
            assert_eq!(status, einval, "{style:?}");
            if style != Style::Extended {
                // It brings nothing along, whatever it claims.
                assert_eq!(client.refused(READ, 1 << 5, 0, 28), einval);
            }
            let read = client.read(0, round, 9000).unwrap();
            assert!(read == stage.truth[round as usize..][..9000]);
        }
        if matches!(style, Style::Structured | Style::Extended) {
            client.request(READ, DF, 0, 3 * BLOCK_SIZE);
            let chunk = client.chunk();
            assert!(chunk.is_last && chunk.kind == 1);
            assert!(chunk.payload[8..] == stage.truth[..3 * BLOCK_SIZE as usize]);
        }
    }
}

#[test]
fn runs_cover_what_was_asked_for_and_one_is_one() {
    let stage = Stage::new();
    let served = Served::new(vec![("vda", stage.image())]);
    for style in [Style::Structured, Style::Extended] {
        let mut client = Client::at(&served, style);
        let entry = if style == Style::Extended { 16 } else { 8 };
        for (flags, offset, length) in [(0, 0, SIZE), (8, 0, SIZE), (0, 700, 3 * BLOCK_SIZE)] {
            client.request(BLOCK_STATUS, flags, offset, length);
            let chunk = client.chunk();
            let (kind, head) = if entry == 16 { (6, 8) } else { (5, 4) };
            assert!(chunk.is_last && chunk.kind == kind && u32_at(&chunk.payload, 0) == 1);
            let mut at = offset;
            let runs = chunk.payload[head..].chunks_exact(entry);
            let count = runs.len();
            for run in runs {
                let (long, state) = match entry {
                    16 => (u64_at(run, 0), u64_at(run, 8) as u32),
                    _ => (u32_at(run, 0).into(), u32_at(run, 4)),
                };
                let bytes = &stage.truth[at as usize..(at + long) as usize];
                assert!(state == 0 || state == 3 && bytes.iter().all(|byte| *byte == 0));
                at += long;
            }
            match flags {
                8 => assert_eq!(count, 1),
                _ => assert_eq!(at, offset + length),
            }
        }
    }
    // Who has not agreed on it is refused.
    let mut client = Client::connect(&served);
    client.style = Style::Structured;
    client.ask(8, b"");
    client.ask(7, &[&text(b"vda")[..], &[0, 0]].concat());
    assert_eq!(client.refused(BLOCK_STATUS, 0, 0, 512), 22);
}

#[test]
fn damage_is_an_error_for_its_place_alone() {
    let stage = Stage::new();
    let block = (1..BLOCKS).find(|block| stage.place(*block).is_some_and(|(_, slot)| slot == 1));
    let block = block.unwrap();
    let (segment, slot) = stage.place(block).unwrap();
    let footer = stage.vault.check_segment(segment).unwrap();
    let at = footer.slot(slot).unwrap().offset as usize;
    stage
        .store
        .corrupt(&ObjectName::segment(segment), |bytes| bytes[at + 30] ^= 1);
    let served = Served::new(vec![("vda", stage.image())]);
    let place = block * BLOCK_SIZE;
    for style in STYLES {
        let mut client = Client::at(&served, style);
        // Also where a simple reply would be under way already.
        for (offset, length) in [(place, 512), (place - 10, 20), (0, SIZE)] {
            assert_eq!(
                client.read(0, offset, length),
                Err(5),
                "{style:?}: {offset}"
            );
        }
        for other in (0..BLOCKS).filter(|other| *other != block) {
            let start = other * BLOCK_SIZE;
            let read = client.read(0, start, BLOCK_SIZE).unwrap();
            assert!(
                read == stage.truth[start as usize..][..BLOCK_SIZE as usize],
                "{other}"
            );
        }
    }
    let mut client = Client::at(&served, Style::Structured);
    client.request(READ, 0, place + 7, 512);
    let chunk = client.chunk();
    assert_eq!(chunk.kind, 1 << 15 | 2);
    let words = String::from_utf8_lossy(&chunk.payload[6..chunk.payload.len() - 8]).into_owned();
    assert!(words.contains(&format!("bytes {place}..")), "{words}");
    let offset = u64_at(&chunk.payload, chunk.payload.len() - 8);
    assert_eq!(offset, place + 7);
    std::thread::sleep(Duration::from_millis(300));
    let troubles = served.troubles.lock().unwrap().clone();
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    assert!(troubles[0].contains(&format!("bytes {place}..")));
}
