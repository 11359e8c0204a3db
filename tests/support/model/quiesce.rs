//! Holding model disks still: what they hold at the cut is noted.

use super::{ModelDisk, Still};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stillpoint::Result;
use stillpoint::engine::{Monitor, Quiesce};
use stillpoint::model::{Bytes, DevNumber};

/// For each disk what it held when all was held last: one thing, or several if it was disturbed.
pub type Oracle = Arc<Mutex<Vec<Vec<Still>>>>;

/// What a test does with the disks right before all is held.
pub type Before = Box<dyn FnMut(&[ModelDisk])>;

/// Holds the model's disks still and notes what they hold.
pub struct ModelQuiesce {
    /// The disks.
    pub disks: Vec<ModelDisk>,
    /// What they held.
    pub oracle: Oracle,
    /// What happens right before all is held.
    pub before: Before,
    /// What happens while all is written out.
    pub settling: Before,
    /// Whether applications are said to be held.
    pub holds: bool,
    /// Whether what writes to the disks can be slowed down: to nothing.
    pub slows: bool,
}

impl Quiesce for ModelQuiesce {
    fn throttle(&mut self, disks: &[DevNumber], rate: Bytes, _: &dyn Monitor) -> Result<bool> {
        assert!(!disks.is_empty() && rate.0 > 0);
        let named = |disk: &&ModelDisk| disks.contains(&disk.identity().dev);
        if self.slows {
            self.disks
                .iter()
                .filter(named)
                .for_each(|disk| disk.restless(0));
        }
        Ok(self.slows)
    }

    fn flush(&mut self, _: &dyn Monitor) -> Result<()> {
        self.disks.iter().for_each(ModelDisk::stir);
        (self.settling)(&self.disks);
        Ok(())
    }

    fn quiesce_apps(&mut self, _: &dyn Monitor) -> Result<bool> {
        for disk in &self.disks {
            disk.stir();
            disk.state().scripted = self.holds;
        }
        Ok(self.holds)
    }

    fn resume_apps(&mut self, _: bool, _: &dyn Monitor) -> Result<bool> {
        Ok(self.holds)
    }

    fn freeze(&mut self) -> Result<Instant> {
        self.disks.iter().for_each(ModelDisk::stir);
        (self.before)(&self.disks);
        for disk in &self.disks {
            let mut state = disk.state();
            state.held = true;
            state.window = vec![state.now.clone()];
        }
        Ok(Instant::now() + Duration::from_secs(60))
    }

    fn thaw(&mut self) -> Result<Duration> {
        let mut seen = Vec::new();
        for disk in &self.disks {
            let mut state = disk.state();
            state.held = false;
            if state.rude < u32::MAX {
                state.rude = state.rude.saturating_sub(1);
            }
            seen.push(std::mem::take(&mut state.window));
        }
        *self.oracle.lock().unwrap() = seen;
        self.disks.iter().for_each(ModelDisk::stir);
        Ok(Duration::from_millis(1))
    }

    fn freezes(&self) -> bool {
        false
    }
}
