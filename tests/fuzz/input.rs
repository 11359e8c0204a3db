//! Inputs: those that are kept in the repository, and how one becomes another.

use crate::support::model::Chance;
use std::fs;
use std::path::Path;

/// Numbers that decoders get wrong.
const NASTY: [u64; 14] = [
    0,
    1,
    2,
    0xff,
    0x200,
    0x4000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_fffe,
    0xffff_ffff,
    1 << 48,
    i64::MAX as u64,
    u64::MAX,
];

/// Pieces of what texts are made of.
const PIECES: [&str; 24] = [
    "\"",
    "\\",
    "\\u001b",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e400",
    "18446744073709551616",
    "\"\",\"\",\"\"",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\u{1b}]0;x\u{7}",
    "\u{202e}",
    "\u{9b}",
    "\n",
    "\\040",
    "2026-13-45T99:99:99Z",
    "EFI PART",
];

/// What is kept for one decoder, by name.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/fuzz")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Changes one place.
pub fn mutate(input: &mut Vec<u8>, kept: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len() as u64 + 1) as usize;
    let end = (at + chance.below(64) as usize).min(input.len());
    let nasty = NASTY[chance.below(NASTY.len() as u64) as usize];
    match chance.below(10) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = chance.next() as u8,
        2 => overwrite(input, at, &nasty.to_le_bytes()[..2 << chance.below(3)]),
        3 => overwrite(input, at, &nasty.to_be_bytes()[..2 << chance.below(3)]),
        4 => input.truncate(at),
        5 => drop(input.drain(at..end)),
        6 => {
            let again = input[at..end].repeat(1 + chance.below(40) as usize);
            input.splice(at..at, again);
        }
        7 => {
            let other = &kept[chance.below(kept.len() as u64) as usize];
            let from = chance.below(other.len() as u64 + 1) as usize;
            let most = chance.below(300) as usize;
            input.splice(at..end, other[from..].iter().copied().take(most));
        }
        8 => {
            let digits = nasty.to_string();
            let number = input[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let length = number.count();
            input.splice(at..at + length, digits.into_bytes());
        }
        _ => {
            let piece = PIECES[chance.below(PIECES.len() as u64) as usize];
            input.splice(at..at, piece.bytes());
        }
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    let at = at & !1;
    for (place, byte) in input.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}
