//! Whether each kernel that a machine may start finds a disk on machines of other kinds: by drivers
//! that are built into it or lie in its initramfs. What the initramfs holds is read from it; how it
//! is made only says what to change.

use super::drivers::{PLATFORMS, Platform, driver_of, matters};
use super::image_maker::{ImageMaker, image_maker};
use super::kernels::{BootKernel, arch_of, to_be_started};
use super::tree::{MachineFiles, said};
use super::unpack::{UnpackLimits, each_name};
use super::verdict::{BootRisk, BootRiskLevel, Restorability};
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

/// Most that comes out of an image. One with all drivers has 400 MiB.
const UNPACKED: u64 = 4 << 30;

/// Most files in one; one with all drivers has 5000.
const FILES: usize = 1 << 20;

/// Longest time that one is read for: a slow disk, a slow processor and `xz` need some ten seconds.
const TIME: Duration = Duration::from_secs(60);

/// The drivers of a kernel, and where they stand.
struct KernelDrivers {
    /// In the kernel itself.
    built_in: BTreeSet<String>,
    /// In its initramfs.
    early: BTreeSet<String>,
    /// On the root, where they are of no use before it is mounted.
    late: BTreeSet<String>,
}

/// Looks at the kernels and their images.
pub(super) fn look(tree: &MachineFiles, found: &mut Restorability) {
    let maker = image_maker(tree, found);
    let kernels = to_be_started(tree, found);
    for kernel in &kernels {
        look_at(tree, kernel, &maker, found);
    }
    if let Some(arch) = kernels.first().and_then(|one| arch_of(tree, &one.image)) {
        found.note(format!(
            "its kernel is for {arch}: it boots on no other kind of processor"
        ));
    }
    refused_drivers(tree, found);
}

fn look_at(
    tree: &MachineFiles,
    kernel: &BootKernel,
    maker: &ImageMaker,
    found: &mut Restorability,
) {
    let modules = format!("/lib/modules/{}", kernel.release);
    let built_in = tree.text(&format!("{modules}/modules.builtin"), found);
    let Some(built_in) = built_in else {
        let what = format!("the drivers of kernel {}", kernel.release);
        return found.could_not(what, format!("{modules}/modules.builtin is not there"));
    };
    let late = tree.text(&format!("{modules}/modules.dep"), found);
    let late = late.unwrap_or_default();
    let path_of = |line: &str| driver_of(line.split(':').next().unwrap_or_default());
    let mut drivers = KernelDrivers {
        built_in: built_in.lines().filter_map(driver_of).collect(),
        early: BTreeSet::new(),
        late: late.lines().filter_map(path_of).collect(),
    };
    if let Some(image) = &kernel.initramfs {
        match early_drivers(tree, image, &kernel.release) {
            Ok(early) => drivers.early = early,
            Err(error) => {
                found.could_not(image.as_str(), error.to_string());
                return not_seen(image, maker, found);
            }
        }
    }
    judge(tree, kernel, &drivers, maker, found);
}

/// The drivers in an image that are of that kernel.
fn early_drivers(tree: &MachineFiles, image: &str, release: &str) -> io::Result<BTreeSet<String>> {
    let file = tree.file(image)?;
    let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let folder = format!("lib/modules/{release}/");
    let mut drivers = BTreeSet::new();
    let limits = UnpackLimits {
        bytes: UNPACKED,
        files: FILES,
        until: Instant::now() + TIME,
    };
    each_name(file, limits, &mut |name| {
        let driver = name.contains(&folder).then(|| driver_of(name)).flatten();
        drivers.extend(driver.filter(|driver| matters(driver)));
    })?;
    Ok(drivers)
}

/// An image that could not be read is judged by how it is made.
fn not_seen(image: &str, maker: &ImageMaker, found: &mut Restorability) {
    if let Some(place) = &maker.for_this_machine {
        found.risk(BootRisk {
            level: BootRiskLevel::MayNotBoot,
            what: format!("{image} is made for this machine's disks alone"),
            place: place.clone(),
            why: "another machine's disks need other drivers, and without them it finds no root"
                .into(),
            remedy: maker.remedy(&[]),
        });
    }
}

fn judge(
    tree: &MachineFiles,
    kernel: &BootKernel,
    drivers: &KernelDrivers,
    maker: &ImageMaker,
    found: &mut Restorability,
) {
    let early: BTreeSet<String> = drivers.built_in.union(&drivers.early).cloned().collect();
    let ever: BTreeSet<String> = early.union(&drivers.late).cloned().collect();
    let x86 = arch_of(tree, &kernel.image).is_none_or(|arch| arch == "x86_64");
    let platforms: Vec<&Platform> = PLATFORMS
        .iter()
        .filter(|one| x86 || !one.x86_only)
        .collect();
    let has = |one: &&Platform| one.lacks(&early).is_empty();
    let carried: Vec<&str> = platforms
        .iter()
        .filter(|p| has(p))
        .map(|p| p.name)
        .collect();
    let (mut lacking, mut wanted, mut never) = (Vec::new(), BTreeSet::new(), Vec::new());
    for platform in platforms.iter().filter(|one| !has(one)) {
        let lacks_ever = platform.lacks(&ever);
        match lacks_ever.is_empty() {
            true => {
                let lacks = platform.lacks(&early);
                lacking.push(platform.with(&lacks));
                wanted.extend(lacks);
            }
            false => never.push(platform.with(&lacks_ever)),
        }
    }
    let release = &kernel.release;
    let image = kernel.initramfs.as_deref();
    if image.is_none() && carried.is_empty() {
        let why = "no file of a usual name is there (initrd.img-*, initramfs-*.img, initrd-*)";
        return found.could_not(format!("the initramfs of kernel {release}"), why);
    }
    if let (None, Some(remedy)) = (image, maker.makes(release)) {
        return found.risk(none_made(kernel, remedy));
    }
    let place = image.unwrap_or(&kernel.image).to_owned();
    let drives = match carried.is_empty() {
        true => "has a driver for no disk of a usual kind".to_owned(),
        false => format!("finds disks of: {}", carried.join("; ")),
    };
    found.saw(place.clone(), format!("kernel {release} {drives}"));
    if !never.is_empty() {
        found.note(format!(
            "kernel {release} has no driver at all for {}: for such a machine install another \
             kernel before",
            never.join("; ")
        ));
    }
    if !lacking.is_empty() {
        let wanted: Vec<&str> = wanted.into_iter().collect();
        found.risk(lacks_drivers(
            release, place, &lacking, &carried, maker, &wanted,
        ));
    } else if let Some(config) = maker.will_leave_out() {
        found.risk(BootRisk {
            level: BootRiskLevel::MayNotBoot,
            what: "the next initramfs will have the drivers of this machine's disks alone".into(),
            place: config.to_owned(),
            why: format!("{place} still has the others; an update of the kernel makes it anew"),
            remedy: maker.remedy(&[]),
        });
    }
}

/// It may have disk drivers of its own, and still find no root.
fn none_made(kernel: &BootKernel, remedy: String) -> BootRisk {
    BootRisk {
        level: BootRiskLevel::MayNotBoot,
        what: format!(
            "kernel {} has no initramfs, and this machine makes them",
            kernel.release
        ),
        place: kernel.image.clone(),
        why: "a root that is named by UUID or label, or lies in LVM, LUKS or md, is found by an \
              initramfs alone; was /boot full?"
            .into(),
        remedy,
    }
}

fn lacks_drivers(
    release: &str,
    place: String,
    lacking: &[String],
    carried: &[&str],
    maker: &ImageMaker,
    wanted: &[&str],
) -> BootRisk {
    let made = maker.for_this_machine.as_ref();
    let made = made.map_or(String::new(), |file| {
        format!("; {file} has it made of few drivers")
    });
    BootRisk {
        level: match carried.len() < 2 {
            true => BootRiskLevel::WillNotBoot,
            false => BootRiskLevel::MayNotBoot,
        },
        what: format!(
            "the initramfs of kernel {release} lacks drivers of disks: {}",
            lacking.join("; ")
        ),
        place,
        why: format!("on such a machine the kernel finds no root, and stops there{made}"),
        remedy: maker.remedy(wanted),
    }
}

/// Drivers that the machine is told not to load: hardening guides do so.
fn refused_drivers(tree: &MachineFiles, found: &mut Restorability) {
    let folders = ["/etc/modprobe.d", "/usr/lib/modprobe.d", "/run/modprobe.d"];
    for path in tree.files_of(&folders, ".conf", found) {
        let text = tree.text(&path, found).unwrap_or_default();
        for line in said(&path, &text) {
            let mut words = line.text.split_whitespace();
            let (order, driver) = (words.next(), words.next().unwrap_or_default());
            let refuses = match order {
                Some("blacklist") => true,
                Some("install") => {
                    words.any(|word| word.ends_with("/false") || word.ends_with("/true"))
                }
                _ => false,
            };
            let driver = driver.replace('-', "_");
            if refuses && matters(&driver) {
                found.risk(BootRisk {
                    level: BootRiskLevel::MayNotBoot,
                    what: format!("the driver {driver} is not to be loaded"),
                    place: line.place,
                    why: "a machine whose disks need it finds no root".into(),
                    remedy: "take the line out, and make the initramfs anew".into(),
                });
            }
        }
    }
}
