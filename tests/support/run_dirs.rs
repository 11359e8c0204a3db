//! Run directories of tests.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes one, in which the switch of the whole host that a run uses has a stand-in.
pub fn make(run_dir: &Path) {
    DirBuilder::new().mode(0o700).create(run_dir).unwrap();
    std::fs::write(run_dir.join("rcu_expedited"), "0\n").unwrap();
}
