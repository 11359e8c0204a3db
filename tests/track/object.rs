//! The committed kernel object is what its source says.

use crate::support::host::{attempt, skipped};
use std::path::Path;

#[test]
fn the_object_is_built_from_its_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("src/track/bpf");
    let built_by = std::fs::read_to_string(directory.join("cbt.bpf.clang")).unwrap();
    let present = std::process::Command::new("clang")
        .arg("-dumpversion")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let Ok(present) = present else {
        skipped("the_object_is_built_from_its_source", "no clang");
        return;
    };
    if present.split('.').next().map(str::trim) != Some(built_by.trim()) {
        let why = format!(
            "clang {} here, built by {}",
            present.trim(),
            built_by.trim()
        );
        skipped("the_object_is_built_from_its_source", &why);
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let fresh = scratch.path().join("cbt.bpf.o");
    let script = root.join("scripts/build-bpf");
    let output = attempt(script.to_str().unwrap(), &[fresh.to_str().unwrap()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let committed = std::fs::read(directory.join("cbt.bpf.o")).unwrap();
    assert!(
        std::fs::read(&fresh).unwrap() == committed,
        "cbt.bpf.o is stale: run scripts/build-bpf"
    );
    let text = String::from_utf8_lossy(&committed).into_owned();
    let here = root.to_str().unwrap();
    assert!(!text.contains(here), "the object names {here}");
}
