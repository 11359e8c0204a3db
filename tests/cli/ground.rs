//! A vault on the disk that is snapshotted is refused, whichever way leads there.

use super::lab::{Disk, Lab, tool, try_tool};
use super::table::two_sentences;
use std::path::{Path, PathBuf};

/// Something mounted, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(place: &Path, args: &[&str]) -> Self {
        std::fs::create_dir_all(place).unwrap();
        tool("mount", &[args, &[place.to_str().unwrap()]].concat());
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let place = self.0.to_str().unwrap();
        let _ = try_tool("umount", &[place]) || try_tool("umount", &["--lazy", place]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A vault in that folder, which lies on that disk, is refused.
fn refused(lab: &Lab, disk: &Disk, folder: &Path) {
    let vault = folder.join("vault");
    if !vault.exists() {
        lab.run(&["init", text(&vault)]).expect(0);
    }
    let run = lab.run(&["snapshot", &disk.device, "--vault", text(&vault)]);
    let (message, hint) = two_sentences("a vault on the disk", &run.expect(2).stderr);
    let words = format!("lies on {}", disk.name());
    assert!(message.contains(&words), "{message}");
    assert!(hint.contains("another disk"), "{hint}");
}

#[test]
fn a_vault_on_the_disk_is_refused_plain_and_through_a_bind_mount() {
    let Some(lab) = Lab::new("ground: plain and bind") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    refused(&lab, &disk, &place);
    std::fs::create_dir(place.join("inside")).unwrap();
    let inside = place.join("inside");
    let bound = Mounted::new(&lab.path("bound"), &["--bind", text(&inside)]);
    refused(&lab, &disk, &bound.0);
}

#[test]
fn a_vault_on_an_overlay_lies_where_its_upper_folder_does() {
    let Some(lab) = Lab::with_vault("ground: overlay") else {
        return;
    };
    if !std::fs::read_to_string("/proc/filesystems")
        .unwrap()
        .contains("overlay")
    {
        crate::support::host::skipped("ground: overlay", "needs overlayfs");
        return;
    }
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    for name in ["top/upper", "top/work", "low"] {
        std::fs::create_dir_all(place.join(name)).unwrap();
    }
    // By another name, as where containers are kept on a disk of their own.
    std::os::unix::fs::symlink(place.join("top"), lab.path("link")).unwrap();
    let (low, link) = (place.join("low"), lab.path("link"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        text(&low),
        text(&link.join("upper")),
        text(&link.join("work"))
    );
    let args = ["-t", "overlay", "-o", &options, "none"];
    let overlay = Mounted::new(&lab.path("overlay"), &args);
    refused(&lab, &disk, &overlay.0);
    let other = lab.disk("other", 1 << 20);
    let vault = overlay.0.join("vault");
    let elsewhere = ["snapshot", &other.device, "--vault", text(&vault), "--json"];
    lab.run(&elsewhere).expect(0);

    // Nobody sees any more where it is.
    std::fs::remove_file(&link).unwrap();
    let run = lab.run(&elsewhere).expect(3);
    let warnings = run.json()["warnings"].to_string();
    assert!(warnings.contains("on which disks"), "{warnings}");
}

#[test]
fn a_vault_in_a_file_on_the_disk_is_refused_whatever_the_files_name_leads_to() {
    let Some(lab) = Lab::new("ground: a loop on a file") else {
        return;
    };
    let mut disk = lab.disk("disk", 64 << 20);
    let place = disk.mount("ext4");
    let folder = place.join("images");
    std::fs::create_dir(&folder).unwrap();
    let image = folder.join("image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(24 << 20)
        .unwrap();
    let device = crate::support::host::attach(&image, &[]);
    let mut inner = Disk {
        device: text(&device).to_owned(),
        image: lab.path("inner"),
        mounted: None,
    };
    let inside = inner.mount("ext4");
    refused(&lab, &disk, &inside);
    // The name that the loop device shows leads to memory now.
    let over = Mounted::new(&folder, &["-t", "tmpfs", "none"]);
    refused(&lab, &disk, &inside);
    inner.unmount();
    drop(inner);
    drop(over);
}
