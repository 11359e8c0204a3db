//! `snapshot --all`, on a host of which `/sys/block` is made up in a mount namespace of its own:
//! loop disks by other names stand for real ones.

use super::lab::{Disk, Lab, Run, finish, tool};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A made-up `/sys/block`, and the nodes in `/dev` that go with it.
struct MadeUp<'a> {
    lab: &'a Lab,
    folder: PathBuf,
    nodes: Vec<PathBuf>,
}

impl<'a> MadeUp<'a> {
    fn new(lab: &'a Lab) -> Self {
        let folder = lab.path("sys");
        fs::create_dir(&folder).unwrap();
        Self {
            lab,
            folder,
            nodes: Vec::new(),
        }
    }

    /// The name by which a loop disk is a disk of its own.
    fn name(letter: char) -> String {
        format!("sp{}{letter}", std::process::id())
    }

    fn add(&mut self, letter: char, disk: &Disk, more: &[(&str, &str)]) {
        let name = Self::name(letter);
        let real = PathBuf::from("/sys/block").join(disk.name());
        let made = self.folder.join(&name);
        fs::create_dir_all(made.join("mq")).unwrap();
        fs::create_dir_all(made.join("queue")).unwrap();
        let attributes = ["dev", "size", "ro", "diskseq", "queue/logical_block_size"];
        for attribute in attributes {
            let text = fs::read(real.join(attribute)).unwrap();
            fs::write(made.join(attribute), text).unwrap();
        }
        for (attribute, text) in more {
            fs::write(made.join(attribute), text).unwrap();
        }
        let number = fs::read_to_string(real.join("dev")).unwrap();
        let minor = number.trim().strip_prefix("7:").unwrap();
        let node = PathBuf::from("/dev").join(name);
        tool("mknod", &[node.to_str().unwrap(), "b", "7", minor]);
        self.nodes.push(node);
    }

    /// A device of which there is nothing but a folder.
    fn add_folder(&self, name: &str, files: &[(&str, &str)], folders: &[&str]) {
        let made = self.folder.join(name);
        for folder in folders {
            fs::create_dir_all(made.join(folder)).unwrap();
        }
        for (file, text) in files {
            let path = made.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn remove(&mut self, letter: char) {
        fs::remove_dir_all(self.folder.join(Self::name(letter))).unwrap();
    }

    fn run(&self, args: &[&str]) -> Run {
        let made = self.folder.to_str().unwrap();
        let script =
            format!("mount -t tmpfs none /sys/block && cp -a {made}/. /sys/block && exec \"$@\"");
        let prefix = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        finish(&mut self.lab.command_with(&prefix, args))
    }
}

impl Drop for MadeUp<'_> {
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = fs::remove_file(node);
        }
    }
}

/// A partition table with this name; the kernel is not told.
fn name_table(disk: &Disk, id: u32) {
    let mut entry = [0; 72];
    entry[..4].copy_from_slice(&id.to_le_bytes());
    entry[10] = 0x83;
    entry[14..18].copy_from_slice(&[1, 0, 0, 0]);
    entry[70..].copy_from_slice(&[0x55, 0xaa]);
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(&entry, 440).unwrap();
    device.sync_all().unwrap();
}

fn taken(document: &Value) -> Vec<&str> {
    let disks = document["disks"].as_array().unwrap().iter();
    disks.map(|disk| disk["disk"].as_str().unwrap()).collect()
}

fn why<'a>(document: &'a Value, name: &str) -> &'a str {
    let mut left_out = document["left_out"].as_array().unwrap().iter();
    let one = left_out.find(|one| one["disk"] == name);
    one.unwrap_or_else(|| panic!("{name} is not named: {document}"))["reason"]
        .as_str()
        .unwrap()
}

#[test]
fn all_takes_what_can_be_taken_and_names_the_rest_with_the_reason() {
    let Some(lab) = Lab::new("all") else {
        return;
    };
    let name = MadeUp::name;
    let mut made = MadeUp::new(&lab);
    let mut system = lab.disk("system", 24 << 20);
    let place = system.mount("ext4");
    fs::write(place.join("file"), super::lab::noise(1 << 20, 1)).unwrap();
    made.add('a', &system, &[("serial", "S-A")]);
    let mut store = lab.disk("store", 48 << 20);
    let vault = store.mount("ext4").join("vault");
    let vault = vault.to_str().unwrap();
    lab.run(&["init", vault]).expect(0);
    made.add('v', &store, &[("serial", "S-V")]);
    let small = |name: &str| lab.disk(name, 1 << 20);
    let kept = lab.disk_with("kept", 1 << 20, &["--read-only"]);
    made.add('r', &kept, &[]);
    let unwanted = small("unwanted");
    made.add('x', &unwanted, &[]);
    let paths = [small("e"), small("f"), small("g"), small("h")];
    for (letter, disk) in ['e', 'f'].into_iter().zip(&paths[..2]) {
        made.add(letter, disk, &[]);
    }
    for (letter, disk) in ['g', 'h'].into_iter().zip(&paths[2..]) {
        made.add(letter, disk, &[("serial", "TWIN")]);
    }
    let members = ['e', 'f'].map(|letter| format!("slaves/{}", name(letter)));
    made.add_folder(
        "dm-0",
        &[
            ("dev", "4000:0"),
            ("size", "2048"),
            ("dm/name", "mpatha"),
            ("dm/uuid", "mpath-1"),
        ],
        &members.each_ref().map(String::as_str),
    );
    // The copy has the lower name: what was there first is the original.
    let (original, copy) = (small("original"), small("copy"));
    name_table(&original, std::process::id());
    name_table(&copy, std::process::id());
    made.add('j', &original, &[]);
    made.add('i', &copy, &[]);
    made.add_folder("zram0", &[("dev", "4001:0"), ("size", "8")], &[]);
    made.add_folder("sr0", &[("dev", "4002:0"), ("size", "8")], &[]);
    made.add_folder(
        "loop9",
        &[
            ("dev", "4003:9"),
            ("size", "8"),
            ("loop/backing_file", "/x"),
        ],
        &[],
    );

    let args = [
        "snapshot",
        "--all",
        "--vault",
        vault,
        "--exclude",
        &name('x'),
        "--json",
    ];
    let first = made.run(&args).expect(3).json();
    assert_eq!(taken(&first), [name('a'), name('j')], "{first}");
    for (left_out, words) in [
        (name('v').as_str(), "the vault lies on it"),
        (&name('r'), "read-only"),
        (&name('x'), "excluded"),
        (&name('e'), "paths of the multipath disk mpatha"),
        (&name('f'), "paths of the multipath disk mpatha"),
        (&name('g'), "say that they are the same disk"),
        (&name('h'), "say that they are the same disk"),
        (&name('i'), "could not tell them apart"),
        ("dm-0", "a multipath device, on"),
        ("zram0", "compressed memory"),
        ("sr0", "a drive for discs"),
        ("loop9", "a loop device"),
    ] {
        let why = why(&first, left_out);
        assert!(why.contains(words), "{left_out}: {why}");
    }
    assert_eq!(first["left_out"].as_array().unwrap().len(), 12, "{first}");
    assert_eq!(first["disks"][0]["level"], "filesystem");

    // A disk attached since is simply there; what is left out now is nothing to worry about.
    for letter in ['e', 'f', 'g', 'h', 'i'] {
        made.remove(letter);
    }
    let new = small("new");
    made.add('n', &new, &[]);
    let second = made.run(&args).expect(0).json();
    assert_eq!(
        taken(&second),
        [name('a'), name('j'), name('n')],
        "{second}"
    );
    assert_eq!(second["level"], "filesystem");
    assert_eq!(second["disks"][1]["parent"], first["snapshot"]);
    assert_eq!(second["disks"][2]["mode"], "full");
}
