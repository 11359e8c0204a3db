//! What is mounted in another namespace of mounts, in a file of an overlay there, as containers
//! have it: it is frozen with the disk below it, or said not to be.

use super::lab::{Lab, tool};
use crate::support::held::Held;
use crate::support::host::skipped;

/// An image in an overlay of the folder `$1`, mounted at `$2`.
const INSIDE: &str = "\
mkdir -p $1/low $1/upper $1/work $1/all &&
mount -t overlay -o lowerdir=$1/low,upperdir=$1/upper,workdir=$1/work none $1/all &&
truncate -s 24M $1/all/image &&
mkfs.ext4 -q -F $1/all/image &&
mount -o loop $1/all/image $2";

#[test]
fn what_lies_in_a_file_of_a_containers_overlay_is_frozen_or_named() {
    let Some(lab) = Lab::with_vault("cli: a container") else {
        return;
    };
    let mut disk = lab.disk("disk", 96 << 20);
    let place = disk.mount("ext4");
    let (top, inner) = (place.join("top"), lab.path("inner"));
    std::fs::create_dir(&inner).unwrap();
    // Its mounts end with it.
    let Some(container) = Held::new(true, INSIDE, "true", &[&top, &inner]) else {
        skipped("cli: a container", "needs overlayfs");
        return;
    };
    let taken = lab.json(&["snapshot", &disk.device]);
    let frozen = taken["disks"][0]["filesystems"].as_array().unwrap();
    assert_eq!(frozen.len(), 2, "{taken}");
    assert!(frozen.iter().all(|one| one["frozen"] == true), "{taken}");

    // By the name that the overlay has of its folder, nobody finds it any more.
    tool("mount", &["-t", "tmpfs", "none", place.to_str().unwrap()]);
    let run = lab.run(&["snapshot", &disk.device, "--json"]);
    // Of the image's own device all is known that its snapshot needs.
    let mut sources = frozen.iter().map(|one| one["source"].as_str().unwrap());
    let inner = sources.find(|source| *source != disk.device).unwrap();
    let alone = lab.run(&["snapshot", inner, "--json"]);
    tool("umount", &[place.to_str().unwrap()]);
    let taken = run.expect(3).json();
    let warnings = taken["warnings"].to_string();
    assert!(
        warnings.contains("cannot be told which disks it lives on"),
        "{taken}"
    );
    drop(container);
    assert_eq!(alone.expect(0).json()["warnings"], serde_json::json!([]));
}
