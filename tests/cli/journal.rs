//! A filesystem whose journal lies on another disk: without that it is not whole.

use super::lab::{Disk, Lab, Run, noise, tool};
use std::fs;

/// Two disks, the second the journal of the first, which is mounted.
fn pair(lab: &Lab) -> (Disk, Disk) {
    let (mut data, journal) = (lab.disk("data", 100 << 20), lab.disk("log", 16 << 20));
    let on = format!("device={}", journal.device);
    let small = ["-q", "-b", "4096"];
    let args = [&small[..], &["-O", "journal_dev", &journal.device]].concat();
    tool("mke2fs", &args);
    let args = [&small[..], &["-J", &on, &data.device]].concat();
    tool("mkfs.ext4", &args);
    let place = data.mount_again("ext4");
    fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    (data, journal)
}

/// The warnings that speak of that disk: other filesystems of this machine have their own.
fn warnings_of(run: &Run, disk: &Disk) -> Vec<String> {
    let document = run.json();
    let warnings = document["warnings"].as_array().unwrap().iter();
    let warnings = warnings.map(|one| one.as_str().unwrap().to_owned());
    warnings.filter(|one| one.contains(&disk.device)).collect()
}

#[test]
fn an_ext4_whose_journal_is_elsewhere_is_named_and_both_together_are_whole() {
    let Some(lab) = Lab::with_vault("cli: journal elsewhere") else {
        return;
    };
    let (data, journal) = pair(&lab);
    let alone = lab.run(&["snapshot", &data.device, "--json"]).expect(3);
    let told = warnings_of(&alone, &data);
    assert!(told[0].contains("outside"), "{told:?}");
    let both = ["snapshot", &data.device, &journal.device, "--json"];
    let both = lab.run(&both).expect(0);
    assert_eq!(both.json()["level"], "filesystem", "{both:?}");
    assert!(warnings_of(&both, &journal).is_empty(), "{both:?}");
}

/// Found by the superblocks where no thread can be asked, as on kernels that do not tell which one
/// it is; by its own name, where the number that is noted there is another's by now.
#[test]
fn the_journal_is_found_by_its_name_where_nothing_else_tells() {
    let Some(lab) = Lab::with_vault("cli: journal by name") else {
        return;
    };
    let (data, journal) = pair(&lab);
    let both = ["snapshot", &data.device, &journal.device, "--json"];
    let hide = "mount -t tmpfs none /sys/fs/ext4 && exec \"$@\"";
    let prefix = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    let run = super::lab::finish(&mut lab.command_with(&prefix, &both));
    assert!([0, 3].contains(&run.code), "{run:?}");
    let document = run.json();
    assert_eq!(document["level"], "filesystem", "{document}");
    assert!(warnings_of(&run, &data).is_empty(), "{document}");
}
