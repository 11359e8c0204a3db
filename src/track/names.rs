//! The names of cuts. An epoch's number is not its name: a machine that was taken back to a saved
//! state with its memory, or one of two that began as one, counts the same epochs again. So each
//! cut leaves a random name beside the marks, the last few thousand of them, and a manifest carries
//! it. It must never find a cut that this very history does not hold.

use super::attached::failed;
use super::mark_layout::{NAME_BYTES, NAMES, at};
use super::source::{CutName, Epoch, Recall, Witness};
use crate::error::Result;
use crate::model::ObjectId;
use crate::sys::bpf::SharedPages;
use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::Ordering::SeqCst;

/// A name that no other cut has. The kernel's random numbers alone are not enough: they may come
/// twice, when memory is taken back to what it was. So the clocks go in, to the nanosecond.
fn generate() -> Result<CutName> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&ObjectId::generate().0);
    for clock in [ClockId::CLOCK_REALTIME, ClockId::CLOCK_BOOTTIME] {
        let time = clock_gettime(clock).map_err(failed("read a clock"))?;
        hasher.update(&time.tv_sec().to_le_bytes());
        hasher.update(&time.tv_nsec().to_le_bytes());
    }
    let mut name = [0; 16];
    hasher.finalize_xof().fill(&mut name);
    Ok(CutName(name))
}

/// The two halves of a name, as they are kept.
fn halves(CutName(name): CutName) -> [u64; 2] {
    let name = u128::from_le_bytes(name);
    [name as u64, (name >> 64) as u64]
}

/// Where a name is kept: its epoch, then its halves.
fn place(slot: u64) -> usize {
    at::NAMES + usize::try_from(slot % NAMES).expect("below NAMES") * NAME_BYTES
}

/// Gives the epoch that has begun a name, in the place of the oldest.
pub(super) fn leave(pages: &SharedPages, epoch: Epoch) -> Result<CutName> {
    let name = generate()?;
    let at = place(pages.u64_at(at::NAMED).fetch_add(1, SeqCst));
    let [low, high] = halves(name);
    // Without an epoch it counts for nothing, until it is whole.
    pages.u64_at(at).store(0, SeqCst);
    pages.u64_at(at + 8).store(low, SeqCst);
    pages.u64_at(at + 16).store(high, SeqCst);
    pages.u64_at(at).store(epoch.0.into(), SeqCst);
    Ok(name)
}

/// What is known of a cut.
pub(super) fn recall(pages: &SharedPages, cut: &Witness) -> Recall {
    let Some(name) = cut.name else {
        return Recall::Nameless;
    };
    let (wanted, epoch) = (halves(name), u64::from(cut.epoch.0));
    let mut oldest = u64::MAX;
    for slot in 0..NAMES {
        let at = place(slot);
        let held = pages.u64_at(at).load(SeqCst);
        let halves = [8, 16].map(|half| pages.u64_at(at + half).load(SeqCst));
        if held == 0 {
            continue;
        }
        if held == epoch && halves == wanted {
            return Recall::Known;
        }
        oldest = oldest.min(held);
    }
    let full = pages.u64_at(at::NAMED).load(SeqCst) > NAMES;
    match full && epoch < oldest {
        true => Recall::Forgotten,
        false => Recall::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_are_alike() {
        let names: Vec<_> = (0..100).map(|_| generate().unwrap()).collect();
        for (n, name) in names.iter().enumerate() {
            assert!(!names[..n].contains(name));
        }
    }
}
