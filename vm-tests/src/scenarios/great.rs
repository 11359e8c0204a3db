//! The great scenario: an instance is snapshotted from inside while it works, it is lost, and a
//! machine made of nothing but the vault boots and has everything.

use super::bank;
use super::load::Ledger;
use crate::cache::Layout;
use crate::disk::{Disk, spoil};
use crate::lab::{LONG, Lab, good, known_vault, new_vault, partitions};
use crate::machine::{Firmware, Machine};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The disks of the instance, and where its vault is.
pub(super) struct Instance {
    data: Disk,
    pub(super) vault: Disk,
    pub(super) ledger: Ledger,
    layout: Layout,
    /// After each record of its ledgers, and after each transfer: seconds.
    pub(super) pause: &'static str,
}

impl Instance {
    /// With its root on a partition, and work that leaves the machine time for more.
    pub(super) fn at_ease(lab: &Lab) -> Result<Self> {
        let pause = "0.3";
        Ok(Self {
            pause,
            ..Self::new(lab, Layout::Plain)?
        })
    }

    fn new(lab: &Lab, layout: Layout) -> Result<Self> {
        Ok(Self {
            data: lab.blank("data", 640)?,
            vault: lab.blank("vault", 3000)?,
            ledger: Ledger::new("/var/lib/ledger", "/srv/data/ledger"),
            layout,
            pause: "0",
        })
    }
}

/// What was there around the last snapshot.
pub(super) struct Expected {
    least: u64,
    most: u64,
    /// Transfers of the database.
    bank: (u64, u64),
}

/// Full and incremental, live; restored by a rescue guest; booted by BIOS and by UEFI.
pub fn an_instance_boots_again(lab: &Lab) -> Result<()> {
    great(lab, Layout::Plain)
}

/// The same with the root in a logical volume.
pub fn an_instance_on_lvm_boots_again(lab: &Lab) -> Result<()> {
    great(lab, Layout::Lvm)
}

fn great(lab: &Lab, layout: Layout) -> Result<()> {
    let instance = Instance::new(lab, layout)?;
    let expected = live(lab, &instance)?;
    let (system, data) = rescue(lab, &instance)?;
    if lab.broken {
        // GRUB's second part.
        (0..16).try_for_each(|part| spoil(&system, (1 << 20) + part * 4096))?;
    }
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        boot(lab, (&system, &data), firmware, (&instance, &expected))
            .with_context(|| format!("the new machine, by {firmware:?}"))?;
    }
    Ok(())
}

/// The instance at work, and its two snapshots.
pub(super) fn live(lab: &Lab, instance: &Instance) -> Result<Expected> {
    let mut guest = lab.guest_on("instance", instance.layout)?;
    guest.plug(&instance.data)?;
    new_vault(&mut guest, &instance.vault)?;
    let data = instance.data.path();
    guest.sh(&format!(
        "set -e; mkfs.xfs -q {data}; mkdir -p /srv/data; mount {data} /srv/data; \
         echo UUID=$(blkid -s UUID -o value {data}) /srv/data xfs defaults 0 0 >>/etc/fstab; \
         cp -a /usr/lib/python3* /opt/; cp -a /usr/lib/python3* /srv/data/; sync"
    ))?;
    let pause = instance.pause;
    instance.ledger.start_with(&mut guest, "", pause)?;
    bank::open(&mut guest, pause)?;
    snapshot(lab, &mut guest, "full")?;
    work(&mut guest)?;
    let least = instance.ledger.count(&mut guest)?;
    let confirmed = bank::confirmed(&mut guest)?;
    snapshot(lab, &mut guest, "incremental")?;
    let most = instance.ledger.count(&mut guest)? + 1;
    let bank = (confirmed, bank::confirmed(&mut guest)? + 1);
    ensure!(confirmed >= 20, "the database does not get on");
    guest.sh("touch /root/after-the-snapshot /srv/data/after-the-snapshot; sync")?;
    // The instance is gone, in the middle of its work.
    guest.power_cut()?;
    Ok(Expected { least, most, bank })
}

/// One snapshot of both disks, which have to be captured in this mode.
fn snapshot(lab: &Lab, guest: &mut Machine, mode: &str) -> Result<()> {
    let begun = Instant::now();
    let taken = good(guest, "snapshot vda vdb --level application")?;
    let seconds = begun.elapsed().as_secs_f64();
    let disks = taken["disks"].as_array().context("no disks")?;
    for disk in disks {
        ensure!(disk["mode"] == mode, "not {mode}: {disk:#}");
    }
    ensure!(taken["level"] == "application", "{taken:#}");
    let sum = |key: &str| -> u64 { disks.iter().filter_map(|disk| disk[key].as_u64()).sum() };
    lab.note(format!(
        "{mode}: frozen {} ms, read {} MiB, stored {} MiB, {seconds:.1} s",
        taken["freeze_ms"],
        sum("read_bytes") >> 20,
        sum("stored_bytes") >> 20
    ));
    Ok(())
}

/// What happens on an instance between two snapshots.
fn work(guest: &mut Machine) -> Result<()> {
    guest.sh(
        "set -e; dpkg -i /srv/packages/*.deb >/dev/null 2>&1; jq --version; tree --version; \
         rm -rf /opt/python3 /srv/data/python3; cp -a /usr/lib/systemd /srv/data/systemd; \
         echo written by the instance >/boot/efi/note; sync -f /boot/efi; \
         find /srv/data/systemd -type f -print0 | xargs -0 sha256sum /usr/bin/jq /usr/bin/tree \
         >/root/sums",
    )?;
    Ok(())
}

/// Another machine, with the vault and two blank disks.
fn rescue(lab: &Lab, instance: &Instance) -> Result<(Disk, Disk)> {
    let mut guest = lab.guest("rescue")?;
    let system = lab.blank("new-system", 2560)?;
    let data = lab.blank("new-data", 640)?;
    known_vault(&mut guest, &instance.vault)?;
    guest.plug(&system)?;
    guest.plug(&data)?;
    let list = good(&mut guest, "list")?;
    let text = list.to_string();
    ensure!(text.matches("\"snapshot\"").count() >= 2, "{list:#}");
    let begun = Instant::now();
    let (to, other) = (system.path(), data.path());
    good(
        &mut guest,
        &format!("restore latest --map vda={to},vdb={other} --yes"),
    )?;
    lab.note(format!(
        "both disks restored in {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    check_filesystems(&mut guest, (&system, &data), instance.layout)?;
    guest.power_off()?;
    Ok((system, data))
}

/// Nothing has to be repaired before the first boot; an ESP cannot be frozen, so that it says it
/// was in use, and no more than that. Files that were deleted and still open (a database has some)
/// are taken away by any mount: that is done on a layer above, so that the disk stays as it is.
fn check_filesystems(
    guest: &mut Machine,
    (system, data): (&Disk, &Disk),
    layout: Layout,
) -> Result<()> {
    partitions(guest, system)?;
    let (system, data) = (system.path(), data.path());
    let root = match layout {
        Layout::Plain => format!("{system}-part4"),
        Layout::Lvm => "/dev/system/root".into(),
    };
    let (activate, release) = match layout {
        Layout::Plain => ("true", "true"),
        Layout::Lvm => ("vgchange -q -ay system >&2", "vgchange -q -an system >&2"),
    };
    // What opens the disk to write, sgdisk too, makes udev take its partitions away and back.
    let script = format!(
        "check_esp() {{ fsck.vfat -n {system}-part2 >/run/esp || grep -q 'Dirty bit' /run/esp; \
         ! grep -iE 'chain|cluster is|lost|orphan|truncat' /run/esp >&2; }}; \
         set -e; {activate}; sleep 3; udevadm settle; \
         dumpe2fs -h {root} >/run/super; if grep needs_recovery /run/super >&2; then exit 1; fi; \
         size=$(blockdev --getsz {root}); \
         truncate -s 128M /run/above; above=$(losetup --find --show /run/above); \
         dmsetup create above --table \"0 $size snapshot {root} $above N 16\"; dmesg -C; \
         mkdir -p /mnt/root; mount /dev/mapper/above /mnt/root; umount /mnt/root; \
         if dmesg | grep -E 'EXT4-fs (error|warning)' >&2; then exit 1; fi; \
         e2fsck -fn /dev/mapper/above; dmsetup remove above; losetup -d $above; check_esp; \
         mkdir -p /mnt/data; mount {data} /mnt/data; umount /mnt/data; xfs_repair -n {data}; \
         {release}; sgdisk -v {system} | grep -q 'No problems found'"
    );
    guest.sh_within(&script, LONG)?;
    Ok(())
}

/// The new machine, from its own boot loader; nothing of the old one is there.
fn boot(
    lab: &Lab,
    (system, data): (&Disk, &Disk),
    firmware: Firmware,
    (instance, expected): (&Instance, &Expected),
) -> Result<()> {
    let name = format!("new-{firmware:?}").to_lowercase();
    // Each boot finds it as it was restored; the system's disk is looked after by the lab.
    let mut data = data.clone();
    let restored = std::mem::replace(&mut data.file, lab.dir.join(format!("{name}-data.raw")));
    copy_sparsely(&restored, &data.file)?;
    let disks = [data];
    let mut guest = lab.power_on(&name, firmware, (&system.file, &disks))?;
    check_new(&mut guest, firmware, instance, expected)?;
    guest.done();
    Ok(())
}

/// The new machine has everything that was there at the snapshot; how many records its ledgers
/// have, and its database of transfers.
pub(super) fn check_new(
    guest: &mut Machine,
    firmware: Firmware,
    instance: &Instance,
    expected: &Expected,
) -> Result<(u64, u64)> {
    let uefi = guest.sh("[ -d /sys/firmware/efi ] && echo yes || echo no")?;
    ensure!(
        (uefi == "yes") == (firmware == Firmware::Uefi),
        "UEFI: {uefi}"
    );
    guest.sh(
        "set -e; findmnt /srv/data; findmnt -no OPTIONS / | grep -q rw; \
         swapon --show | grep -q vda; \
         sha256sum --quiet -c /root/sums; jq --version; tree --version; \
         [ ! -e /opt/python3 ]; [ ! -e /srv/data/python3 ]; \
         grep -q instance /boot/efi/note; \
         [ ! -e /root/after-the-snapshot ]; [ ! -e /srv/data/after-the-snapshot ]; \
         ! journalctl -b -k | grep -E 'EXT4-fs error|XFS.*[Cc]orrupt'",
    )?;
    let records = instance
        .ledger
        .check(guest, expected.least, expected.most)?;
    let transfers = bank::check(guest, expected.bank.0, expected.bank.1)?;
    let failed = guest.sh("systemctl --failed --plain --no-legend")?;
    let storage = ["mount", "fsck", "swap", "device", "lvm"];
    ensure!(
        !storage.iter().any(|word| failed.contains(word)),
        "{failed}"
    );
    Ok((records, transfers))
}

fn copy_sparsely(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    let status = copy.arg("--sparse=always").args([from, to]).status()?;
    ensure!(status.success(), "cp {}: {status}", from.display());
    Ok(())
}
