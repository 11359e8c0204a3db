//! Days like others: what they rewrite is counted and not told.

use super::*;

#[test]
fn what_people_do_is_not_told() {
    let contents = [text(45 * MIB, 1), noise(45 * MIB, 2), vec![0; 45 * MIB]].concat();
    let Some(stage) = Stage::new("days", &contents) else {
        return;
    };
    stage.snapshot();
    let day = |what: &str, expected: [u64; 2]| {
        let manifest = stage.snapshot();
        let found = noted(&manifest);
        assert_eq!([found.blocks, found.hardly_pack], expected, "{what}");
        assert!(
            !is_told(&manifest) && found.alarm.is_none(),
            "{what}: {:?}",
            manifest.warnings
        );
        manifest
    };
    stage.write(0, &text(40 * MIB, 3));
    day("other text", [blocks(40), 0]);
    stage.write(0, &noise(20 * MIB, 4));
    day("some files were packed", [blocks(20), blocks(20)]);
    stage.write(90, &noise(40 * MIB, 5));
    day("photos came to where nothing was", [0, 0]);
    // More than three times what is usual by now: it is looked up how these had packed.
    stage.write(45, &noise(45 * MIB, 6));
    stage.write(90, &noise(40 * MIB, 7));
    let packed = [blocks(85), blocks(85)];
    stage.write(0, &text(8 * MIB, 8));
    day(
        "other photos over photos",
        [packed[0] + blocks(8), packed[1]],
    );
    stage.write(45, &text(45 * MIB, 9));
    stage.write(90, &vec![0; 40 * MIB]);
    let last = day("they were unpacked and deleted", [blocks(45), 0]);
    assert_eq!(noted(&last).usual, blocks(85));
    assert_eq!(stage.keeps(), 0);
}

#[test]
fn off_is_off_and_what_is_usual_is_known_all_the_same() {
    let Some(stage) = Stage::new("off", &text(80 * MIB, 1)) else {
        return;
    };
    stage.snapshot();
    stage.write(0, &noise(40 * MIB, 2));
    let quiet = stage.snapshot_with(|options| options.encryption_alarm = false);
    assert_eq!(
        (noted(&quiet).hardly_pack, noted(&quiet).alarm),
        (blocks(40), None)
    );
    assert!(!is_told(&quiet), "{:?}", quiet.warnings);
    // So who encrypts the disk with the alarm off for a night is not told the next night.
    stage.write(40, &noise(40 * MIB, 3));
    let next = stage.snapshot();
    assert_eq!((noted(&next).usual, is_told(&next)), (blocks(40), false));
    assert_eq!(stage.keeps(), 0);
}
