//! A run that gave control groups the io controller and came no further: it is taken back.

use crate::cli::lab::Lab;
use crate::support::host::{Mount, available};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;
use stillpoint::ErrorKind;
use stillpoint::freeze::{Throttle, ThrottleOptions};
use stillpoint::model::{Bytes, DevNumber};

/// What stands in for the control groups of the host.
fn make_groups(top: &Path) {
    fs::create_dir_all(top.join("busy")).unwrap();
    fs::write(top.join("busy/io.max"), "").unwrap();
    fs::write(top.join("cgroup.subtree_control"), "cpu memory\n").unwrap();
}

fn given(top: &Path) -> String {
    fs::read_to_string(top.join("cgroup.subtree_control")).unwrap()
}

#[test]
fn what_a_dead_run_gave_and_had_not_noted_is_taken_back() {
    let Some(lab) = Lab::with_vault("freeze: controller of a dead run") else {
        return;
    };
    let (groups, noted) = (lab.path("run/cgroup"), lab.path("run/io-controller"));
    make_groups(&groups);
    fs::write(groups.join("cgroup.subtree_control"), "cpu io memory\n").unwrap();
    fs::write(&noted, stillpoint::sys::machine::boot_id().unwrap()).unwrap();
    lab.run(&["thaw"]).expect(0);
    assert_eq!(given(&groups), "-io");
    assert!(!noted.exists());
}

#[test]
fn a_full_run_directory_leaves_no_controller_given() {
    if !available("freeze: full run directory") {
        return;
    }
    let groups = tempfile::tempdir().unwrap();
    make_groups(groups.path());
    // Room for the file that says who gave the controller, and no more.
    let full = Mount::tmpfs("4k");
    let run_dir = full.place.join("run");
    DirBuilder::new().mode(0o700).create(&run_dir).unwrap();
    symlink(groups.path(), run_dir.join("cgroup")).unwrap();
    let options = ThrottleOptions {
        program: env!("CARGO_BIN_EXE_stillpoint").into(),
        run_dir: run_dir.clone(),
        disks: vec![DevNumber {
            major: 7,
            minor: 300,
        }],
        rate: Bytes(10 << 20),
    };
    let error = Throttle::begin(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(given(groups.path()), "-io");
    assert!(!run_dir.join("io-controller").exists());
}
