//! Disks of a snapshot served to the clients that people have: libnbd's and QEMU's.

use super::image::{SIZE, Stage};
use super::server::Served;
use crate::support::host::run as tool;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use stillpoint::export::NbdLimits;

/// What a client says, however it ends.
fn said(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn every_client_reads_what_restoring_gives() {
    let stage = Stage::new();
    for listen in [None, Some("127.0.0.1:0"), Some("[::1]:0")] {
        let disks = vec![("vda", stage.image()), ("vdb", stage.image())];
        let served = Served::with(disks, listen, NbdLimits::default());
        let uri = served.uri("vdb");
        let restored = served.folder.path().join("restored");
        fs::write(&restored, &stage.truth).unwrap();
        let restored = restored.to_str().unwrap();

        let info: serde_json::Value =
            serde_json::from_str(&tool("nbdinfo", &["--json", &uri])).unwrap();
        let export = &info["exports"][0];
        assert_eq!(export["export-size"], SIZE);
        for (key, value) in [
            ("is_read_only", true),
            ("can_multi_conn", true),
            ("can_df", true),
            ("can_cache", true),
            ("can_trim", false),
            ("can_zero", false),
        ] {
            assert_eq!(export[key], value, "{key}: {info}");
        }
        assert_eq!(export["contexts"][0], "base:allocation", "{info}");

        let copied = served.folder.path().join("copied");
        for connections in ["--connections=1", "--connections=4"] {
            tool("nbdcopy", &[connections, &uri, copied.to_str().unwrap()]);
            assert!(fs::read(&copied).unwrap() == stage.truth, "nbdcopy");
        }
        let compared = ["compare", "-f", "raw", "-F", "raw", &uri, restored];
        assert!(tool("qemu-img", &compared).contains("identical"));
        let qcow2 = served.folder.path().join("x.qcow2");
        let qcow2 = qcow2.to_str().unwrap();
        tool(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "qcow2", &uri, qcow2],
        );
        assert!(tool("qemu-img", &["compare", qcow2, restored]).contains("identical"));
        let read = tool("qemu-io", &["-r", "-f", "raw", "-c", "read -v 0 512", &uri]);
        assert!(read.contains("512/512"), "{read}");
    }
}

#[test]
fn clients_see_what_is_data_and_what_is_not() {
    let stage = Stage::new();
    let served = Served::new(vec![("vda", stage.image())]);
    let uri = served.uri("vda");
    let map = tool("nbdinfo", &["--map", "--json", &uri]);
    let map: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
    let mut at = 0;
    for run in &map {
        assert_eq!(run["offset"], at);
        let length = run["length"].as_u64().unwrap();
        let bytes = &stage.truth[at as usize..(at + length) as usize];
        let is_zeros = bytes.iter().all(|byte| *byte == 0);
        // Data may be zeros all the same; nothing else may be data.
        match run["type"].as_u64().unwrap() {
            0 => {}
            3 => assert!(is_zeros, "{run}"),
            other => panic!("a run of type {other}"),
        }
        at += length;
    }
    assert_eq!(at, SIZE);
    assert!(map.len() > 4, "{map:?}");
    let qemu = tool("qemu-img", &["map", "-f", "raw", "--output=json", &uri]);
    let qemu: Vec<serde_json::Value> = serde_json::from_str(&qemu).unwrap();
    let data = |of: &serde_json::Value| of["data"] == true;
    let of_qemu: u64 = qemu
        .iter()
        .filter(|run| data(run))
        .map(|run| run["length"].as_u64().unwrap())
        .sum();
    let of_libnbd: u64 = map
        .iter()
        .filter(|run| run["type"] == 0)
        .map(|run| run["length"].as_u64().unwrap())
        .sum();
    assert_eq!(of_qemu, of_libnbd);
}

#[test]
fn nobody_writes_and_nobody_finds_what_is_not_served() {
    let stage = Stage::new();
    let served = Served::new(vec![("vda", stage.image())]);
    let (done, text) = said(
        "qemu-io",
        &["-f", "raw", "-c", "write 0 512", &served.uri("vda")],
    );
    assert!(!done && text.contains("Permission denied"), "{text}");
    let (done, text) = said("nbdinfo", &[&served.uri("nosuch")]);
    assert!(!done && text.contains("No such file"), "{text}");
    assert!(tool("nbdinfo", &["--list", &served.uri("")]).contains("vda of a test"));
    assert_eq!(
        tool("nbdinfo", &["--size", &served.uri("")]).trim(),
        SIZE.to_string()
    );
}

#[test]
fn a_socket_is_its_owners_and_goes_with_the_server() {
    let stage = Stage::new();
    let mut served = Served::new(vec![("vda", stage.image())]);
    let found = fs::symlink_metadata(served.socket()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o777, 0o600);
    served.end();
    assert!(!served.socket().exists());
}
