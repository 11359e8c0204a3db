//! The changed-block tracker on real disks.
use stillpoint::track::*;

#[test]
fn smoke() {
    let pins = PinDir::named("stillpoint-test-smoke").unwrap();
    let (tracker, started) = Tracker::start(&pins).unwrap_or_else(|e| panic!("{e} {:?}", e.hint()));
    println!("{started:?}");
    tracker.stop().unwrap();
}
