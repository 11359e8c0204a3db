//! Changes of a disk's capacity, as the kernel's log tells them: for kernels that run no programs
//! at that. It must never take a log that has lost records for one in which nothing was.

use super::attached::failed;
use crate::error::{IoContext, Result};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const PATH: &str = "/dev/kmsg";
/// The longest record: `PRINTK_MESSAGE_MAX` of `kernel/printk/internal.h` is 2048, and was 8192.
const LONGEST: usize = 8192;
/// Most records that are read at once; the largest log has room for fewer.
const MOST: usize = 1 << 20;

/// What became of a disk's capacity since somebody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How often it changed, and how often the log had lost records.
    pub changes: u64,
    /// The number of the record that comes next; none where none was read.
    pub next: Option<u64>,
}

/// The kernel's log, from where it was read last.
pub(super) struct KernelLog {
    log: File,
    /// How a record of a changed capacity begins (block/genhd.c: set_capacity_and_notify).
    sign: String,
}

impl KernelLog {
    /// The log from its first record on, for the disk of this name.
    pub fn open(disk: &str) -> Result<Self> {
        let path = Path::new(PATH);
        let mut options = OpenOptions::new();
        let log = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
        Ok(Self {
            log: log.io_context("open", path)?,
            sign: format!("{disk}: detected capacity change from "),
        })
    }

    /// What the records tell that nobody has read here, of those numbered `from` and above.
    pub fn told(&mut self, from: u64) -> Result<Told> {
        let mut told = Told::default();
        let mut record = [0; LONGEST];
        for _ in 0..MOST {
            match self.log.read(&mut record) {
                Ok(0) => break,
                Ok(length) => self.weigh(&record[..length], from, &mut told),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Overwritten before it was read here: it goes on with the oldest there is.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(failed(format_args!("read {PATH}"))(error)),
            }
        }
        Ok(told)
    }

    /// `LEVEL,NUMBER,TIME,FLAGS;TEXT` (Documentation/ABI/testing/dev-kmsg).
    fn weigh(&self, record: &[u8], from: u64, told: &mut Told) {
        let record = String::from_utf8_lossy(record);
        let Some((head, text)) = record.split_once(';') else {
            return;
        };
        let Some(Ok(number)) = head.split(',').nth(1).map(str::parse::<u64>) else {
            return;
        };
        let expected = told.next.unwrap_or(from);
        told.next = Some(number + 1);
        if number < from {
            return;
        }
        let lost = number > expected.max(from);
        told.changes += u64::from(lost) + u64::from(text.starts_with(&self.sign));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Option<KernelLog> {
        KernelLog::open("vda").ok()
    }

    fn weighed(records: &[&str], from: u64) -> Option<Told> {
        let log = log()?;
        let mut told = Told::default();
        for record in records {
            log.weigh(record.as_bytes(), from, &mut told);
        }
        Some(told)
    }

    #[test]
    fn changes_of_this_disk_and_lost_records_are_counted() {
        let change = "6,41,99,-;vda: detected capacity change from 0 to 2048\n SUBSYSTEM=block\n";
        let other = "6,42,99,-;vdaa: detected capacity change from 0 to 2048\n";
        let said = "4,43,99,-;somebody: vda: detected capacity change from 1 to 2\n";
        let Some(told) = weighed(&[change, other, said], 41) else {
            println!("SKIPPED: changes_of_this_disk: no {PATH} here");
            return;
        };
        assert_eq!((told.changes, told.next), (1, Some(44)));
        // What was read before does not count again.
        assert_eq!(weighed(&[change, other], 42).unwrap().changes, 0);
        // The oldest there is, is not the next that was expected.
        assert_eq!(weighed(&[other], 40).unwrap().changes, 1);
        assert_eq!(weighed(&[change, said], 41).unwrap().changes, 2);
        assert_eq!(weighed(&["nonsense", "6,x,;"], 0).unwrap(), Told::default());
    }

    #[test]
    fn the_end_of_the_log_is_found() {
        let Some(mut log) = log() else {
            println!("SKIPPED: the_end_of_the_log: no {PATH} here");
            return;
        };
        let told = log.told(0).unwrap();
        assert!(told.next.is_some());
        let again = log.told(told.next.unwrap()).unwrap();
        assert_eq!(again.changes, 0);
    }
}
