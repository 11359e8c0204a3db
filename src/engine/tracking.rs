//! Tracking, begun by a run or because somebody asked for it. What a run has begun is taken back
//! unless a snapshot comes of it; what was tracked before stays as it was.

use super::disk_lock::DiskLock;
use super::monitor::{Event, Monitor};
use super::places::Places;
use crate::device::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::model::DevNumber;
use crate::track::{DiskTracker, MarksId, PinDir, TrackedDisk, TrackedStatus, Tracker};

/// The tracker of a run, and what of it is new. The disks' locks are held as long as this lives.
pub struct Tracking<'a> {
    pins: &'a PinDir,
    monitor: &'a dyn Monitor,
    tracker: Tracker,
    /// This run loaded the programs.
    loaded: bool,
    /// Disks that nobody tracked before this run.
    new: Vec<(DevNumber, MarksId)>,
    kept: bool,
}

impl<'a> Tracking<'a> {
    /// Finds the running tracker or starts it.
    ///
    /// # Errors
    /// As [`Tracker::start`].
    pub fn start(pins: &'a PinDir, monitor: &'a dyn Monitor) -> Result<Self> {
        let (tracker, loaded) = start(pins, monitor)?;
        Ok(Self {
            pins,
            monitor,
            tracker,
            loaded,
            new: Vec::new(),
            kept: false,
        })
    }

    /// Tracks a disk, if it is not tracked yet.
    ///
    /// # Errors
    /// As [`Tracker::attach`].
    pub fn attach(&mut self, disk: &Disk) -> Result<DiskTracker> {
        let disk = TrackedDisk::from(&disk.identity);
        match self.attach_once(&disk) {
            // A run that failed may have taken back what it began, between our two looks.
            Err(error) if error.kind() == ErrorKind::Inconsistent => {
                let (tracker, loaded) = start(self.pins, self.monitor)?;
                self.tracker = tracker;
                self.loaded |= loaded;
                self.attach_once(&disk)
            }
            other => other,
        }
    }

    fn attach_once(&mut self, disk: &TrackedDisk) -> Result<DiskTracker> {
        let before = self.tracker.marks_of(disk.dev)?;
        let attached = self.tracker.attach(disk);
        if before.is_none() {
            // Also after an error: the disk may have come to be tracked all the same.
            let marks = self.tracker.marks_of(disk.dev)?;
            self.new.extend(marks.map(|marks| (disk.dev, marks)));
        }
        attached
    }

    /// Lets tracking go on: a snapshot rests on it, or somebody asked for it.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

/// What tracking cannot do on some kernels.
const UNWATCHED: &str =
    "on this kernel a disk that is made smaller, and as large again, is taken for unchanged";

fn start(pins: &PinDir, monitor: &dyn Monitor) -> Result<(Tracker, bool)> {
    let (tracker, started) = Tracker::start(pins)?;
    if let Some(why) = started.replaced {
        monitor.tell(Event::Note(format!("tracking was started again: {why}")));
    }
    if let Some(why) = started.unwatched {
        monitor.tell(Event::Note(format!(
            "{UNWATCHED}: {why}; take a snapshot with --full after such a change"
        )));
    }
    Ok((tracker, started.loaded))
}

impl Drop for Tracking<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Marks that nobody needs cost memory and nothing else: what cannot be taken back now is
        // used by the next run.
        for (disk, marks) in &self.new {
            let _ = self.tracker.detach_if(*disk, *marks);
        }
        if self.loaded || !self.new.is_empty() {
            let running = Tracker::open(self.pins);
            let _ = running.map(|running| running.map(Tracker::stop_if_idle));
        }
    }
}

/// Has disks tracked from now on, without a snapshot.
///
/// # Errors
/// As [`Tracker::start`] and [`Tracker::attach`]; `Busy`: a run is at work on one of them, which it
/// tracks already, and takes that back should it fail. None is tracked then that was not before.
pub fn start_tracking(disks: &[Disk], places: &Places, monitor: &dyn Monitor) -> Result<()> {
    let all = disks
        .iter()
        .map(|disk| (disk.dev(), disk.name().to_owned()));
    let _locks = no_run_at(all, places)?;
    let mut tracking = Tracking::start(&places.pins, monitor)?;
    for disk in disks {
        tracking.attach(disk)?;
    }
    tracking.keep();
    Ok(())
}

/// Stops tracking these disks, or all and the programs too if none is named; returns what
/// was tracked before.
///
/// # Errors
/// `Busy`: a run is at work on one of them, and would fail. None is stopped then.
pub fn stop_tracking(disks: &[Disk], places: &Places) -> Result<Vec<TrackedStatus>> {
    let Some(mut tracker) = Tracker::open(&places.pins)? else {
        if disks.is_empty() {
            Tracker::sweep(&places.pins)?;
        }
        return Ok(Vec::new());
    };
    let before = tracker.disks()?;
    if disks.is_empty() {
        let all = before.iter().map(|status| status.disk.dev);
        let _locks = no_run_at(all.map(|dev| (dev, format!("disk {dev}"))), places)?;
        tracker.stop()?;
        return Ok(before);
    }
    let named = disks
        .iter()
        .map(|disk| (disk.dev(), disk.name().to_owned()));
    let _locks = no_run_at(named, places)?;
    for disk in disks {
        tracker.detach(disk.dev())?;
    }
    tracker.stop_if_idle()?;
    Ok(before)
}

/// Keeps runs away from these disks as long as the locks are held.
fn no_run_at(
    disks: impl Iterator<Item = (DevNumber, String)>,
    places: &Places,
) -> Result<Vec<DiskLock>> {
    let lock = |(dev, name): (DevNumber, String)| {
        DiskLock::take(&places.run_dir, dev, &name).map_err(|error| match error.kind() {
            ErrorKind::Busy => Error::new(
                ErrorKind::Busy,
                format!(
                    "a run is making a snapshot of {name} and tracks it, or somebody else changes \
                     its tracking; nothing was changed"
                ),
            )
            .with_hint("wait for it to end"),
            _ => error,
        })
    };
    disks.map(lock).collect()
}
