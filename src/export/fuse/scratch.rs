//! What a filesystem's driver writes while it replays a log: pages in memory, laid over disks of a
//! snapshot. Each attempt to mount a filesystem has a layer of its own. A layer of which a write is
//! missing is broken, and shows nothing any more: with half a replay in it it would be a filesystem
//! that never was. All are thrown away at the end; nothing here reaches a vault.

use crate::model::{Bytes, Extent};
use std::collections::BTreeMap;

/// The unit of what is kept.
pub(super) const PAGE: u64 = 4096;
/// All layers together keep as much as so many.
const LAYERS: usize = 4;

/// A page of a disk, or a part of a disk, in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerPlace<P> {
    pub(super) layer: u32,
    pub(super) disk: usize,
    pub(super) at: P,
}

/// One page of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PageName {
    disk: usize,
    page: u64,
}

/// What was written to one layer.
#[derive(Default)]
struct ReplayedLayer {
    pages: BTreeMap<PageName, Box<[u8]>>,
    broken: bool,
}

/// The pages that were written.
pub(super) struct ReplayedPages {
    layers: BTreeMap<u32, ReplayedLayer>,
    /// Most pages of a layer.
    most: usize,
    /// How many there are, of all layers.
    kept: usize,
}

/// Why a page is not kept, or not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerTrouble {
    /// There are as many as there may be.
    Full,
    /// A write is missing.
    Broken,
}

impl ReplayedPages {
    /// A layer keeps no more than this, and all together no more than four times that.
    pub(super) fn new(most: Bytes) -> Self {
        Self {
            layers: BTreeMap::new(),
            most: usize::try_from(most.0 / PAGE).unwrap_or(usize::MAX),
            kept: 0,
        }
    }

    /// From here on the layer shows nothing and keeps nothing. Returns whether that is new.
    pub(super) fn give_up(&mut self, layer: u32) -> bool {
        let layer = self.layers.entry(layer).or_default();
        self.kept -= layer.pages.len();
        layer.pages.clear();
        !std::mem::replace(&mut layer.broken, true)
    }

    /// Whether a write to it is missing.
    pub(super) fn is_broken(&self, layer: u32) -> bool {
        self.layers.get(&layer).is_some_and(|layer| layer.broken)
    }

    /// Lays what was written over bytes of a disk that begin at `place.at`.
    pub(super) fn lay_over(
        &self,
        place: LayerPlace<Bytes>,
        bytes: &mut [u8],
    ) -> Result<(), LayerTrouble> {
        let Some(layer) = self.layers.get(&place.layer) else {
            return Ok(());
        };
        if layer.broken {
            return Err(LayerTrouble::Broken);
        }
        let (disk, offset) = (place.disk, place.at.0);
        let end = offset + bytes.len() as u64;
        let name = |page| PageName { disk, page };
        let pages = layer
            .pages
            .range(name(offset / PAGE)..name(end.div_ceil(PAGE)));
        for (at, page) in pages {
            let start = at.page * PAGE;
            let from = start.max(offset);
            let until = (start + page.len() as u64).min(end);
            if let (Some(into), Some(part)) = (
                bytes.get_mut((from - offset) as usize..(until - offset) as usize),
                page.get((from - start) as usize..(until - start) as usize),
            ) {
                into.copy_from_slice(part);
            }
        }
        Ok(())
    }

    /// The parts of pages that writing this extent leaves as they are, so that they must be there
    /// first: the page at its beginning and that at its end.
    pub(super) fn needs(&self, place: LayerPlace<Extent>) -> Vec<u64> {
        let (start, end) = (place.at.offset.0, place.at.end().0);
        let mut cut = Vec::new();
        if !start.is_multiple_of(PAGE) {
            cut.push(start / PAGE);
        }
        if !end.is_multiple_of(PAGE) && cut.last() != Some(&(end / PAGE)) {
            cut.push(end / PAGE);
        }
        if let Some(layer) = self.layers.get(&place.layer) {
            let disk = place.disk;
            cut.retain(|&page| !layer.pages.contains_key(&PageName { disk, page }));
        }
        cut
    }

    /// Keeps a page as the disk has it.
    pub(super) fn add(
        &mut self,
        place: LayerPlace<u64>,
        bytes: Vec<u8>,
    ) -> Result<(), LayerTrouble> {
        let most = self.most;
        let all = most.saturating_mul(LAYERS);
        let layer = self.layers.entry(place.layer).or_default();
        if layer.broken {
            return Err(LayerTrouble::Broken);
        }
        let name = PageName {
            disk: place.disk,
            page: place.at,
        };
        if layer.pages.contains_key(&name) {
            return Ok(());
        }
        if layer.pages.len() >= most || self.kept >= all {
            return Err(LayerTrouble::Full);
        }
        self.kept += 1;
        layer.pages.insert(name, bytes.into());
        Ok(())
    }

    /// Writes. Every page that is written in part must have been added.
    pub(super) fn write(
        &mut self,
        place: LayerPlace<Bytes>,
        data: &[u8],
    ) -> Result<(), LayerTrouble> {
        let (disk, mut at) = (place.disk, place.at.0);
        let mut rest = data;
        while !rest.is_empty() {
            let (page, within) = (at / PAGE, (at % PAGE) as usize);
            let length = rest.len().min(PAGE as usize - within);
            let (part, after) = rest.split_at(length);
            let layer = self.layers.entry(place.layer).or_default();
            if layer.broken {
                return Err(LayerTrouble::Broken);
            }
            match layer.pages.get_mut(&PageName { disk, page }) {
                Some(kept) => {
                    if let Some(into) = kept.get_mut(within..within + length) {
                        into.copy_from_slice(part);
                    }
                }
                None => {
                    let layer = place.layer;
                    let place = LayerPlace {
                        layer,
                        disk,
                        at: page,
                    };
                    self.add(place, part.to_vec())?;
                }
            }
            at += length as u64;
            rest = after;
        }
        Ok(())
    }

    /// How much is kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> Bytes {
        Bytes(self.kept as u64 * PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at<P>(layer: u32, disk: usize, at: P) -> LayerPlace<P> {
        LayerPlace { layer, disk, at }
    }

    /// Writes as the server does: cut pages come from the disk first.
    fn write(scratch: &mut ReplayedPages, disk: &[u8], offset: u64, data: &[u8]) {
        let place = Extent::new(Bytes(offset), Bytes(data.len() as u64));
        for page in scratch.needs(at(3, 0, place)) {
            let start = (page * PAGE) as usize;
            let end = (start + PAGE as usize).min(disk.len());
            scratch
                .add(at(3, 0, page), disk[start..end].to_vec())
                .unwrap();
        }
        scratch.write(at(3, 0, Bytes(offset)), data).unwrap();
    }

    proptest! {
        #[test]
        fn what_was_written_is_seen_and_all_else_is_the_disk(
            writes in prop::collection::vec((0..60_000_u64, 1..9_000_usize, any::<u8>()), 1..12),
            (from, length) in (0..60_000_u64, 1..20_000_usize),
        ) {
            let disk: Vec<u8> = (0..61_111_u32).map(|byte| (byte % 251) as u8).collect();
            let mut truth = disk.clone();
            let mut scratch = ReplayedPages::new(Bytes(1 << 20));
            for (offset, length, byte) in writes {
                let length = length.min(disk.len() - offset as usize);
                let data = vec![byte; length];
                write(&mut scratch, &disk, offset, &data);
                truth[offset as usize..offset as usize + length].fill(byte);
            }
            let end = (from as usize + length).min(disk.len());
            let mut seen = disk[from as usize..end].to_vec();
            scratch.lay_over(at(3, 0, Bytes(from)), &mut seen).unwrap();
            prop_assert_eq!(&seen, &truth[from as usize..end]);
            for (layer, other) in [(3, 1), (2, 0), (4, 0)] {
                let mut seen = disk[from as usize..end].to_vec();
                scratch.lay_over(at(layer, other, Bytes(from)), &mut seen).unwrap();
                prop_assert_eq!(&seen, &disk[from as usize..end]);
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut scratch = ReplayedPages::new(Bytes(3 * PAGE));
        let data = vec![1; 2 * PAGE as usize];
        scratch.write(at(0, 0, Bytes(0)), &data).unwrap();
        let full = scratch.write(at(0, 1, Bytes(0)), &data);
        assert_eq!(full, Err(LayerTrouble::Full));
        assert_eq!(scratch.kept(), Bytes(3 * PAGE));
        // What is kept can be written again, and others have room of their own.
        scratch.write(at(0, 0, Bytes(PAGE)), &data[..9]).unwrap();
        for layer in 1..5 {
            scratch.write(at(layer, 0, Bytes(0)), &data).unwrap();
        }
        assert_eq!(scratch.kept(), Bytes(11 * PAGE));
        // All together have no more than four.
        let full = scratch.write(at(5, 0, Bytes(0)), &data);
        assert_eq!(full, Err(LayerTrouble::Full));
        assert!(scratch.give_up(0));
        scratch.write(at(6, 0, Bytes(0)), &data).unwrap();
    }

    #[test]
    fn a_layer_that_lacks_a_write_shows_nothing_and_keeps_nothing() {
        let mut scratch = ReplayedPages::new(Bytes(3 * PAGE));
        scratch
            .write(at(1, 0, Bytes(0)), &[1; 2 * PAGE as usize])
            .unwrap();
        scratch
            .write(at(2, 0, Bytes(0)), &[2; PAGE as usize])
            .unwrap();
        assert!(scratch.give_up(1) && !scratch.give_up(1));
        assert!(scratch.is_broken(1) && !scratch.is_broken(2));
        let (mut seen, broken) = ([0; 8], Err(LayerTrouble::Broken));
        assert_eq!(scratch.lay_over(at(1, 0, Bytes(0)), &mut seen), broken);
        assert_eq!(scratch.write(at(1, 0, Bytes(0)), &seen), broken);
        assert_eq!(scratch.add(at(1, 0, 0), vec![0; 8]), broken);
        assert_eq!(scratch.kept(), Bytes(PAGE));
        scratch.lay_over(at(2, 0, Bytes(0)), &mut seen).unwrap();
        assert_eq!(seen, [2; 8]);
    }
}
