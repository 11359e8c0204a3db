//! The whole cycle by the command line on a loop disk: init, full, incremental, list, verify,
//! restore. What comes back is the disk.

use super::server::{BUCKET, SECRET, Server, environment};
use crate::cli::lab::{Lab, Run, finish, noise};
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// The program with a vault in the server's bucket.
fn command(lab: &Lab, server: &Server, args: &[&str]) -> Command {
    let mut command = lab.command(args);
    environment(&mut command, &server.endpoint);
    command.env("STILLPOINT_VAULT", format!("s3://{BUCKET}/hosts/one"));
    command
}

fn run(lab: &Lab, server: &Server, args: &[&str]) -> Run {
    let run = finish(&mut command(lab, server, args));
    assert!(!format!("{run:?}").contains(SECRET), "{run:?}");
    run
}

/// Takes a byte from the end of each file; returns how many there are.
fn cut_short_all_below(directory: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += cut_short_all_below(&path);
            continue;
        }
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        count += 1;
    }
    count
}

#[test]
fn what_went_into_a_bucket_comes_back() {
    let Some(lab) = Lab::new("what_went_into_a_bucket_comes_back") else {
        return;
    };
    let server = Server::start();
    let run = |args: &[&str]| run(&lab, &server, args);
    let made = run(&["init", "s3://bucket/hosts/one", "--name", "far", "--json"]).expect(0);
    assert_eq!(made.json()["location"], "s3://bucket/hosts/one");
    let again = run(&["init", "s3://bucket/hosts/one", "--json"]).expect(1);
    assert_eq!(again.json()["error"]["kind"], "exists", "{again:?}");

    let mut disk = lab.disk("a", 96 << 20);
    let place = disk.mount("ext4");
    let (one, two) = (noise(40 << 20, 1), noise(3 << 20, 2));
    std::fs::write(place.join("one"), &one).unwrap();
    let snapshot = |mode: &str| {
        let taken = run(&["snapshot", &disk.device, "--json"]).expect(0).json();
        assert_eq!(taken["disks"][0]["mode"], mode, "{taken}");
        taken
    };
    let full = snapshot("full");
    std::fs::write(place.join("two"), &two).unwrap();
    let second = snapshot("incremental");
    assert!(
        second["disks"][0]["stored_bytes"].as_u64() < full["disks"][0]["stored_bytes"].as_u64()
    );

    let listed = run(&["list", "--json"]).expect(0).json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 2, "{listed}");
    run(&["verify", "--all"]).expect(0);
    // Losing the cache, or some of its bytes, costs time only.
    let kept = cut_short_all_below(&lab.path("cache"));
    assert!(kept >= 4, "manifests and footers are kept: {kept}");
    disk.unmount();
    for (snapshot, second) in [(&full, None), (&second, Some(&two))] {
        let target = lab.at("restored.img");
        let id = snapshot["snapshot"].as_str().unwrap();
        run(&["restore", id, &target, "--force"]).expect(0);
        let restored = crate::support::host::LoopDisk::of_file(target.as_ref(), &[]);
        let mount = lab.path("restored.mnt");
        std::fs::create_dir_all(&mount).unwrap();
        let mount_at = mount.to_str().unwrap();
        crate::cli::lab::tool("mount", &["-o", "ro,noload", &restored.device, mount_at]);
        assert!(std::fs::read(mount.join("one")).unwrap() == one);
        assert_eq!(std::fs::read(mount.join("two")).ok().as_ref(), second);
        crate::cli::lab::tool("umount", &[mount_at]);
    }
    run(&["restore", "latest", &lab.at("last.img")]).expect(0);
    let difference = run(&["verify", "--against-disk", "latest", "--json"]);
    assert!([0, 3].contains(&difference.code), "{difference:?}");
    run(&["delete", full["snapshot"].as_str().unwrap()]).expect(0);
    run(&["verify", "--all"]).expect(0);
}
