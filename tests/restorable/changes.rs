//! Each change of a healthy machine is called what it is, and nothing else is.

use super::machine::Machine;
use super::places;
use BootRiskLevel::{BehavesOtherwise, MayNotBoot, WillNotBoot};
use stillpoint::engine::BootRiskLevel;

/// A change of a machine with nothing amiss, and what it is called: a file, what it says, how bad
/// that is, and the place that is named.
type Change = (&'static str, &'static str, BootRiskLevel, &'static str);

const CHANGES: &[Change] = &[
    (
        "etc/fstab",
        "/dev/vda1 / ext4 defaults 0 1\n",
        MayNotBoot,
        "/etc/fstab:1",
    ),
    (
        "etc/fstab",
        "\n/dev/nvme1n1 /d xfs defaults 0 0\n",
        MayNotBoot,
        "/etc/fstab:2",
    ),
    (
        "etc/fstab",
        "/dev/disk/by-id/ata-X /d xfs defaults 0 0\n",
        WillNotBoot,
        "/etc/fstab:1",
    ),
    (
        "etc/fstab",
        "/dev/sda2 none swap sw 0 0\n",
        BehavesOtherwise,
        "/etc/fstab:1",
    ),
    (
        "etc/fstab",
        "UUID=0000-0000 /gone ext4 defaults 0 0\n",
        MayNotBoot,
        "/etc/fstab:1",
    ),
    (
        "boot/grub/grub.cfg",
        "m\n linux /v root=/dev/sda1 ro\n",
        MayNotBoot,
        "/boot/grub/grub.cfg:2",
    ),
    (
        "etc/default/grub",
        "GRUB_DISABLE_LINUX_UUID=true\n",
        MayNotBoot,
        "/etc/default/grub:1",
    ),
    (
        "etc/default/grub",
        "GRUB_CMDLINE_LINUX=\"root=/dev/xvda1\"\n",
        MayNotBoot,
        "/etc/default/grub:1",
    ),
    (
        "boot/loader/entries/a.conf",
        "options resume=/dev/sda3\n",
        BehavesOtherwise,
        "/boot/loader/entries/a.conf:1",
    ),
    (
        "boot/grub2/grubenv",
        "kernelopts=root=/dev/sda1 ro\n",
        MayNotBoot,
        "/boot/grub2/grubenv:1",
    ),
    (
        "proc/cmdline",
        "root=UUID=1 quiet\n",
        BehavesOtherwise,
        "/proc/cmdline",
    ),
    (
        "etc/modprobe.d/cis.conf",
        "install nvme /bin/false\n",
        MayNotBoot,
        "/etc/modprobe.d/cis.conf:1",
    ),
    (
        "etc/modprobe.d/b.conf",
        "blacklist xen-blkfront\n",
        MayNotBoot,
        "/etc/modprobe.d/b.conf:1",
    ),
    (
        "etc/initramfs-tools/conf.d/x",
        "MODULES=dep\n",
        MayNotBoot,
        "/etc/initramfs-tools/conf.d/x:1",
    ),
    (
        "etc/lvm/lvm.conf",
        "filter = [ \"a|^/dev/sda2$|\", \"r|.*|\" ]\n",
        MayNotBoot,
        "/etc/lvm/lvm.conf:1",
    ),
    (
        "etc/mdadm/mdadm.conf",
        "DEVICE /dev/sda1 /dev/sdb1\n",
        MayNotBoot,
        "/etc/mdadm/mdadm.conf:1",
    ),
    (
        "etc/mdadm.conf",
        "ARRAY /dev/md0 devices=/dev/sda1,/dev/sdb1\n",
        MayNotBoot,
        "/etc/mdadm.conf:1",
    ),
    (
        "etc/crypttab",
        "data /dev/sdb1 none luks\n",
        MayNotBoot,
        "/etc/crypttab:1",
    ),
    (
        "etc/crypttab",
        "data /dev/sdb1 none luks,nofail\n",
        BehavesOtherwise,
        "/etc/crypttab:1",
    ),
    (
        "etc/crypttab",
        "data UUID=1 /media/usb/key luks\n",
        WillNotBoot,
        "/etc/crypttab:1",
    ),
    (
        "etc/crypttab",
        "data UUID=1 none tpm2-device=auto\n",
        WillNotBoot,
        "/etc/crypttab:1",
    ),
    (
        "etc/crypttab",
        "data UUID=1 /root/nosuch.key luks\n",
        WillNotBoot,
        "/etc/crypttab:1",
    ),
    (
        "etc/cloud/cloud.cfg.d/90.cfg",
        "datasource_list:\n  - Azure\n",
        BehavesOtherwise,
        "/etc/cloud/cloud.cfg.d/90.cfg:1",
    ),
    (
        "etc/udev/rules.d/70-persistent-net.rules",
        "SUBSYSTEM==\"net\", ATTR{address}==\"00:01\", NAME=\"eth0\"\n",
        BehavesOtherwise,
        "/etc/udev/rules.d/70-persistent-net.rules:1",
    ),
    (
        "etc/netplan/01.yaml",
        "network:\n  ethernets:\n    ens3:\n      dhcp4: true\n",
        BehavesOtherwise,
        "/etc/netplan/01.yaml:3",
    ),
    (
        "etc/sysconfig/network-scripts/ifcfg-eth0",
        "HWADDR=00:01\n",
        BehavesOtherwise,
        "/etc/sysconfig/network-scripts/ifcfg-eth0:1",
    ),
    (
        "etc/systemd/network/10.link",
        "[Match]\nMACAddress=00:01\n",
        BehavesOtherwise,
        "/etc/systemd/network/10.link:2",
    ),
    (
        "etc/NetworkManager/system-connections/a.nmconnection",
        "[ethernet]\nmac-address=00:01\n",
        BehavesOtherwise,
        "/etc/NetworkManager/system-connections/a.nmconnection:2",
    ),
    (
        "etc/network/interfaces",
        "iface enp1s0 inet dhcp\n",
        BehavesOtherwise,
        "/etc/network/interfaces:1",
    ),
];

#[test]
fn each_change_is_called_what_it_is_and_nothing_else_is() {
    for (path, text, level, place) in CHANGES {
        let machine = Machine::debian();
        machine.write(path, text);
        let found = machine.look();
        assert_eq!(
            places(&found),
            [(*level, *place)],
            "{path}: {text}: {found:#?}"
        );
        let risk = &found.risks[0];
        assert!(!risk.why.is_empty() && !risk.remedy.is_empty(), "{risk:?}");
        assert!(found.not_looked_at.is_empty(), "{path}: {found:?}");
    }
}

const HARMLESS: &[(&str, &str)] = &[
    (
        "etc/fstab",
        "/dev/sda1 /mnt auto nofail,x 0 0\n/dev/sdb1 /m auto noauto 0 0\n",
    ),
    (
        "etc/fstab",
        "LABEL=\"cloudimg-rootfs\" / ext4 defaults 0 1\ntmpfs /tmp tmpfs rw 0 0\n",
    ),
    (
        "etc/fstab",
        "/dev/mapper/vg-root / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n",
    ),
    ("etc/fstab", "uuid-less:/export /n nfs rw 0 0\n"),
    (
        "etc/crypttab",
        "swap UUID=1 /dev/urandom swap\ndata UUID=2 none luks\n",
    ),
    (
        "etc/mdadm/mdadm.conf",
        "DEVICE partitions containers\nARRAY /dev/md0 UUID=1:2:3:4\n",
    ),
    (
        "etc/lvm/lvm.conf",
        "filter = [ \"a|.*|\" ]\nglobal_filter = [ \"r|/dev/sr0|\" ]\n",
    ),
    // Debian's LVM looks at no such file unless told to.
    (
        "etc/lvm/devices/system.devices",
        "IDTYPE=sys_wwid IDNAME=naa.5 DEVNAME=/dev/sda2 PVID=x\n",
    ),
    (
        "etc/modprobe.d/b.conf",
        "blacklist pcspkr\noptions nvme_core multipath=N\n",
    ),
    (
        "etc/systemd/network/10.network",
        "[Match]\nName=en*\n[Link]\nMACAddress=00:01\n",
    ),
    (
        "etc/network/interfaces",
        "auto eth0\niface eth0 inet dhcp\n",
    ),
    (
        "etc/sysconfig/network-scripts/ifcfg-eth0",
        "# Created by cloud-init automatically\nHWADDR=00:01\n",
    ),
    (
        "etc/cloud/cloud.cfg.d/90.cfg",
        "datasource_list: [ NoCloud, None ]\n",
    ),
    ("etc/default/grub", "#GRUB_DISABLE_LINUX_UUID=true\n"),
];

#[test]
fn what_does_no_harm_is_not_held_against_a_machine() {
    for (path, text) in HARMLESS {
        let machine = Machine::debian();
        machine.write(path, text);
        let found = machine.look();
        assert!(found.is_clean(), "{path}: {text}: {found:#?}");
    }
}
