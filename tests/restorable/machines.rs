//! Whole machines, and what each change of one is called.

use super::machine::{DRIVERS, Machine, Packing, image};
use super::places;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use stillpoint::engine::{BootRiskLevel, Restorability};

use BootRiskLevel::{BehavesOtherwise, MayNotBoot, WillNotBoot};

fn assert_clean(found: &Restorability) {
    assert!(found.is_clean(), "{found:#?}");
}

#[test]
fn a_cloud_image_as_it_comes_is_called_good() {
    let debian = Machine::debian().look();
    assert_clean(&debian);
    let notes = debian.notes.join("\n");
    // Told, and held against nobody: no kernel of clouds has these drivers, and host keys are meant
    // to go.
    assert!(
        notes.contains("no driver at all for VMware (vmw_pvscsi)"),
        "{notes}"
    );
    assert!(notes.contains("throws the SSH host keys away"), "{notes}");
    let image = &debian.looked_at;
    let image = image
        .iter()
        .find(|one| one.what.contains("initrd.img"))
        .unwrap();
    for kind in ["virtio disks", "virtio-scsi", "NVMe", "Xen", "Azure"] {
        assert!(image.found.contains(kind), "{image:?}");
    }
    assert_clean(&Machine::ubuntu().look());
    assert_clean(&Machine::suse().look());
    assert_clean(&Machine::alma(&DRIVERS).look());
}

#[test]
fn an_image_of_one_cloud_alone_says_so() {
    let found = Machine::amazon().look();
    assert_eq!(
        places(&found),
        [(BehavesOtherwise, "/etc/cloud/cloud.cfg:1")]
    );
    assert!(found.risks[0].what.contains("Ec2"), "{found:?}");
}

#[test]
fn an_initramfs_for_this_machine_alone_will_not_boot_elsewhere() {
    let own = [
        "drivers/block/virtio_blk.ko",
        "drivers/virtio/virtio_pci.ko",
    ];
    let found = Machine::alma(&own).look();
    let [risk] = found.risks.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(risk.level, WillNotBoot);
    assert_eq!(
        risk.place,
        "/boot/initramfs-5.14.0-427.13.1.el9_4.x86_64.img"
    );
    for word in [
        "nvme",
        "xen_blkfront",
        "hv_storvsc",
        "virtio_scsi",
        "vmw_pvscsi",
        "ahci",
    ] {
        assert!(
            risk.what.contains(word) && risk.remedy.contains(word),
            "{word}: {risk:?}"
        );
    }
    assert!(!risk.what.contains("virtio_blk"), "{risk:?}");
    assert!(risk.why.contains("01-dist.conf:1"), "{risk:?}");
    assert!(risk.remedy.contains("dracut --force"), "{risk:?}");
    // With most of them it depends on where it goes.
    let without_xen: Vec<&str> = DRIVERS
        .into_iter()
        .filter(|one| !one.contains("xen"))
        .collect();
    let found = Machine::alma(&without_xen).look();
    assert_eq!(found.risks[0].level, MayNotBoot);
    assert!(
        found.risks[0]
            .what
            .ends_with("Xen (older AWS) (xen_blkfront)"),
        "{found:?}"
    );
}

#[test]
fn what_is_built_into_the_kernel_counts() {
    let machine = Machine::alma(&[]);
    let built_in: String = DRIVERS
        .iter()
        .map(|one| format!("kernel/{one}\n"))
        .collect();
    let folder = "usr/lib/modules/5.14.0-427.13.1.el9_4.x86_64";
    machine.write(&format!("{folder}/modules.builtin"), &built_in);
    assert_clean(&machine.look());
}

#[test]
fn drivers_of_another_kernel_do_not_count() {
    let machine = Machine::alma(&[]);
    let path = "boot/initramfs-5.14.0-427.13.1.el9_4.x86_64.img";
    machine.write_bytes(path, &image("5.14.0-1.el9.x86_64", &DRIVERS, Packing::Gzip));
    assert_eq!(machine.look().risks[0].level, WillNotBoot);
}

/// What the boot loader was told to start is looked at, though it is neither the newest nor what
/// runs; and where its kernel is not found, that is told.
#[test]
fn the_kernel_that_the_loader_has_saved_counts() {
    let chosen = "5.14.0-70.el9.x86_64";
    let id = "0123456789abcdef0123456789abcdef";
    let debian = format!("gnulinux-advanced-7f7c>gnulinux-{chosen}-advanced-7f7c");
    let by_title = format!("GRUB_DEFAULT=\"Advanced>Linux {chosen}\"\n");
    let ways = [
        (
            "boot/grub2/grubenv",
            format!("# GRUB\nsaved_entry={id}-{chosen}\n"),
        ),
        ("boot/grub2/grubenv", format!("next_entry={debian}\n######")),
        ("etc/default/grub", by_title),
        (
            "boot/loader/loader.conf",
            format!("timeout 3\ndefault {id}-{chosen}.conf\n"),
        ),
    ];
    for (file, text) in &ways {
        let machine = Machine::alma(&DRIVERS);
        machine.old_kernel(chosen);
        assert_clean(&machine.look());
        machine.write(file, text);
        let found = machine.look();
        let place = format!("/boot/initramfs-{chosen}.img");
        assert_eq!(places(&found), [(WillNotBoot, place.as_str())], "{text}");
    }
    for (file, text) in &ways {
        let machine = Machine::alma(&DRIVERS);
        machine.write("etc/default/grub", "GRUB_DEFAULT=saved\n");
        assert_clean(&machine.look());
        machine.write(file, text);
        let found = machine.look();
        let places: Vec<_> = found
            .not_looked_at
            .iter()
            .map(|one| one.what.as_str())
            .collect();
        assert_eq!(places, [format!("/{file}")], "{text}");
    }
}

#[test]
fn lvms_list_of_devices_counts_where_it_is_used() {
    let machine = Machine::alma(&DRIVERS);
    let list = "# LVM uses devices listed in this file.\nVERSION=1.1.2\n\
                IDTYPE=sys_wwid IDNAME=naa.5 DEVNAME=/dev/sda2 PVID=x\n";
    machine.write("etc/lvm/devices/system.devices", list);
    let found = machine.look();
    assert_eq!(
        places(&found),
        [(MayNotBoot, "/etc/lvm/devices/system.devices:3")]
    );
    machine.write("etc/lvm/lvm.conf", "\tuse_devicesfile = 0\n");
    assert_clean(&machine.look());
    machine.write("etc/lvm/lvm.conf", "");
    let with_owner = list.replace("VERSION", "PRODUCT_UUID=4c4c\nVERSION");
    machine.write("etc/lvm/devices/system.devices", &with_owner);
    assert_clean(&machine.look());
}

#[test]
fn firmware_of_another_machine_looks_for_one_name() {
    let machine = Machine::debian();
    fs::remove_dir_all(machine.path("boot/efi/EFI/BOOT")).unwrap();
    let found = machine.look();
    // BIOS still starts it.
    assert_eq!(
        places(&found),
        [(MayNotBoot, "/boot/efi/EFI/BOOT/BOOTX64.EFI")]
    );
    fs::remove_dir_all(machine.path("boot/grub/i386-pc")).unwrap();
    assert_eq!(machine.look().risks[0].level, WillNotBoot);
    // On FAT letters have no case.
    machine.write("boot/efi/efi/Boot/bootx64.efi", "MZ");
    fs::remove_dir_all(machine.path("boot/efi/EFI")).unwrap();
    let found = machine.look();
    assert_clean(&found);
    assert!(
        found.notes.iter().any(|note| note.contains("UEFI alone")),
        "{found:?}"
    );
    // Started by UEFI, and nothing to be seen of it: not fine, and not a fault.
    fs::remove_dir_all(machine.path("boot/efi/efi")).unwrap();
    let found = machine.look();
    assert!(found.risks.is_empty() && !found.is_clean(), "{found:?}");
    assert_eq!(found.not_looked_at[0].what, "the EFI system partition");
}

#[test]
fn a_machine_without_a_kernel_of_its_own_boots_nowhere_else() {
    let machine = Machine::debian();
    for name in [
        "vmlinuz-6.1.0-18-cloud-amd64",
        "initrd.img-6.1.0-18-cloud-amd64",
    ] {
        fs::remove_file(machine.path(&format!("boot/{name}"))).unwrap();
    }
    assert_eq!(places(&machine.look()), [(WillNotBoot, "/boot")]);
    machine.write("run/.containerenv", "");
    let found = machine.look();
    assert_eq!(found.not_looked_at[0].what, "the kernel");
    assert!(found.risks.is_empty(), "{found:?}");
}

#[test]
fn a_root_that_no_snapshot_holds_is_told() {
    let machine = Machine::debian();
    fs::remove_dir_all(machine.path("sys/block/vda/mq")).unwrap();
    let found = machine.look();
    assert_eq!(places(&found), [(WillNotBoot, "/dev/vda")]);
    assert!(
        found.risks[0]
            .what
            .contains("no snapshot can be taken of vda"),
        "{found:?}"
    );
    let overlay = "22 1 0:30 / / rw,relatime - overlay overlay rw,upperdir=/a\n";
    machine.write("proc/self/mountinfo", overlay);
    assert_eq!(places(&machine.look()), [(WillNotBoot, "/")]);
}

#[test]
fn a_second_disk_that_is_waited_for_is_noted() {
    let machine = Machine::debian();
    for (file, text) in [("dev", "254:16"), ("size", "2048"), ("mq/0/cpu_list", "0")] {
        machine.write(&format!("sys/block/vdb/{file}"), text);
    }
    machine.link("dev/disk/by-uuid/d", "../../vdb");
    let root = "UUID=7f7c9a2d-1111-4222-8333-444455556666 / ext4 defaults 0 1\n";
    machine.write(
        "etc/fstab",
        &format!("{root}UUID=d /data xfs defaults 0 0\n"),
    );
    let found = machine.look();
    assert_clean(&found);
    let note = found
        .notes
        .iter()
        .find(|note| note.contains("vdb"))
        .unwrap();
    assert!(
        note.starts_with("/etc/fstab:2") && note.contains("nofail"),
        "{note}"
    );
}

/// As after an update for which /boot had no room.
#[test]
fn a_kernel_with_drivers_of_its_own_and_no_initramfs_is_not_called_fine() {
    let machine = Machine::debian();
    let built_in = "kernel/drivers/block/virtio_blk.ko\nkernel/drivers/nvme/host/nvme.ko\n";
    machine.write("lib/modules/6.1.0-18-cloud-amd64/modules.builtin", built_in);
    fs::remove_file(machine.path("boot/initrd.img-6.1.0-18-cloud-amd64")).unwrap();
    let place = "/boot/vmlinuz-6.1.0-18-cloud-amd64";
    let found = machine.look();
    assert_eq!(places(&found), [(MayNotBoot, place)], "{found:?}");
    assert!(
        found.risks[0]
            .remedy
            .contains("update-initramfs -c -k 6.1.0-18"),
        "{found:?}"
    );
}

#[test]
fn what_cannot_be_read_is_told_and_not_called_fine() {
    let machine = Machine::debian();
    machine.write("boot/initrd.img-6.1.0-18-cloud-amd64", "BZh9");
    let found = machine.look();
    assert!(found.risks.is_empty() && !found.is_clean(), "{found:?}");
    assert!(found.not_looked_at[0].reason.contains("bzip2"), "{found:?}");
    // Then how it is made decides.
    machine.write("etc/initramfs-tools/initramfs.conf", "MODULES=dep\n");
    let place = "/etc/initramfs-tools/initramfs.conf:1";
    assert_eq!(places(&machine.look()), [(MayNotBoot, place)]);

    let machine = Machine::debian();
    fs::remove_file(machine.path("etc/fstab")).unwrap();
    nix::unistd::mkfifo(&machine.path("etc/fstab"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let found = machine.look();
    assert_eq!(found.not_looked_at[0].what, "/etc/fstab");

    let machine = Machine::debian();
    let line = "UUID=A1B2-C3D4 /x vfat defaults 0 0\n";
    machine.write("etc/fstab", &line.repeat((9 << 20) / line.len()));
    assert_eq!(machine.look().not_looked_at[0].what, "/etc/fstab");
}

#[test]
fn thousands_of_risks_are_counted_and_not_all_told() {
    let machine = Machine::debian();
    machine.write(
        "etc/fstab",
        &"/dev/sda1 /x ext4 defaults 0 0\n".repeat(10_000),
    );
    let found = machine.look();
    assert_eq!(found.risks.len() + found.more_risks, 10_000);
    assert!(found.risks.len() < 300, "{}", found.risks.len());
}

#[test]
fn no_link_leads_out_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(
        outside.path().join("fstab"),
        "/dev/sda1 / ext4 defaults 0 1\n",
    )
    .unwrap();
    fs::set_permissions(outside.path(), Permissions::from_mode(0o755)).unwrap();
    let machine = Machine::debian();
    for target in [
        outside.path().join("fstab"),
        "../../../../../../etc/fstab".into(),
    ] {
        fs::remove_file(machine.path("etc/fstab")).unwrap();
        machine.link("etc/fstab", target.to_str().unwrap());
        let found = machine.look();
        assert!(found.risks.is_empty(), "{found:#?}");
    }
    // Inside of it an absolute link leads to where the machine has it.
    fs::remove_file(machine.path("etc/fstab")).unwrap();
    machine.link("etc/fstab", "/usr/share/fstab");
    machine.write("usr/share/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    assert_eq!(places(&machine.look()), [(MayNotBoot, "/etc/fstab:1")]);
}

#[test]
fn an_image_is_read_however_it_is_packed() {
    let packings = [
        Packing::None,
        Packing::Gzip,
        Packing::Xz,
        Packing::Zstd,
        Packing::Lz4,
    ];
    for how in packings {
        let machine = Machine::alma(&[]);
        let (release, path) = (
            "5.14.0-427.13.1.el9_4.x86_64",
            "boot/initramfs-5.14.0-427.13.1.el9_4.x86_64.img",
        );
        let whole = image(release, &DRIVERS, how);
        machine.write_bytes(path, &whole);
        assert_clean(&machine.look());
        machine.write_bytes(path, whole.get(..whole.len() - 40).unwrap());
        let found = machine.look();
        let told = found
            .not_looked_at
            .iter()
            .any(|one| one.what.contains("initramfs-5"));
        assert!(told, "{how:?}: {found:#?}");
    }
}

#[test]
fn what_does_not_answer_in_time_is_told() {
    let found = Machine::debian().look_for(Duration::ZERO);
    assert!(!found.is_clean());
    let [unseen] = found.not_looked_at.as_slice() else {
        panic!("{found:#?}");
    };
    assert!(unseen.reason.contains("in time"), "{unseen:?}");
}

#[test]
fn an_initramfs_of_listed_drivers_is_judged_by_what_it_holds() {
    let machine = Machine::ubuntu();
    machine.write("etc/initramfs-tools/initramfs.conf", "MODULES=list\n");
    assert_clean(&machine.look());
    let few = image("5.4.0-174-generic", &DRIVERS[..5], Packing::Zstd);
    machine.write_bytes("boot/initrd.img-5.4.0-174-generic", &few);
    let found = machine.look();
    assert_eq!(
        places(&found),
        [(MayNotBoot, "/boot/initrd.img-5.4.0-174-generic")]
    );
    assert!(
        found.risks[0].remedy.starts_with("set MODULES=most"),
        "{found:?}"
    );
}

#[test]
fn a_command_line_says_what_this_host_is_like_and_changes_nothing() {
    let run = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_stillpoint");
        Command::new(program).args(args).output().unwrap()
    };
    let told = run(&["doctor", "--restorable", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let found = &document["restorable"];
    let empty = |key: &str| found[key].as_array().unwrap().is_empty();
    let clean = empty("risks") && empty("not_looked_at");
    assert_eq!(
        told.status.code(),
        Some(if clean { 0 } else { 3 }),
        "{document}"
    );
    assert!(!empty("looked_at"), "{document}");
    let both = run(&["doctor", "--restorable", "--freeze-test", "vda"]);
    assert_eq!(both.status.code(), Some(2));
}
