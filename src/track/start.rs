//! Starting the tracker: loading its programs, and trying them before they are believed.

use super::kernel_log::KernelLog;
use super::pins::{PinDir, PinLock};
use super::programs::{PinnedPrograms, Programs};
use super::self_test::{self, SelfTest};
use super::tracker::Tracker;
use crate::error::Result;

/// What starting the tracker did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// The programs were loaded now; otherwise they were running already.
    pub loaded: bool,
    /// The BPF filesystem had to be mounted.
    pub mounted_bpffs: bool,
    /// What was pinned before did not work, for this reason, and was replaced: its marks are lost.
    pub replaced: Option<String>,
    /// How the programs did on a scratch disk, when they were loaded now.
    pub self_test: Option<SelfTest>,
    /// Why it will not be noticed, on this kernel, that a disk was made smaller and as large again.
    /// `None` where it is, and when they were running already.
    pub unwatched: Option<String>,
}

impl Tracker {
    /// Finds the running tracker, or loads it and tries it on a scratch disk.
    ///
    /// # Errors
    /// This host cannot ([`super::obstacles()`] says why in advance), or the programs were tried
    /// and did not see a write.
    pub fn start(pins: &PinDir) -> Result<(Self, Started)> {
        let mut report = Started::default();
        let lock = loop {
            report.mounted_bpffs |= pins.create()?;
            if let Some(lock) = pins.lock()? {
                break lock;
            }
        };
        match Programs::find(pins)? {
            PinnedPrograms::Running(programs) => return Ok((Self::with(pins, *programs), report)),
            PinnedPrograms::Absent if pins.has_others(&lock)? => {
                report.replaced = Some("another version of stillpoint had started it".into());
            }
            PinnedPrograms::Absent => {}
            PinnedPrograms::Broken(why) => report.replaced = Some(why),
        }
        pins.clear(&lock)?;
        match Self::load(pins, &lock, &mut report) {
            Ok(tracker) => Ok((tracker, report)),
            Err(error) => {
                pins.clear(&lock)?;
                pins.remove(&lock)?;
                Err(error)
            }
        }
    }

    /// Loads the programs and tries them.
    fn load(pins: &PinDir, lock: &PinLock, report: &mut Started) -> Result<Self> {
        let (programs, unwatched) = Programs::load(pins, lock)?;
        let mut tracker = Self::with(pins, programs);
        let tried = self_test::run(&mut tracker)?;
        let mut unwatched = unwatched.map(|error| error.to_string());
        if unwatched.is_none() && !tried.capacity {
            tracker.programs.drop_capacity(pins, lock)?;
            unwatched = Some("the kernel does not tell when a capacity is set".into());
        }
        // Where its log can be read, that does.
        report.unwatched = unwatched.filter(|_| KernelLog::open("").is_err());
        report.loaded = true;
        report.self_test = Some(tried.marks);
        Ok(tracker)
    }
}
