//! Disks as instances have them: each layer is snapshotted while it works, and what comes back is
//! compared byte by byte with the disks, then put together and read.

use super::load::Ledger;
use crate::disk::{Bus, Disk, difference, spoil};
use crate::lab::{Lab, good, new_vault, restore};
use crate::machine::Machine;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A way to build a filesystem on disks.
struct Layers {
    /// Names, hardware and MiB of the disks.
    disks: &'static [(&'static str, Bus, u64)],
    /// Makes all of it; the disks' paths are `$1`, `$2`.
    build: &'static str,
    /// Finds again what is on the disks.
    assemble: &'static str,
    /// What is mounted on `/srv/data`.
    device: &'static str,
    /// Lets go of the disks.
    release: &'static str,
}

/// An LV over two disks.
pub fn lvm_over_two_disks(lab: &Lab) -> Result<()> {
    live_and_still(
        lab,
        &Layers {
            disks: &[("pv1", Bus::Virtio, 160), ("pv2", Bus::Scsi, 160)],
            build: "pvcreate -q $1 $2; vgcreate -q vg $1 $2; \
                    lvcreate -q -y -i 2 -l 100%FREE -n lv vg; \
                    mkfs.ext4 -q -E lazy_itable_init=0 /dev/vg/lv",
            assemble: "udevadm settle; vgchange -q -ay vg",
            device: "/dev/vg/lv",
            release: "vgchange -q -an vg",
        },
    )
}

/// LUKS below LVM.
pub fn luks_under_lvm(lab: &Lab) -> Result<()> {
    live_and_still(
        lab,
        &Layers {
            disks: &[("sealed", Bus::Virtio, 400)],
            build: "printf secret >/run/key; cryptsetup -q luksFormat --pbkdf pbkdf2 \
                    --pbkdf-force-iterations 1000 --key-file /run/key $1; \
                    cryptsetup open --key-file /run/key $1 sealed; pvcreate -q /dev/mapper/sealed; \
                    vgcreate -q vgs /dev/mapper/sealed; lvcreate -q -y -l 100%FREE -n lv vgs; \
                    mkfs.xfs -q /dev/vgs/lv",
            assemble: "cryptsetup open --key-file /run/key $1 sealed; udevadm settle; \
                       vgchange -q -ay vgs",
            device: "/dev/vgs/lv",
            release: "vgchange -q -an vgs; cryptsetup close sealed",
        },
    )
}

/// A mirror of two disks.
pub fn md_raid1(lab: &Lab) -> Result<()> {
    live_and_still(
        lab,
        &Layers {
            disks: &[("leg1", Bus::Virtio, 128), ("leg2", Bus::Virtio, 128)],
            build: "mdadm --quiet --create /dev/md/mirror --run --assume-clean --level=1 \
                    --raid-devices=2 $1 $2; udevadm settle; \
                    mkfs.ext4 -q -E lazy_itable_init=0 /dev/md/mirror",
            assemble: "udevadm settle; mdadm --quiet --assemble --run /dev/md/mirror $1 $2; \
                       udevadm settle; \
                       mdadm --detail /dev/md/mirror | grep -q 'Working Devices : 2'",
            device: "/dev/md/mirror",
            release: "mdadm --quiet --wait-clean /dev/md/mirror; mdadm --stop /dev/md/mirror",
        },
    )
}

/// One btrfs over two disks.
pub fn btrfs_over_two_disks(lab: &Lab) -> Result<()> {
    live_and_still(
        lab,
        &Layers {
            disks: &[("half1", Bus::Virtio, 192), ("half2", Bus::Scsi, 192)],
            build: "mkfs.btrfs -q -m raid1 -d raid0 $1 $2",
            assemble: "udevadm settle; btrfs device scan --forget; btrfs device scan $1 $2",
            device: "$1",
            release: "true",
        },
    )
}

/// NVMe with sectors of 4 KiB, in a partition.
/// Guests are booted as a cloud's are, whose NVMe disks are not the heads of multipaths.
pub fn nvme_with_large_sectors(lab: &Lab) -> Result<()> {
    live_and_still(
        lab,
        &Layers {
            disks: &[("flash", Bus::Nvme, 400)],
            build: "sgdisk -n 1 $1 >/dev/null; udevadm settle; mkfs.xfs -q $1-part1; \
                    [ $(blockdev --getss $1) = 4096 ]",
            assemble: "for i in $(seq 100); do [ -b $1-part1 ] && break; sleep 0.2; done",
            device: "$1-part1",
            release: "true",
        },
    )
}

/// The paths of disks as the arguments of a script.
fn with_paths(disks: &[Disk], script: &str) -> String {
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    format!("set -e; set -- {}; {script}", paths.join(" "))
}

fn live_and_still(lab: &Lab, layers: &Layers) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 900)?)?;
    let disks = made(lab, layers, "")?;
    for disk in &disks {
        guest.plug(disk)?;
    }
    guest.sh(&with_paths(&disks, layers.build))?;
    guest.sh(&with_paths(&disks, &mount(layers)))?;
    let ledger = Ledger::new("/srv/data/one", "/srv/data/two");
    ledger.start(&mut guest)?;
    take(lab, &mut guest, &disks, "full")?;
    guest.sh(
        "cp -a /usr/lib/systemd /srv/data/; rm -r /srv/data/systemd/system; sync -f /srv/data",
    )?;
    let least = ledger.count(&mut guest)?;
    let live = take(lab, &mut guest, &disks, "incremental")?;
    let most = ledger.count(&mut guest)? + 1;
    guest.sh("cp -a /usr/lib/udev /srv/data/; sync -f /srv/data")?;
    ledger.stop(&mut guest)?;
    guest.sh(&with_paths(
        &disks,
        &format!("umount /srv/data; {}", layers.release),
    ))?;
    if lab.broken {
        // A write that nobody is told of.
        let last = disks.last().context("no disk")?;
        spoil(last, 60 << 20)?;
        guest.sh("echo 3 >/proc/sys/vm/drop_caches")?;
    }
    let still = take(lab, &mut guest, &disks, "incremental")?;

    // Nobody but the scenario puts together what it restores.
    guest.sh(
        "cd /etc/udev/rules.d && ln -sf /dev/null 64-md-raid-assembly.rules && \
         ln -sf /dev/null 69-lvm.rules && udevadm control --reload",
    )?;
    let copies = made(lab, layers, "-copy")?;
    for copy in &copies {
        guest.plug(copy)?;
    }
    restore_all(&mut guest, &still, (&disks, &copies))?;
    for (disk, copy) in disks.iter().zip(&copies) {
        let differs = difference(&disk.file, &copy.file)?;
        ensure!(differs.is_none(), "{} differs at {differs:?}", disk.name);
    }
    // Two of one name cannot be together; and what was snapshotted live has to work as well.
    for disk in &disks {
        guest.unplug(disk)?;
    }
    restore_all(&mut guest, &live, (&disks, &copies))?;
    guest.sh(&with_paths(&copies, layers.assemble))?;
    guest.sh(&with_paths(&copies, &mount(layers)))?;
    ledger.check(&mut guest, least, most)?;
    guest.sh(
        "[ -d /srv/data/systemd ] && [ ! -e /srv/data/systemd/system ] && [ ! -e /srv/data/udev ]",
    )?;
    guest.done();
    Ok(())
}

fn mount(layers: &Layers) -> String {
    format!("mkdir -p /srv/data; mount {} /srv/data", layers.device)
}

fn made(lab: &Lab, layers: &Layers, ending: &str) -> Result<Vec<Disk>> {
    let each = layers.disks.iter();
    each.map(|(name, bus, mib)| Disk::blank(&lab.dir, &format!("{name}{ending}"), *mib, *bus))
        .collect()
}

/// Takes a snapshot of all blocks of these disks in this mode; answers its ID.
fn take(lab: &Lab, guest: &mut Machine, disks: &[Disk], mode: &str) -> Result<String> {
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let taken: Value = good(guest, &format!("snapshot --all-blocks {}", paths.join(" ")))?;
    for disk in taken["disks"].as_array().context("no disks")? {
        ensure!(disk["mode"] == mode, "not {mode}: {taken:#}");
    }
    if let Some(time) = taken["freeze_ms"].as_f64() {
        ensure!(taken["level"] == "filesystem", "{taken:#}");
        lab.note(format!("{mode}: frozen for {time:.0} ms"));
    }
    Ok(taken["snapshot"].as_str().context("no ID")?.to_owned())
}

fn restore_all(guest: &mut Machine, id: &str, (disks, copies): (&[Disk], &[Disk])) -> Result<()> {
    for (disk, copy) in disks.iter().zip(copies) {
        restore(guest, id, &disk.name, copy)?;
    }
    Ok(())
}
