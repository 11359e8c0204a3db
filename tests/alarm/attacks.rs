//! Attacks: what stood there is encrypted in place, all of it or a part of each file.

use super::*;
use jiff::Timestamp;
use stillpoint::engine::refuse_kept;
use stillpoint::store::CountStore;

#[test]
fn it_is_told_once_and_the_last_clean_snapshot_is_held() {
    let Some(stage) = Stage::new("told", &[text(80 * MIB, 1), vec![0; 8 * MIB]].concat()) else {
        return;
    };
    let full = stage.snapshot();
    assert_eq!(full.disks[0].rewritten, None, "there is nothing to count");
    stage.write(0, &text(8 * MIB, 2));
    let clean = stage.snapshot();
    let usual_day = RewrittenRecord {
        blocks: blocks(8),
        ..RewrittenRecord::default()
    };
    assert_eq!((noted(&clean), is_told(&clean)), (usual_day, false));

    stage.write(0, &noise(40 * MIB, 3));
    let struck = stage.snapshot();
    let found = noted(&struck);
    assert_eq!(
        (found.blocks, found.hardly_pack, found.usual),
        (blocks(40), blocks(40), 0)
    );
    let alarm = found
        .alarm
        .filter(|alarm| alarm.told == struck.snapshot)
        .expect("it is told");
    assert_eq!(alarm.clean, clean.snapshot);
    assert_eq!(
        (alarm.looked, alarm.packed),
        (alarm.looked.max(200), alarm.looked)
    );
    assert!(is_told(&struck), "{:?}", struck.warnings);
    let release = format!("keep {} --release {}", clean.snapshot, alarm.hold());
    assert!(
        struck.warnings.iter().any(|said| said.contains(&release)),
        "{:?}",
        struck.warnings
    );
    // In the vault, too: but for what was done when it was there already.
    let stored = stage
        .vault()
        .manifest(&stage.find(struck.snapshot))
        .unwrap();
    assert_eq!(noted(&stored), found);
    assert!(is_told(&stored), "{:?}", stored.warnings);
    assert_eq!(stage.holds(clean.snapshot), [alarm.hold()]);
    let refused = refuse_kept(
        &stage.vault(),
        &stage.find(clean.snapshot),
        Timestamp::now(),
        &Silent,
    );
    assert!(refused.unwrap_err().to_string().contains(&alarm.hold()));
    assert_eq!(stage.newest(&struck).alarm, Some(alarm));

    // The next night it goes on as before: that is usual by now, and no new hold is put.
    stage.write(40, &noise(40 * MIB, 4));
    let next = stage.snapshot();
    let found = noted(&next);
    assert_eq!((found.hardly_pack, found.usual), (blocks(40), blocks(40)));
    assert!(
        !is_told(&next) && found.alarm == Some(alarm),
        "{:?}",
        next.warnings
    );
    assert_eq!(stage.keeps(), 1);
    // `status` tells it until somebody has released the hold.
    assert_eq!(stage.newest(&next).alarm, Some(alarm));
    stage
        .vault()
        .release(clean.snapshot, &alarm.hold(), &Silent)
        .unwrap();
    assert_eq!(stage.newest(&next).alarm, None);
}

/// What gets faster is told again, also after a night at the same pace; the snapshot before the
/// first is the clean one, until somebody has released it.
#[test]
fn what_grows_is_told_again_and_the_first_clean_one_stays_held() {
    let Some(stage) = Stage::new("grows", &text(180 * MIB, 1)) else {
        return;
    };
    let clean = stage.snapshot();
    stage.write(0, &noise(33 * MIB, 2));
    let first = stage.snapshot();
    stage.write(33, &noise(33 * MIB, 3));
    assert!(!is_told(&stage.snapshot()), "it is usual by now");
    stage.write(66, &noise(110 * MIB, 4));
    let second = stage.snapshot();
    for (struck, share) in [(&first, 33), (&second, 110)] {
        let alarm = noted(struck).alarm.expect("it is told");
        assert_eq!((alarm.told, alarm.clean), (struck.snapshot, clean.snapshot));
        assert_eq!(noted(struck).hardly_pack, blocks(share));
        assert!(is_told(struck) && alarm.held, "{:?}", struck.warnings);
    }
    let hold = noted(&first).alarm.unwrap().hold();
    assert_eq!(stage.holds(clean.snapshot), std::slice::from_ref(&hold));
    assert_eq!(stage.keeps(), 1);
    // `status` goes on to tell it, on quiet days too, until the hold is released.
    let quiet = stage.snapshot();
    assert_eq!(stage.newest(&quiet).alarm, noted(&second).alarm);
    let released = stage.vault().release(clean.snapshot, &hold, &Silent);
    assert_eq!(released.unwrap(), 1);
    assert_eq!(stage.newest(&quiet).alarm, None);
}

/// Each second block alone, which is as fast again: those that were rewritten count.
#[test]
fn a_part_of_each_file_is_enough() {
    let Some(stage) = Stage::new("parts", &text(80 * MIB, 1)) else {
        return;
    };
    let clean = stage.snapshot();
    let block = BLOCK_SIZE as usize;
    let mut contents = text(80 * MIB, 1);
    for (at, part) in contents.chunks_mut(block).enumerate().step_by(2) {
        part.copy_from_slice(&noise(block, at as u64));
    }
    stage.write(0, &contents);
    let struck = stage.snapshot();
    assert_eq!(noted(&struck).hardly_pack, blocks(40));
    assert!(is_told(&struck), "{:?}", struck.warnings);
    assert_eq!(stage.holds(clean.snapshot).len(), 1);
}

/// A look costs the footers of few segments, a listing and a keep; a day like others nothing.
#[test]
fn a_look_asks_for_little() {
    let Some(stage) = Stage::new("requests", &text(120 * MIB, 1)) else {
        return;
    };
    let counted = Arc::new(CountStore::new(stage.store.clone()));
    let snapshot = |alarm: bool| {
        let vault = Arc::new(Vault::open(counted.clone()).unwrap());
        counted.take();
        let manifest = stage.snapshot_to(
            &vault,
            |options| options.encryption_alarm = alarm,
            |quiesce| quiesce,
        );
        let counts = counted.take();
        let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
        (manifest, [of("put"), of("get"), of("size"), of("list")])
    };
    snapshot(true);
    stage.write(0, &text(40 * MIB, 2));
    let (ordinary, least) = snapshot(true);
    assert!(!is_told(&ordinary));
    stage.write(0, &text(40 * MIB, 3));
    let (_, without) = snapshot(false);
    assert_eq!(
        least[3], without[3],
        "a day like others asks for nothing more"
    );
    stage.write(0, &noise(40 * MIB, 4));
    let (struck, most) = snapshot(true);
    assert!(is_told(&struck), "{:?}", struck.warnings);
    // The keep, and a segment more than forty MiB of text take, with its footer's copy.
    let more = [most[0] - least[0], most[2] - least[2], most[3] - least[3]];
    assert!(
        more[0] <= 3 && more[1] <= 3 && more[2] == 1,
        "{least:?} {most:?}"
    );
    // The sample that every incremental reads has brought most footers already.
    assert!(most[1] <= least[1] + 16, "{least:?} {most:?}");
}
