//! A disk drawn in lines, and how much of each part differs between two snapshots.

use crate::model::{BLOCK_SIZE, Bytes, Extent};
use std::fmt::Write;

/// Most signs of the drawing, and those of a line.
const MOST_SIGNS: u64 = 1024;
const LINE: u64 = 64;

/// Draws a disk of that size; `places` ascend and do not overlap. `.`: nothing differs there; `1`
/// to `9`: so many tenths, rounded down, 1 at least; `#`: all.
pub fn drawn(places: &[Extent], size: Bytes) -> String {
    let blocks = size.0.div_ceil(BLOCK_SIZE).max(1);
    let each = blocks.div_ceil(MOST_SIGNS) * BLOCK_SIZE;
    let signs = signs(places, size, each);
    let digits = format!("{:x}", size.0).len();
    let mut text = format!(
        "each sign is {} of {size}: \".\" the same, \"1\" to \"9\" tenths differ, \"#\" all\n",
        Bytes(each)
    );
    let lines = signs.as_bytes().chunks(LINE as usize);
    for (line, at) in lines.zip((0_u64..).step_by((LINE * each) as usize)) {
        let line = String::from_utf8_lossy(line);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "0x{at:0digits$x} {line}");
    }
    text
}

fn signs(places: &[Extent], size: Bytes, each: u64) -> String {
    let mut differ = vec![0_u64; size.0.div_ceil(each) as usize];
    for place in places {
        let end = place.end().0.min(size.0);
        let mut at = place.offset.0;
        while at < end {
            let next = end.min((at / each + 1) * each);
            differ[(at / each) as usize] += next - at;
            at = next;
        }
    }
    let starts = (0..).step_by(each as usize);
    let sign = |(differs, start): (u64, u64)| match differs {
        0 => '.',
        all if all == each.min(size.0 - start) => '#',
        some => ['1', '2', '3', '4', '5', '6', '7', '8', '9']
            [(some * 10 / each).clamp(1, 9) as usize - 1],
    };
    differ.into_iter().zip(starts).map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: u64 = BLOCK_SIZE;

    fn place(offset: u64, length: u64) -> Extent {
        Extent::new(Bytes(offset), Bytes(length))
    }

    #[test]
    fn each_sign_tells_the_share_of_its_part() {
        let size = Bytes(5 * EACH + EACH / 2);
        let places = [
            place(EACH, EACH / 2),
            place(2 * EACH, EACH + 1),
            place(5 * EACH, EACH / 2),
        ];
        assert_eq!(signs(&places, size, EACH), ".5#1.#");
        assert_eq!(signs(&[], size, EACH), "......");
        assert_eq!(signs(&[place(0, 9 * EACH)], size, EACH), "######");
    }

    #[test]
    fn a_drawing_has_a_bound_and_tells_where_each_line_begins() {
        let tib = Bytes(1 << 40);
        let text = drawn(&[place(1 << 39, 4096)], tib);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 17);
        assert!(
            lines[0].starts_with("each sign is 1.00 GiB of 1.00 TiB"),
            "{}",
            lines[0]
        );
        assert_eq!(lines[1], format!("0x00000000000 {}", ".".repeat(64)));
        assert_eq!(lines[9], format!("0x08000000000 1{}", ".".repeat(63)));
        assert_eq!(drawn(&[], Bytes(512)).lines().nth(1), Some("0x000 ."));
    }
}
