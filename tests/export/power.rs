//! The power goes under an overlay, at any moment: what was flushed before is there, and what was
//! not is as it was or as it was written.

use super::image::{SIZE, Stage};
use super::overlay::{PATIENCE, of};
use super::volatile::VolatileFolder;
use crate::support::host::skipped;
use crate::support::model::Chance;
use crate::support::vaults::rounds;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use stillpoint::export::{Image, Overlay};
use stillpoint::model::{Bytes, Extent};

const SECTOR: u64 = 512;
const GRAIN: u64 = 4096;

/// What sectors may hold from a step on; `None`: what was there last is there for certain.
struct Change {
    step: usize,
    to: Option<(std::ops::Range<u64>, Vec<u8>)>,
}

/// One change at random, or a flush; noted with the step that it began with, or ended with.
fn change(
    folder: &VolatileFolder,
    image: &Image,
    overlay: &Overlay,
    chance: &mut Chance,
) -> Change {
    let step = folder.steps();
    let sectors = [1, 3, 8, 24, 200][chance.below(5) as usize];
    let first = chance.below(SIZE / SECTOR - sectors);
    let place = Extent::new(Bytes(first * SECTOR), Bytes(sectors * SECTOR));
    match chance.below(8) {
        0 | 1 => {
            overlay.flush().unwrap();
            let (step, to) = (folder.steps(), None);
            Change { step, to }
        }
        2 => {
            overlay.trim(place).unwrap();
            let whole = place.offset.0.next_multiple_of(GRAIN)..place.end().0 / GRAIN * GRAIN;
            let whole = whole.start / SECTOR..(whole.end / SECTOR).max(whole.start / SECTOR);
            let zeros = vec![0; ((whole.end - whole.start) * SECTOR) as usize];
            let to = Some((whole, zeros));
            Change { step, to }
        }
        3 => {
            let keep_room = chance.below(2) == 0;
            overlay
                .zero(image, place, keep_room, PATIENCE, &|| Ok(()))
                .unwrap();
            let to = Some((first..first + sectors, vec![0; place.length.0 as usize]));
            Change { step, to }
        }
        _ => {
            let bytes: Vec<u8> = (0..place.length.0).map(|_| chance.next() as u8).collect();
            overlay
                .write(image, place.offset, &bytes, PATIENCE)
                .unwrap();
            let to = Some((first..first + sectors, bytes));
            Change { step, to }
        }
    }
}

/// What each sector may hold after a cut.
fn possible<'a>(truth: &'a [u8], changes: &'a [Change], cut: usize) -> Vec<Vec<&'a [u8]>> {
    let sector = SECTOR as usize;
    let mut all: Vec<Vec<&[u8]>> = truth.chunks_exact(sector).map(|held| vec![held]).collect();
    for change in changes.iter().filter(|change| change.step <= cut) {
        match &change.to {
            Some((place, bytes)) => {
                let place = place.start as usize..place.end as usize;
                for (may, held) in all[place].iter_mut().zip(bytes.chunks_exact(sector)) {
                    may.push(held);
                }
            }
            None => all.iter_mut().for_each(|may| {
                may.drain(..may.len() - 1);
            }),
        }
    }
    all
}

#[test]
fn what_was_flushed_is_there_after_the_power_went_at_any_moment() {
    let Some(folder) = VolatileFolder::new() else {
        return skipped("export: a power cut", "no FUSE, or no right to mount");
    };
    let stage = Stage::new();
    let image = stage.image();
    let mut chance = Chance(41);
    let overlay = Overlay::open(&folder.path(), &of(), &[]).unwrap();
    let begun = folder.steps();
    let changes: Vec<Change> = (0..120)
        .map(|_| change(&folder, &image, &overlay, &mut chance))
        .collect();
    let end = folder.steps();
    assert!(end - begun > 150, "{end} steps");
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("o");
    let (mut news, mut olds) = (0, 0);
    for round in 0..80 * u64::from(rounds()) {
        // Each moment of its beginning, too.
        let cut = match round as usize {
            early if early < begun => early,
            _ => chance.below(end as u64 + 1) as usize,
        };
        fs::write(&path, folder.after_a_cut(cut, &mut chance)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let after = Overlay::open(&path, &of(), &[]).unwrap();
        let mut found = vec![9; SIZE as usize];
        after.read(&image, Bytes(0), &mut found, PATIENCE).unwrap();
        let possible = possible(&stage.truth, &changes, cut);
        for (number, held) in found.chunks_exact(SECTOR as usize).enumerate() {
            let may = &possible[number];
            let fits = may.iter().rposition(|one| *one == held);
            let fits = fits.unwrap_or_else(|| panic!("cut {cut}: sector {number} is none of it"));
            if may.len() > 1 {
                let is_new = fits + 1 == may.len();
                *(if is_new { &mut news } else { &mut olds }) += 1;
            }
        }
        fs::remove_file(&path).unwrap();
    }
    // Some of what was not flushed is there, and some is not.
    assert!(news > 100 && olds > 100, "{news} new, {olds} old");
}
