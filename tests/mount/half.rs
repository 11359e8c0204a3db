//! Logs for which there is no room: what is shown then is the filesystem without its log, and
//! nothing of a replay that was begun.

use super::scene::{Taken, listing, make};
use super::shot::{Serving, Shot};
use crate::support::host::{LoopDisk, Mount, available};
use std::time::Duration;
use stillpoint::engine::MountPlan;
use stillpoint::export::with_view;
use stillpoint::model::Bytes;

#[test]
fn nothing_of_a_replay_that_found_no_room_is_seen() {
    if !available("full scratch") {
        return;
    }
    let made = make("ext4", 24, Taken::Dirty);
    let disk = LoopDisk::holding(&made.bytes, &[]);
    let mount = Mount::somewhere(disk.path(), "ro,noload");
    let unreplayed = listing(&mount.place);
    mount.end();
    assert!(unreplayed != made.tree);
    let shot = Shot::of(&made.bytes);
    let plan = MountPlan::of(&shot.disks()).unwrap();
    for kib in [16, 128, 8192] {
        let (options, told) = shot.view(Serving {
            within: Duration::from_secs(60),
            scratch: Bytes(kib << 10),
        });
        let (without_log, seen) = with_view(options, |view| {
            let attached = view.attach(&plan.filesystems[0].attach)?;
            Ok((attached.without_log, listing(&attached.path)))
        })
        .unwrap();
        let told = told.lock().unwrap().clone();
        if without_log.is_some() {
            assert!(seen == unreplayed, "of {kib} KiB something was replayed");
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(kib < 8192);
        } else {
            assert!(seen == made.tree, "of {kib} KiB something was not replayed");
            assert!(kib > 16);
        }
    }
}
