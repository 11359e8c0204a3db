//! Changes of a disk's capacity, read from the kernel's log, for kernels that cannot run programs
//! when a capacity is set. It must never take a log that has lost records, or from which the kernel
//! kept records back, for one without changes.

use super::attached::failed;
use crate::error::{IoContext, Result};
use crate::sys::locked::LockExt;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PATH: &str = "/dev/kmsg";
/// The longest record: `PRINTK_MESSAGE_MAX` of `kernel/printk/internal.h` is 2048, and was 8192.
const LONGEST: usize = 8192;
/// Most records that are read at once; the largest log has room for fewer.
const MOST: usize = 1 << 20;
/// What a record of any disk's changed capacity says (block/genhd.c: `set_capacity_and_notify`).
const CHANGE: &str = ": detected capacity change from ";
/// The kernel writes so many of them, and keeps all others back until the time is over in which it
/// wrote these (include/linux/ratelimit_types.h: `DEFAULT_RATELIMIT_BURST`, `_INTERVAL`).
const BURST: usize = 10;
/// 5 s, and some ticks.
const INTERVAL: Duration = Duration::from_millis(5100);

/// What happened to a disk's capacity since the log was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CapacityChanges {
    /// How often it changed, or may have: the log had lost records, or the kernel kept some back.
    pub changes: u64,
    /// The number of the record from which on the next reader counts; none where none was read.
    pub next: Option<u64>,
}

/// The kernel's log, from where it was read last.
pub(super) struct KernelLog {
    log: File,
    /// How a record of this disk's changed capacity begins.
    sign: String,
    /// The last records of any disk's changed capacity, as many as the kernel writes in a row.
    last: VecDeque<LogRecord>,
    /// The last of as many as the kernel writes, since which it may have kept others back.
    full: Option<Full>,
}

/// A record of a changed capacity.
#[derive(Clone, Copy, Debug)]
struct LogRecord {
    number: u64,
    /// Since the machine began (`local_clock`).
    time: Duration,
}

/// When the kernel had written as many records as it does in a row.
#[derive(Clone, Copy, Debug)]
struct Full {
    /// The number of the last of them.
    number: u64,
    /// The time of the log until which it may keep others back.
    until: Duration,
    /// When this process saw it, so that it must be over an interval later.
    seen: Instant,
}

/// The last record of this kind that this process saw, and when first: each disk has a log.
static SEEN: Mutex<Option<(u64, Instant)>> = Mutex::new(None);

fn first_seen(number: u64) -> Instant {
    let mut seen = SEEN.locked();
    match *seen {
        Some((last, when)) if last == number => when,
        _ => seen.insert((number, Instant::now())).1,
    }
}

impl KernelLog {
    /// The log from its first record on, for the disk of this name.
    pub fn open(disk: &str) -> Result<Self> {
        let path = Path::new(PATH);
        let mut options = OpenOptions::new();
        let log = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
        Ok(Self {
            log: log.io_context("open", path)?,
            sign: format!("{disk}{CHANGE}"),
            last: VecDeque::with_capacity(BURST),
            full: None,
        })
    }

    /// The changes in the records that were not read yet, of those numbered `from` and above.
    pub fn changes_from(&mut self, from: u64) -> Result<CapacityChanges> {
        let mut found = CapacityChanges::default();
        if self.full.is_some() {
            // It was not over when this was read last.
            found.changes += 1;
        }
        let mut record = [0; LONGEST];
        for _ in 0..MOST {
            match self.log.read(&mut record) {
                Ok(0) => break,
                Ok(length) => self.weigh(&record[..length], from, &mut found),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Overwritten before it was read here: it goes on with the oldest there is.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(failed(format_args!("read {PATH}"))(error)),
            }
        }
        self.close(Instant::now(), &mut found);
        Ok(found)
    }

    /// For how long the kernel may keep records back from now on, as far as was read.
    pub fn kept_back(&self) -> Option<Duration> {
        let until = self.full?.seen + INTERVAL;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Forgets that the kernel may keep records back, if that is over at this time. If it is not,
    /// the count ends there, so that the next reader counts them, too.
    fn close(&mut self, now: Instant, found: &mut CapacityChanges) {
        self.full = self.full.filter(|full| now <= full.seen + INTERVAL);
        if let Some(full) = self.full {
            found.next = found.next.map(|next| next.min(full.number));
        }
    }

    /// `LEVEL,NUMBER,MICROSECONDS,FLAGS;TEXT` (Documentation/ABI/testing/dev-kmsg).
    fn weigh(&mut self, record: &[u8], from: u64, found: &mut CapacityChanges) {
        let record = String::from_utf8_lossy(record);
        let Some((head, text)) = record.split_once(';') else {
            return;
        };
        let mut numbers = head.split(',').skip(1).map(str::parse::<u64>);
        let (Some(Ok(number)), Some(Ok(micros))) = (numbers.next(), numbers.next()) else {
            return;
        };
        let time = Duration::from_micros(micros);
        self.full = self.full.filter(|full| full.until >= time);
        let is_full = text.contains(CHANGE) && self.fills(LogRecord { number, time });
        let expected = found.next.unwrap_or(from);
        found.next = Some(number + 1);
        if number < from {
            return;
        }
        let lost = number > expected.max(from);
        found.changes += [lost, text.starts_with(&self.sign), is_full]
            .map(u64::from)
            .iter()
            .sum::<u64>();
    }

    /// Whether this record is the last that the kernel wrote before it kept others back.
    fn fills(&mut self, record: LogRecord) -> bool {
        if self.last.len() == BURST {
            self.last.pop_front();
        }
        self.last.push_back(record);
        let until = self.last[0].time + INTERVAL;
        let is_full = self.last.len() == BURST && record.time <= until;
        if is_full {
            let LogRecord { number, .. } = record;
            let seen = first_seen(number);
            self.full = Some(Full {
                number,
                until,
                seen,
            });
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Option<KernelLog> {
        KernelLog::open("vda").ok()
    }

    fn weighed(records: &[&str], from: u64) -> Option<CapacityChanges> {
        let mut log = log()?;
        let mut found = CapacityChanges::default();
        for record in records {
            log.weigh(record.as_bytes(), from, &mut found);
        }
        Some(found)
    }

    #[test]
    fn changes_of_this_disk_and_lost_records_are_counted() {
        let change = "6,41,99,-;vda: detected capacity change from 0 to 2048\n SUBSYSTEM=block\n";
        let other = "6,42,99,-;vdaa: detected capacity change from 0 to 2048\n";
        let said = "4,43,99,-;somebody: vda: detected capacity change from 1 to 2\n";
        let Some(found) = weighed(&[change, other, said], 41) else {
            println!("SKIPPED: changes_of_this_disk: no {PATH} here");
            return;
        };
        assert_eq!((found.changes, found.next), (1, Some(44)));
        // What was read before does not count again.
        assert_eq!(weighed(&[change, other], 42).unwrap().changes, 0);
        // The oldest there is, is not the next that was expected.
        assert_eq!(weighed(&[other], 40).unwrap().changes, 1);
        assert_eq!(weighed(&[change, said], 41).unwrap().changes, 2);
        assert_eq!(
            weighed(&["nonsense", "6,x,;"], 0).unwrap(),
            CapacityChanges::default()
        );
    }

    /// Records of other disks' changes, `apart` from one another, and what is found `later`.
    fn burst(count: u64, apart: Duration, later: Duration) -> Option<CapacityChanges> {
        let mut log = log()?;
        let mut found = CapacityChanges::default();
        for number in 0..count {
            let micros = (apart * u32::try_from(number).unwrap()).as_micros();
            let record =
                format!("6,{number},{micros},-;loop7: detected capacity change from 0 to 8");
            log.weigh(record.as_bytes(), 0, &mut found);
        }
        log.close(Instant::now() + later, &mut found);
        assert_eq!(log.kept_back().is_some(), found.next != Some(count));
        Some(found)
    }

    #[test]
    fn what_the_kernel_kept_back_is_taken_for_a_change() {
        let second = Duration::from_secs(1);
        let found = |changes, next| {
            let next = Some(next);
            CapacityChanges { changes, next }
        };
        let Some(nine) = burst(9, second / 2, Duration::ZERO) else {
            println!("SKIPPED: what_the_kernel_kept_back: no {PATH} here");
            return;
        };
        assert_eq!(nine, found(0, 9));
        // The next reader counts the tenth, too.
        assert_eq!(burst(10, second / 2, Duration::ZERO), Some(found(1, 9)));
        assert_eq!(burst(10, second / 2, 6 * second), Some(found(1, 10)));
        let slowly = second * 6 / 10;
        assert_eq!(burst(20, slowly, Duration::ZERO), Some(found(0, 20)));
    }

    #[test]
    fn a_later_record_ends_what_is_kept_back() {
        let Some(mut log) = log() else {
            println!("SKIPPED: a_later_record_ends: no {PATH} here");
            return;
        };
        let mut found = CapacityChanges::default();
        let change = |number: u64| {
            format!("6,{number},{number},-;loop7: detected capacity change from 0 to 8")
                .into_bytes()
        };
        for number in 0..10 {
            log.weigh(&change(number), 0, &mut found);
        }
        assert!(log.full.is_some());
        log.weigh(b"6,10,5100009,-;of something else", 0, &mut found);
        log.close(Instant::now(), &mut found);
        assert_eq!((found.changes, found.next), (1, Some(11)));
    }

    #[test]
    fn the_end_of_the_log_is_found() {
        let Some(mut log) = log() else {
            println!("SKIPPED: the_end_of_the_log: no {PATH} here");
            return;
        };
        let found = log.changes_from(0).unwrap();
        assert!(found.next.is_some());
        let kept_back = log.kept_back().is_some();
        let again = log.changes_from(found.next.unwrap()).unwrap();
        assert_eq!(again.changes, u64::from(kept_back));
    }
}
