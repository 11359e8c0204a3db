//! The names of the files in an initramfs, read in place: archives of cpio one after another, each
//! as it is or packed, as the kernel's `init/initramfs.c` takes them. The image may be hostile or
//! huge: what is unpacked, remembered and waited for is bounded, and nothing of it is kept.
//!
//! `lsinitramfs`, `lsinitrd` and `unmkinitramfs` are not asked: each is a script of one family of
//! distributions, needs programs that a machine may lack, and looks at no other root than `/`.

use super::lz4_legacy::Lz4Legacy;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Instant;

/// Longest name of a file.
const NAME: u64 = 4096;

/// Most memory that an xz stream may ask for, in KiB: that of `xz -9`, and a half more.
const XZ_MEMORY: u32 = 100 << 10;

/// Largest window of a zstd frame: 128 MiB, that of `zstd --long`.
const ZSTD_WINDOW: u32 = 27;

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnpackLimits {
    /// Bytes that are read, and bytes that come of them.
    pub bytes: u64,
    /// Files named.
    pub files: usize,
    /// Until when.
    pub until: Instant,
}

/// Shows the name of each file in an image.
///
/// # Errors
/// It cannot be read to its end: damaged, packed in an unknown way, or beyond the limits.
pub(super) fn each_name(
    image: impl Read,
    limits: UnpackLimits,
    see: &mut dyn FnMut(&str),
) -> io::Result<()> {
    unpack(image, limits, see).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("it ends early: it is cut off, or damaged"),
        _ => error,
    })
}

fn unpack(image: impl Read, limits: UnpackLimits, see: &mut dyn FnMut(&str)) -> io::Result<()> {
    let mut names = Names {
        left: limits.files,
        see,
    };
    let mut input = BufReader::with_capacity(64 << 10, Bounded::new(image, limits));
    while let Some(head) = next_head(&mut input)? {
        let mut input = head.as_slice().chain(&mut input);
        if head.starts_with(b"0707") {
            names.archive(&mut input)?;
            continue;
        }
        let packed: Box<dyn Read + '_> = match head {
            [0x1f, 0x8b, ..] => Box::new(GzDecoder::new(input)),
            [0xfd, b'7', b'z', b'X', ..] => {
                Box::new(XzReader::new_mem_limit(input, false, XZ_MEMORY))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let mut frame = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
                frame.window_log_max(ZSTD_WINDOW)?;
                Box::new(frame)
            }
            [0x02, 0x21, 0x4c, 0x18, ..] => Box::new(Lz4Legacy::new(input)),
            [b'B', b'Z', b'h', ..] => return Err(bad("it is packed by bzip2, which is not read")),
            [0x5d, 0, 0, ..] => return Err(bad("it is packed by lzma, which is not read")),
            [0x89, b'L', b'Z', b'O', ..] => {
                return Err(bad("it is packed by lzop, which is not read"));
            }
            _ => return Err(bad("it is packed in a way that is not known, or damaged")),
        };
        let mut unpacked = BufReader::with_capacity(64 << 10, Bounded::new(packed, limits));
        // The end of lz4's old format is no mark: what was cut off there has no archive.
        let mut archives = 0;
        while let Some(head) = next_head(&mut unpacked)? {
            archives += 1;
            if !head.starts_with(b"0707") {
                return Err(bad("what is packed in it is no archive"));
            }
            names.archive(&mut head.as_slice().chain(&mut unpacked))?;
        }
        if archives == 0 {
            return Err(bad("a packed part of it is empty, or cut off"));
        }
    }
    Ok(())
}

fn bad(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// The first bytes of what comes next, behind the zeros that fill up; `None` at the end.
fn next_head(input: &mut impl BufRead) -> io::Result<Option<[u8; 6]>> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let more = zeros < buffer.len();
        input.consume(zeros);
        if more {
            break;
        }
    }
    let mut head = Vec::new();
    input.take(6).read_to_end(&mut head)?;
    // What is shorter is nothing that is known.
    head.resize(6, 0);
    Ok(head.try_into().ok())
}

/// Who is shown the names.
struct Names<'a> {
    left: usize,
    see: &'a mut dyn FnMut(&str),
}

impl Names<'_> {
    /// One archive, to its trailer. Format "newc": cpio(5), and the kernel's
    /// `Documentation/driver-api/early-userspace/buffer-format.rst`.
    fn archive(&mut self, input: &mut dyn Read) -> io::Result<()> {
        loop {
            let mut header = [0; 110];
            input.read_exact(&mut header)?;
            if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
                return Err(bad("an archive in it is damaged, or of an old format"));
            }
            let (length, name_length) = (field(&header, 6)?, field(&header, 11)?);
            if name_length == 0 || name_length > NAME {
                return Err(bad("an archive in it names a file by more than 4096 bytes"));
            }
            let mut name = Vec::new();
            let padded = (110 + name_length).next_multiple_of(4) - 110;
            input.take(padded).read_to_end(&mut name)?;
            if name.len() as u64 != padded {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if name == b"TRAILER!!!" {
                return Ok(());
            }
            let Some(left) = self.left.checked_sub(1) else {
                return Err(bad("it holds more files than are looked at"));
            };
            self.left = left;
            (self.see)(&String::from_utf8_lossy(name));
            let skipped = length.next_multiple_of(4);
            if io::copy(&mut input.take(skipped), &mut io::sink())? != skipped {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A number of the header: eight hexadecimal digits.
fn field(header: &[u8; 110], number: usize) -> io::Result<u64> {
    let start = 6 + 8 * number;
    let digits = header.get(start..start + 8).unwrap_or_default();
    let digits = std::str::from_utf8(digits).map_err(|_| bad("a number in it is damaged"))?;
    u64::from_str_radix(digits, 16).map_err(|_| bad("a number in it is damaged"))
}

/// What is read through it ends in an error beyond the limits.
struct Bounded<R> {
    inner: R,
    left: u64,
    until: Instant,
}

impl<R> Bounded<R> {
    fn new(inner: R, limits: UnpackLimits) -> Self {
        Self {
            inner,
            left: limits.bytes,
            until: limits.until,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it takes too long to read",
            ));
        }
        let read = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            return Err(bad("it holds more than is looked at"));
        };
        self.left = left;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    /// An archive of empty files, with a trailer.
    fn archive(names: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for name in names.iter().chain(&["TRAILER!!!"]) {
            let mut fields = [0; 13];
            fields[11] = name.len() + 1;
            write!(out, "070701").unwrap();
            for number in fields {
                write!(out, "{number:08X}").unwrap();
            }
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(plain).unwrap();
        to.finish().unwrap()
    }

    fn xz(plain: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(0);
        let mut to = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        to.write_all(plain).unwrap();
        to.finish().unwrap()
    }

    fn lz4(plain: &[u8]) -> Vec<u8> {
        let mut out = 0x184c_2102_u32.to_le_bytes().to_vec();
        for block in plain.chunks(8 << 20) {
            let stored = lz4_flex::block::compress(block);
            out.extend_from_slice(&u32::try_from(stored.len()).unwrap().to_le_bytes());
            out.extend_from_slice(&stored);
        }
        out
    }

    /// All names that an image shows, or why it cannot be read.
    fn names(image: &[u8], limits: UnpackLimits) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        each_name(image, limits, &mut |name| names.push(name.to_owned()))
            .map_err(|error| error.to_string())?;
        Ok(names)
    }

    fn limits() -> UnpackLimits {
        UnpackLimits {
            bytes: 4 << 20,
            files: 1000,
            until: Instant::now() + Duration::from_secs(60),
        }
    }

    fn ways() -> Vec<Vec<u8>> {
        let plain = archive(&["a", "lib/modules/1/kernel/b.ko"]);
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        vec![plain.clone(), gzip(&plain), xz(&plain), zstd, lz4(&plain)]
    }

    #[test]
    fn parts_follow_one_another_behind_zeros() {
        let mut image = archive(&["early"]);
        for part in ways() {
            image.resize(image.len().next_multiple_of(512), 0);
            image.extend(part);
        }
        let found = names(&image, limits()).unwrap();
        assert_eq!(found.len(), 11);
        assert_eq!(found[0], "early");
        assert!(
            found[1..]
                .iter()
                .all(|name| name == "a" || name.ends_with("/b.ko"))
        );
    }

    #[test]
    fn what_is_cut_off_is_never_taken_for_all() {
        for (way, whole) in ways().into_iter().enumerate() {
            assert_eq!(names(&whole, limits()).unwrap().len(), 2, "{way}");
            for cut in 1..whole.len() {
                let part = whole.get(..cut).unwrap();
                assert!(
                    names(part, limits()).is_err(),
                    "way {way}, {cut} of {}",
                    whole.len()
                );
            }
        }
    }

    #[test]
    fn a_hostile_image_ends_in_words() {
        let mut long = archive(&["x"]);
        long[94..102].copy_from_slice(b"FFFFFFFF");
        let mut lies = archive(&["x"]);
        lies[54..62].copy_from_slice(b"000FFFFF");
        for (bytes, words) in [
            (b"BZh9".as_slice(), "bzip2"),
            (b"what is this", "not known"),
            (b"070701zzzz", "ends early"),
            (&gzip(b"no archive at all"), "no archive"),
            (&long, "4096"),
            (&lies, "ends early"),
        ] {
            let error = names(bytes, limits()).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_little_that_unpacks_to_much_is_given_up() {
        let much = vec![0; 24 << 20];
        let zstd = zstd::encode_all(much.as_slice(), 1).unwrap();
        for (way, bomb) in [much.clone(), gzip(&much), xz(&much), zstd, lz4(&much)]
            .iter()
            .enumerate()
        {
            let error = names(bomb, limits()).unwrap_err();
            assert!(error.contains("more than is looked at"), "{way}: {error}");
        }
        let many = archive(&["f"; 1001]);
        assert!(names(&many, limits()).unwrap_err().contains("more files"));
        let late = UnpackLimits {
            until: Instant::now(),
            ..limits()
        };
        assert!(names(&many, late).unwrap_err().contains("too long"));
    }
}
