//! What was put by a run that was cut off is damaged, cut short, gone, another's, or condemned: it
//! is not used, or the damage is told; and the snapshot is right.

use super::{BLOCKS, Stage, files, segments};
use crate::support::vaults::{Take, take};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::slice::from_ref;
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::format::{Condemned, DamagedChunks};
use stillpoint::model::{BLOCK_SIZE, ObjectId, SnapshotId};
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};

/// The segments, by name and length; all but the last one put are full.
fn sent(stage: &Stage) -> Vec<(ObjectName, u64)> {
    let listed = stage.store.list_all(&ObjectName::segments()).unwrap();
    let mut sent: Vec<_> = listed.into_iter().map(|one| (one.name, one.size)).collect();
    sent.sort_by_key(|one| one.1);
    sent.reverse();
    sent
}

/// Blocks in a segment of this length, none of which shrinks.
fn blocks_in(length: u64) -> u64 {
    (length - 320) / (BLOCK_SIZE + 24 + 48)
}

fn note(stage: &Stage) -> PathBuf {
    let mut entries = fs::read_dir(stage.notes.path().join("sent")).unwrap();
    entries.next().unwrap().unwrap().path()
}

#[test]
fn a_segment_that_is_not_whole_is_put_again() {
    type Harm = fn(&Stage, &ObjectName);
    let harms: [(&str, Harm); 4] = [
        ("gone", |stage, name| stage.store.delete(name).unwrap()),
        ("cut short", |stage, name| {
            stage
                .store
                .corrupt(name, |bytes| bytes.truncate(bytes.len() - 1));
        }),
        ("empty", |stage, name| stage.store.corrupt(name, Vec::clear)),
        ("longer", |stage, name| {
            stage.store.corrupt(name, |bytes| bytes.push(0));
        }),
    ];
    for (what, harm) in harms {
        let stage = Stage::cut_off();
        let (name, length) = sent(&stage)[0].clone();
        harm(&stage, &name);
        let (taken, resumed) = stage.next(stage.options());
        assert_eq!(resumed, BLOCKS - blocks_in(length), "{what}");
        assert!(taken.manifest.warnings.is_empty(), "{what}");
    }
}

/// The store has kept lengths and names, and not the bytes.
#[test]
fn segments_that_have_rotted_are_told_and_not_used() {
    for (what, from_end) in [("footer", 250), ("chunks", 20 << 20)] {
        let stage = Stage::cut_off();
        for (name, length) in sent(&stage) {
            stage.store.corrupt(&name, |bytes| match from_end {
                250 => bytes[length as usize - from_end] ^= 1,
                // In every chunk.
                _ => (128 + 1000..bytes.len() - (1 << 17))
                    .step_by(1 << 15)
                    .for_each(|at| bytes[at] ^= 1),
            });
        }
        let (taken, resumed) = stage.next(stage.options());
        assert_eq!(resumed, 0, "{what}");
        let warnings = taken.manifest.warnings.join("\n");
        assert!(
            warnings.contains("has not kept it as it was"),
            "{what}: {warnings}"
        );
    }
}

#[test]
fn what_verify_has_found_damaged_is_put_again() {
    let stage = Stage::cut_off();
    let (name, _) = sent(&stage)[0].clone();
    let segment = name.components().last().unwrap().parse().unwrap();
    let mut damage = DamagedChunks::default();
    damage.add(segment, Some(&BTreeSet::from([5])));
    let list = ObjectName::damage(SnapshotId::generate(1));
    let bytes = damage.encode(stage.vault.sealer()).unwrap();
    stage.store.put(&list, bytes.into()).unwrap();
    let (_, resumed) = stage.next(stage.options());
    assert_eq!(resumed, BLOCKS - 1);
}

#[test]
fn what_is_anothers_is_not_used() {
    type Change = fn(&mut Stage, &mut Take);
    let others: [(&str, Change); 5] = [
        ("another host's", |_, options| options.host = "other".into()),
        ("another machine's", |_, options| {
            options.notes.as_mut().unwrap().machine = Some("copy");
        }),
        ("of a machine without a name", |_, options| {
            options.notes.as_mut().unwrap().machine = None;
        }),
        ("of another disk", |stage, _| {
            stage.disk = super::disk(1, BLOCKS)
        }),
        ("of another vault", |stage, _| {
            let store = Arc::new(MemoryStore::new());
            let vault = Vault::create(store.clone(), super::vault_options()).unwrap();
            // Even where it has all the segments.
            for (name, _) in sent(stage) {
                let bytes = stage.store.get(&name, 1 << 30).unwrap();
                store.put(&name, bytes).unwrap();
            }
            stage.vault = Arc::new(vault);
        }),
    ];
    for (what, change) in others {
        let mut stage = Stage::cut_off();
        let mut options = stage.options();
        change(&mut stage, &mut options);
        let (_, resumed) = stage.next(options);
        assert_eq!(resumed, 0, "{what}");
        assert_eq!(
            files(stage.notes.path()),
            1,
            "{what}: it is still of use to its owner"
        );
    }
}

#[test]
fn nothing_is_taken_over_while_a_collector_is_at_work() {
    // A plan that cannot be read may name anything.
    let stage = Stage::cut_off();
    let plan = SnapshotId::generate(1);
    let part = ObjectName::plan_part(plan, 0);
    stage.store.put(&part, vec![0].into()).unwrap();
    let (_, resumed) = stage.next(stage.options());
    assert_eq!(resumed, 0);
    // One that names all of it; and one that names nothing of it.
    for all in [true, false] {
        let stage = Stage::cut_off();
        let listed = stage.store.list_all(&ObjectName::segments()).unwrap();
        let ids = listed
            .iter()
            .filter_map(|one| one.name.components().last()?.parse().ok());
        let ids: BTreeSet<Condemned> = ids.filter(|_| all).map(Condemned::Segment).collect();
        let other = Condemned::Segment(ObjectId::generate());
        let ids = if all { ids } else { BTreeSet::from([other]) };
        stage.vault.put_plan(plan, &ids).unwrap();
        let (_, resumed) = stage.next(stage.options());
        assert_eq!(resumed == 0, all, "{resumed}");
    }
}

/// A run lives as long as it holds its note's lock.
#[test]
fn what_a_live_run_has_put_is_not_used() {
    let stage = Stage::cut_off();
    let live = File::open(note(&stage)).unwrap();
    live.try_lock().unwrap();
    let (_, resumed) = stage.next(stage.options());
    assert_eq!(resumed, 0);
    assert_eq!(
        files(stage.notes.path()),
        1,
        "it was taken away from a live run"
    );
}

/// Killed after its manifest was put: a full that is asked for stores everything anew.
#[test]
fn what_a_run_has_put_that_made_its_snapshot_is_not_used() {
    let stage = Stage::new();
    let mut options = stage.options();
    let directory = stage.notes.path().join("sent");
    let aside = stage.notes.path().join("aside");
    let (from, to) = (directory.clone(), aside.clone());
    options.settling = Box::new(move |_| {
        if let Some(Ok(note)) = fs::read_dir(&from).unwrap().next() {
            fs::create_dir_all(&to).unwrap();
            fs::copy(note.path(), to.join(note.file_name())).unwrap();
        }
    });
    stage.next(options);
    let kept = fs::read_dir(&aside).unwrap().next().unwrap().unwrap();
    fs::copy(kept.path(), directory.join(kept.file_name())).unwrap();
    let mut options = stage.options();
    options.full = true;
    let (_, resumed) = stage.next(options);
    assert_eq!(resumed, 0);
    assert_eq!(files(stage.notes.path()), 0);
}

#[test]
fn a_note_that_is_damaged_costs_time_only() {
    let whole = {
        let stage = Stage::cut_off();
        fs::read(note(&stage)).unwrap().len()
    };
    for at in [5, whole / 2, whole - 1] {
        for cut in [false, true] {
            let stage = Stage::cut_off();
            let path = note(&stage);
            let mut bytes = fs::read(&path).unwrap();
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] ^= 1,
            }
            fs::write(&path, bytes).unwrap();
            let (taken, resumed) = stage.next(stage.options());
            assert!(resumed < BLOCKS, "{at} {cut}: {resumed}");
            // All but the last entry is whole.
            assert!(resumed > 0 || at < whole - 1, "{at} {cut}");
            assert!(taken.manifest.warnings.is_empty());
        }
    }
}

/// A segment goes after it was looked for.
#[test]
fn no_snapshot_refers_to_what_went_meanwhile() {
    let stage = Stage::cut_off();
    let mut options = stage.options();
    let (store, name) = (Arc::clone(&stage.store), sent(&stage)[0].0.clone());
    options.before = Box::new(move |_| store.delete(&name).unwrap());
    let error = take(&stage.vault, from_ref(&stage.disk), options)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(
        error.to_string().contains("is not in the vault any more"),
        "{error}"
    );
    assert!(stage.vault.snapshots().unwrap().is_empty());
    let before = segments(stage.store.as_ref());
    let (_, resumed) = stage.next(stage.options());
    assert!(resumed >= BLOCKS - 512, "{resumed}");
    assert_eq!(segments(stage.store.as_ref()), before + 1);
}

#[test]
fn a_note_of_what_is_gone_is_asked_about_once() {
    let stage = Stage::cut_off();
    for (name, _) in sent(&stage) {
        stage.store.delete(&name).unwrap();
    }
    let mut options = stage.options();
    options.cut_off = true;
    let gone = note(&stage);
    assert!(take(&stage.vault, from_ref(&stage.disk), options).is_err());
    assert!(!gone.exists());
    assert_eq!(files(stage.notes.path()), 1, "that of the last run alone");
    assert_eq!(stage.next(stage.options()).1, BLOCKS);
}

#[test]
fn old_notes_and_empty_ones_are_taken_away() {
    let stage = Stage::cut_off();
    let path = note(&stage);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 60 * 60);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(old).unwrap();
    drop(file);
    // Not of this disk, and nobody has used it for a month.
    let other = super::disk(1, 20);
    let taken = take(&stage.vault, &[other], stage.options()).unwrap();
    assert_eq!(taken.manifest.disks[0].resumed_bytes.0, 0);
    assert_eq!(files(stage.notes.path()), 0);
    // One that nobody understands stays until it is old.
    let odd = stage.notes.path().join("sent/odd");
    fs::write(&odd, "odd").unwrap();
    stage.next(stage.options());
    assert!(odd.exists());
    File::options()
        .write(true)
        .open(&odd)
        .unwrap()
        .set_modified(old)
        .unwrap();
    stage.next(stage.options());
    assert!(!odd.exists());
}
