//! Whether a clock is believed when it says that a snapshot is old.

use super::times::edited;
use super::{HOUR, Scene, ago, disk};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::fs;
use stillpoint::plan::{ClockCase, ClockReading, ClockWord, HoldReason, PlanRecord, STEADY_RUNS};

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 3600;

fn now() -> Timestamp {
    "2026-12-01T02:30:00Z".parse().unwrap()
}

/// The clocks of a boot, so many seconds after it began, and the time, so many after `now`.
fn clocks(boot: &str, up: i64, wall: i64) -> ClockReading {
    ClockReading {
        boot: boot.into(),
        up_ms: u64::try_from(up * 1000).unwrap(),
        slept_ms: 0,
        wall: now() + SignedDuration::from_secs(wall),
    }
}

/// A plan that runs each hour, and what is noted of it.
struct Host {
    record: PlanRecord,
}

impl Host {
    fn new() -> Self {
        let plan = edited(|edit| edit.set_text("every", "1h"));
        Self {
            record: PlanRecord::new(&plan, now()),
        }
    }

    /// A run that ends at `clocks`; returns whether it may delete.
    fn runs(&mut self, clocks: &ClockReading, word: ClockWord) -> bool {
        self.runs_from(clocks, clocks, word)
    }

    fn runs_from(&mut self, begun: &ClockReading, ended: &ClockReading, word: ClockWord) -> bool {
        self.record.judge_clock(&ClockCase {
            begun: Some(begun),
            now: Some(ended),
            word,
            before: None,
            interval: SignedDuration::from_hours(1),
            was_ahead: false,
        });
        self.record.prune_held.is_none()
    }
}

#[test]
fn two_clocks_in_step_differ_by_little() {
    let one = clocks("a", 1000, 0);
    for (other, in_step) in [
        (clocks("a", 1000, 0), Some(true)),
        (clocks("a", 1000 + DAY, DAY), Some(true)),
        (clocks("a", 1000 + DAY, DAY + 100), Some(true)),
        (clocks("a", 1000 + DAY, DAY + 300), Some(false)),
        (clocks("a", 1000 + DAY, DAY - 300), Some(false)),
        (clocks("a", 1000 + MINUTE, -DAY), Some(false)),
        (clocks("a", 1000 + MINUTE, 400 * DAY), Some(false)),
        (clocks("a", 900, -100), Some(false)),
        (clocks("b", 1000 + DAY, DAY), None),
    ] {
        assert_eq!(other.in_step(&one), in_step, "{other:?}");
    }
}

/// Off for a day and a bit, and a host that nobody tells the time: nothing is held back.
#[test]
fn a_steady_clock_is_believed_over_reboots() {
    let mut host = Host::new();
    host.record.clock = Some(clocks("a", 5000, 0));
    assert!(host.runs(&clocks("a", 5000 + 30 * DAY, 30 * DAY), ClockWord::Nobody));
    // Over a reboot, as late as a plan may be.
    let later = 30 * DAY + 25 * 3600;
    assert!(host.runs(&clocks("b", 100, later), ClockWord::Nobody));
    assert_eq!(host.record.clock, Some(clocks("b", 100, later)));
    // Off for three days, and nobody says that the clock is right.
    let later = later + 3 * DAY;
    assert!(!host.runs(&clocks("c", 100, later), ClockWord::Nobody));
    assert_eq!(host.record.hold_reason, HoldReason::Jumped);
    // The same with a time service.
    let mut host = Host::new();
    host.record.clock = Some(clocks("a", 5000, 0));
    assert!(host.runs(&clocks("c", 100, 3 * DAY), ClockWord::Right));
}

#[test]
fn a_clock_that_jumps_is_believed_again_by_evidence() {
    for jump in [400 * DAY, -DAY, 3600, -3600] {
        let mut host = Host::new();
        host.record.clock = Some(clocks("a", 5000, 0));
        let jumped = clocks("a", 8600, 3600 + jump);
        assert!(!host.runs(&jumped, ClockWord::Nobody), "{jump}");
        // It goes on from there: still nobody says that it is right.
        let on = clocks("a", 12_200, 7200 + jump);
        assert!(!host.runs(&on, ClockWord::Nobody), "{jump}");
        let right = clocks("a", 15_800, 3 * 3600);
        assert!(host.runs(&right, ClockWord::Agreed), "{jump}");
        assert_eq!(host.record.steady, None);
    }
}

/// A time service that is misled moves the clock and calls it right: a day must pass, and then it
/// has been put right, or was right.
#[test]
fn a_time_service_alone_does_not_excuse_a_jump_that_was_seen() {
    for jump in [400 * DAY, -DAY] {
        let mut host = Host::new();
        host.record.clock = Some(clocks("a", 5000, 0));
        let mut free_after = None;
        for hour in 0..40 {
            let (up, wall) = (8600 + hour * 3600, 3600 + jump + hour * 3600);
            if host.runs(&clocks("a", up, wall), ClockWord::Right) {
                free_after.get_or_insert(hour);
            }
        }
        assert_eq!(free_after, Some(24), "{jump}");
    }
    // Off for long, and its notes lost: there the word is enough.
    let mut host = Host::new();
    assert!(!host.runs(&clocks("a", 5000, 0), ClockWord::Nobody));
    assert!(host.runs(&clocks("a", 8600, 3600), ClockWord::Right));
    assert!(host.runs(&clocks("b", 100, 30 * DAY), ClockWord::Right));
    // A vault with another time goes before it.
    let wrong = ClockWord::Wrong(SignedDuration::from_hours(9600));
    assert!(!host.runs(&clocks("b", 3700, 30 * DAY + 3600), wrong));
}

/// While a host sleeps both clocks go by the one of its hardware.
#[test]
fn a_host_that_has_slept_for_long_has_no_steady_clock() {
    let slept = |seconds: i64| ClockReading {
        slept_ms: u64::try_from(seconds * 1000).unwrap(),
        ..clocks("a", 5000 + seconds, seconds)
    };
    for (seconds, word, free) in [
        (30, ClockWord::Nobody, true),
        (8 * 3600, ClockWord::Nobody, true),
        (30 * DAY, ClockWord::Nobody, false),
        // The kernel does not know that its clock was set so.
        (30 * DAY, ClockWord::Right, false),
        (30 * DAY, ClockWord::Agreed, true),
    ] {
        let mut host = Host::new();
        host.record.clock = Some(clocks("a", 5000, 0));
        assert_eq!(
            host.runs(&slept(seconds), word.clone()),
            free,
            "{seconds} {word:?}"
        );
    }
}

/// In the run, too: before the snapshot, and between it and what deletes.
#[test]
fn a_jump_in_the_middle_of_a_run_is_noticed() {
    let mut host = Host::new();
    host.record.clock = Some(clocks("a", 5000, 0));
    let (begun, ended) = (clocks("a", 8600, 3600), clocks("a", 9000, 4000 + 400 * DAY));
    assert!(!host.runs_from(&begun, &ended, ClockWord::Nobody));

    let mut host = Host::new();
    host.record.clock = Some(clocks("a", 5000, 0));
    assert!(host.runs(&clocks("a", 8600, 3600), ClockWord::Nobody));
    let steady = clocks("a", 8600 + 7200, 3600 + 7200);
    host.record.look_again(Some(&steady), &ClockWord::Nobody);
    assert_eq!(host.record.prune_held, None);
    let jumped = clocks("a", 8600 + 7300, 3600 + 400 * DAY);
    // A vault with a clock of its own says the same.
    let mut right = host.record.clone();
    right.look_again(Some(&jumped), &ClockWord::Agreed);
    assert_eq!(right.prune_held, None);
    host.record.look_again(Some(&jumped), &ClockWord::Nobody);
    assert_eq!(host.record.prune_held, Some(jumped.wall));
}

/// A host without any time service goes on when its clock was steady for runs and days.
#[test]
fn without_any_word_it_ends_after_runs_and_days() {
    let mut host = Host::new();
    host.record.clock = Some(clocks("a", 5000, 0));
    let start = 400 * DAY;
    assert!(!host.runs(&clocks("a", 8600, start), ClockWord::Nobody));
    let mut free_after = None;
    for hour in 1..=80 {
        let at = clocks("a", 8600 + hour * 3600, start + hour * 3600);
        if host.runs(&at, ClockWord::Nobody) {
            free_after.get_or_insert(hour);
        }
    }
    assert_eq!(free_after, Some(72), "three days");
    // Seldom runs: so many of them, whatever time passes.
    let mut host = Host::new();
    let first = clocks("a", 8600, 0);
    assert!(!host.runs(&first, ClockWord::Nobody));
    assert_eq!(host.record.hold_reason, HoldReason::Unnoted);
    for week in 1..=i64::from(STEADY_RUNS) {
        // It is not asked whether that is late for its interval.
        let at = clocks("a", 8600 + week * 7 * DAY, week * 7 * DAY);
        let free = host.runs(&at, ClockWord::Nobody);
        assert_eq!(free, week == i64::from(STEADY_RUNS), "{week}");
    }
    // A jump between begins the count anew.
    let mut host = Host::new();
    host.record.clock = Some(clocks("a", 5000, 0));
    assert!(!host.runs(&clocks("a", 8600, DAY), ClockWord::Nobody));
    for (up, wall) in [(80, 81), (160, 161), (161, 20), (241, 100)] {
        let at = clocks("a", 8600 + up * 3600, wall * 3600);
        assert!(!host.runs(&at, ClockWord::Nobody), "{up} {wall}");
    }
}

#[test]
fn a_vault_with_a_clock_of_its_own_is_a_witness() {
    let at = |seconds: i64| now() + SignedDuration::from_secs(seconds);
    for (apart, word) in [
        (0, ClockWord::Agreed),
        (599, ClockWord::Agreed),
        (-599, ClockWord::Agreed),
        (1800, ClockWord::Nobody),
        (7200, ClockWord::Wrong(SignedDuration::from_secs(7200))),
        (-7200, ClockWord::Wrong(SignedDuration::from_secs(-7200))),
    ] {
        assert_eq!(ClockWord::of_vault(now(), at(apart)), word, "{apart}");
    }
    let mut host = Host::new();
    host.record.clock = Some(clocks("a", 5000, 0));
    let wrong = ClockWord::Wrong(SignedDuration::from_hours(2));
    assert!(!host.runs(&clocks("a", 8600, 3600), wrong));
    assert_eq!(host.record.hold_reason, HoldReason::Disputed);
    assert!(host.runs(&clocks("a", 12_200, 7200), ClockWord::Agreed));
}

/// Without a note the next run knows of no time before: it deletes nothing, by hand neither.
#[test]
fn where_nothing_is_noted_nothing_is_deleted() {
    let Some(scene) = Scene::new("plans: lost notes") else {
        return;
    };
    let disk = disk(&scene.lab);
    let base = format!(
        "id = \"mine\"\nstart = {:?}\nevery = \"1d\"\ndisks = [{:?}]\nvault = {:?}\n",
        ago(HOUR / 2),
        disk.device,
        scene.lab.at("vault"),
    );
    scene.write("daily", &base, 10 * HOUR);
    for _ in 0..2 {
        scene.run(&["plan", "run", "daily"]).expect(0);
    }
    let text = format!("{base}[retention]\nlast = 1\n[gc]\nevery = \"1d\"\n");
    scene.write("daily", &text, 10 * HOUR);
    let path = scene.lab.path("plans/daily.json");
    let mut count = 2;
    let by_hand = ["plan", "run", "daily", "--clock-is-right"];
    for args in [&["plan", "run", "--due"][..], &by_hand] {
        for gone in [true, false] {
            match gone {
                true => fs::remove_file(&path).unwrap(),
                false => fs::write(&path, "{").unwrap(),
            }
            let ran = scene.checked("plan run", args, 0);
            count += 1;
            assert_eq!(scene.snapshots().len(), count, "{args:?} {gone}: {ran}");
            for step in ran["plans"][0]["steps"].as_array().unwrap() {
                let said = step["outcome"]["said"].as_str().unwrap();
                assert!(said.starts_with("nothing is deleted yet"), "{ran}");
            }
            assert_eq!(scene.note("daily")["hold_reason"], json!("unnoted"));
        }
    }
    let shown = scene.run(&["plan", "show", "daily"]).expect(0).stdout;
    assert!(shown.contains("deletes nothing since"), "{shown}");
    // Whoever says so now was told.
    scene.run(&by_hand).expect(0);
    assert_eq!(scene.snapshots().len(), 1);
    let note = scene.note("daily");
    assert_eq!(note["prune_held"], json!(null));
    // By hand, too, a clock that has jumped since the run before is told first.
    let mut jumped = note.clone();
    // By its time gc is owed.
    jumped["steps"]["gc"]["served"] = "2020-01-01T00:00:00Z".into();
    let gc_served = jumped["steps"]["gc"]["served"].clone();
    jumped["clock"]["wall"] = format!("{}Z", ago(100 * HOUR)).into();
    fs::write(&path, jumped.to_string()).unwrap();
    let ran = scene.checked("plan run", &by_hand, 3);
    let said = ran["plans"][0]["steps"][0]["outcome"]["said"].to_string();
    assert!(said.contains("the clock has jumped"), "{ran}");
    assert_eq!(scene.snapshots().len(), 2);
    // Nobody has looked at it: not by asking for a run.
    scene.run(&["plan", "run", "daily"]).expect(3);
    assert_eq!(scene.snapshots().len(), 3);
    // What must wait is not done for its time.
    assert_eq!(scene.note("daily")["steps"]["gc"]["served"], gc_served);
    scene.run(&by_hand).expect(0);
    assert_eq!(scene.snapshots().len(), 1);
}
