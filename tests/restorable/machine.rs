//! Machines of several distributions, as trees of files, for tests: what their cloud images have of
//! all that is looked at.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;
use stillpoint::engine::{Restorability, RestorableOptions, look_at_restorability};
use tempfile::TempDir;

/// The drivers that matter, by their files.
pub const DRIVERS: [&str; 11] = [
    "drivers/block/virtio_blk.ko",
    "drivers/scsi/virtio_scsi.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/scsi/sd_mod.ko",
    "drivers/nvme/host/nvme.ko",
    "drivers/block/xen-blkfront.ko",
    "drivers/scsi/hv_storvsc.ko",
    "drivers/hv/hv_vmbus.ko",
    "drivers/scsi/vmw_pvscsi.ko",
    "drivers/ata/ahci.ko",
    "fs/ext4/ext4.ko",
];

/// How an image is packed.
#[derive(Clone, Copy, Debug)]
pub enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

pub struct Machine {
    pub dir: TempDir,
}

/// An archive of empty files, with a trailer.
pub fn archive(names: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    let trailer = "TRAILER!!!".to_owned();
    for name in names.iter().chain([&trailer]) {
        let length = name.len() + 1;
        write!(out, "070701").unwrap();
        for field in 0..13 {
            let number = if field == 11 { length } else { 0 };
            write!(out, "{number:08X}").unwrap();
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

pub fn packed(plain: &[u8], how: Packing) -> Vec<u8> {
    match how {
        Packing::None => plain.to_vec(),
        Packing::Gzip => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(plain).unwrap();
            to.finish().unwrap()
        }
        Packing::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut to = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            to.write_all(plain).unwrap();
            to.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(plain, 1).unwrap(),
        Packing::Lz4 => {
            let mut out = 0x184c_2102_u32.to_le_bytes().to_vec();
            for block in plain.chunks(8 << 20) {
                let stored = lz4_flex::block::compress(block);
                out.extend_from_slice(&u32::try_from(stored.len()).unwrap().to_le_bytes());
                out.extend_from_slice(&stored);
            }
            out
        }
    }
}

/// An image with these drivers of a kernel: microcode before it, as it is, then the rest, packed.
pub fn image(release: &str, drivers: &[&str], how: Packing) -> Vec<u8> {
    let early = archive(&["kernel/x86/microcode/AuthenticAMD.bin".to_owned()]);
    let path = |driver: &&str| format!("usr/lib/modules/{release}/kernel/{driver}");
    let mut names: Vec<String> = drivers.iter().map(path).collect();
    names.push("init".into());
    let mut out = early;
    // As the kernel fills up: packed parts begin anywhere, at four bytes.
    out.resize(out.len().next_multiple_of(512), 0);
    out.extend(packed(&archive(&names), how));
    out
}

impl Machine {
    /// One disk with a root and an EFI system partition, booted by what a cloud image has.
    fn new(fstype: &str) -> Self {
        let machine = Self {
            dir: TempDir::new().unwrap(),
        };
        let sys = "sys/block/vda";
        for (file, text) in [
            ("dev", "254:0"),
            ("size", "41943040"),
            ("vda1/dev", "254:1"),
            ("vda1/partition", "1"),
            ("vda1/start", "262144"),
            ("vda1/size", "41680896"),
            ("vda15/dev", "254:15"),
            ("vda15/partition", "15"),
            ("vda15/start", "8192"),
            ("vda15/size", "253952"),
        ] {
            machine.write(&format!("{sys}/{file}"), text);
        }
        machine.write(&format!("{sys}/mq/0/cpu_list"), "0");
        let mounts = format!(
            "22 1 254:1 / / rw,relatime shared:1 - {fstype} /dev/vda1 rw\n\
             23 22 254:15 / /boot/efi rw,relatime shared:2 - vfat /dev/vda15 rw\n"
        );
        machine.write("proc/self/mountinfo", &mounts);
        machine.write("proc/fs/jbd2/vda1-8/info", "");
        machine.write("sys/firmware/efi/fw_platform_size", "64");
        machine.write("boot/efi/EFI/BOOT/BOOTX64.EFI", "MZ");
        machine.write("boot/efi/EFI/debian/grubx64.efi", "MZ");
        for (folder, name) in [
            ("by-uuid", "7f7c9a2d-1111-4222-8333-444455556666"),
            ("by-partuuid", "9d7d4c7e-01"),
            ("by-label", "cloudimg-rootfs"),
        ] {
            machine.link(&format!("dev/disk/{folder}/{name}"), "../../vda1");
        }
        machine.link("dev/disk/by-uuid/A1B2-C3D4", "../../vda15");
        machine.write(
            "etc/fstab",
            "# /etc/fstab\nUUID=7f7c9a2d-1111-4222-8333-444455556666 / auto rw,discard 0 1\n\
             UUID=A1B2-C3D4 /boot/efi vfat defaults 0 0\n",
        );
        machine.command_line("root=UUID=7f7c9a2d-1111-4222-8333-444455556666 ro console=tty0");
        machine
    }

    pub fn write(&self, path: &str, text: &str) {
        self.write_bytes(path, text.as_bytes());
    }

    pub fn write_bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// What the kernel was started with, and a serial console.
    pub fn command_line(&self, options: &str) {
        let line = format!("BOOT_IMAGE=/boot/vmlinuz {options} console=ttyS0,115200\n");
        self.write("proc/cmdline", &line);
    }

    fn kernel(&self, release: &str, late: &[&str]) {
        let mut head = vec![0; 0x210];
        head.get_mut(0x202..0x206).unwrap().copy_from_slice(b"HdrS");
        self.write_bytes(&format!("boot/vmlinuz-{release}"), &head);
        self.write("proc/sys/kernel/osrelease", &format!("{release}\n"));
        let folder = format!("usr/lib/modules/{release}");
        let built_in = "kernel/drivers/tty/serial/8250/8250.ko\n";
        self.write(&format!("{folder}/modules.builtin"), built_in);
        let dep = late
            .iter()
            .map(|one| format!("kernel/{one}.xz: kernel/lib/a.ko.xz\n"));
        self.write(&format!("{folder}/modules.dep"), &dep.collect::<String>());
        if !self.path("lib").exists() {
            self.link("lib", "usr/lib");
        }
    }

    /// An older kernel whose image has no drivers of disks.
    pub fn old_kernel(&self, release: &str) {
        let runs = fs::read_to_string(self.path("proc/sys/kernel/osrelease")).unwrap();
        self.kernel(release, &DRIVERS);
        self.write("proc/sys/kernel/osrelease", &runs);
        let bytes = image(release, &[], Packing::Gzip);
        self.write_bytes(&format!("boot/initramfs-{release}.img"), &bytes);
    }

    fn grub(&self, folder: &str, root: &str) {
        self.write(&format!("boot/{folder}/i386-pc/normal.mod"), "");
        let entry = format!(
            "set root='hd0,gpt1'\nsearch --no-floppy --fs-uuid --set=root 7f7c\n\
             menuentry 'Linux' {{\n\tlinux /boot/vmlinuz {root} ro console=ttyS0\n}}\n"
        );
        self.write(&format!("boot/{folder}/grub.cfg"), &entry);
    }

    /// Debian's generic cloud image: a kernel for clouds, which knows neither VMware nor SATA.
    pub fn debian() -> Self {
        let machine = Self::new("ext4");
        let release = "6.1.0-18-cloud-amd64";
        let of_clouds: Vec<&str> = DRIVERS
            .into_iter()
            .filter(|one| !one.contains("vmw") && !one.contains("ahci"))
            .collect();
        machine.kernel(release, &of_clouds);
        let bytes = image(release, &of_clouds, Packing::Zstd);
        machine.write_bytes(&format!("boot/initrd.img-{release}"), &bytes);
        machine.write("etc/os-release", "ID=debian\n");
        machine.write(
            "etc/initramfs-tools/initramfs.conf",
            "# x\nMODULES=most\nBUSYBOX=auto\n",
        );
        machine.grub("grub", "root=PARTUUID=9d7d4c7e-01");
        machine.write("etc/default/grub", "GRUB_CMDLINE_LINUX=\"console=ttyS0\"\n");
        machine.write(
            "etc/cloud/cloud.cfg",
            "users:\n - default\nssh_deletekeys: true\n",
        );
        machine.write(
            "etc/cloud/cloud.cfg.d/01_debian.cfg",
            "datasource_list: [ NoCloud, ConfigDrive, OpenStack, Ec2, None ]\n",
        );
        machine.write(
            "etc/netplan/50-cloud-init.yaml",
            "# This file is generated from information provided by the datasource.  Changes\n\
             network:\n  ethernets:\n    eth0:\n      match:\n        macaddress: fa:16:3e:01\n",
        );
        machine.write(
            "etc/network/interfaces",
            "source /etc/network/interfaces.d/*\n",
        );
        machine
    }

    /// Ubuntu's cloud image of 20.04: a label, lz4, a PARTUUID that grub is told.
    pub fn ubuntu() -> Self {
        let machine = Self::new("ext4");
        let release = "5.4.0-174-generic";
        machine.kernel(release, &DRIVERS);
        let bytes = image(release, &DRIVERS, Packing::Lz4);
        machine.write_bytes(&format!("boot/initrd.img-{release}"), &bytes);
        machine.write("etc/os-release", "ID=ubuntu\nID_LIKE=debian\n");
        machine.write("etc/initramfs-tools/initramfs.conf", "MODULES=most\n");
        machine.write(
            "etc/fstab",
            "LABEL=cloudimg-rootfs\t/\t ext4\tdefaults\t0 1\n",
        );
        machine.grub("grub", "root=PARTUUID=9d7d4c7e-01");
        machine.write("etc/default/grub", "GRUB_DISABLE_LINUX_UUID=true\n");
        machine.write(
            "etc/default/grub.d/40-force-partuuid.cfg",
            "GRUB_FORCE_PARTUUID=9d7d4c7e-01\n",
        );
        machine.write("etc/cloud/cloud.cfg", "preserve_hostname: false\n");
        machine
    }

    /// AlmaLinux as its installer leaves it on a virtual machine: all is made for this one.
    pub fn alma(drivers: &[&str]) -> Self {
        let machine = Self::new("xfs");
        let release = "5.14.0-427.13.1.el9_4.x86_64";
        machine.kernel(release, &DRIVERS);
        let bytes = image(release, drivers, Packing::Gzip);
        machine.write_bytes(&format!("boot/initramfs-{release}.img"), &bytes);
        machine.write("boot/vmlinuz-0-rescue-0123456789abcdef0123456789abcdef", "");
        machine.write(
            "etc/os-release",
            "ID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\n",
        );
        machine.write(
            "usr/lib/dracut/dracut.conf.d/01-dist.conf",
            "hostonly=\"yes\"\n",
        );
        machine.write(
            "boot/loader/entries/0123-5.14.conf",
            "title AlmaLinux\nlinux /vmlinuz\noptions root=UUID=7f7c9a2d-1111 ro $tuned_params\n",
        );
        machine.write(
            "boot/grub2/grubenv",
            "# GRUB Environment Block\nkernelopts=root=UUID=7f ro\n",
        );
        machine.write("boot/grub2/grub.cfg", "blscfg\n");
        machine
    }

    /// SUSE: btrfs, xz.
    pub fn suse() -> Self {
        let machine = Self::new("btrfs");
        let release = "6.4.0-150600.21-default";
        machine.kernel(release, &DRIVERS);
        machine.write_bytes(
            &format!("boot/initrd-{release}"),
            &image(release, &DRIVERS, Packing::Xz),
        );
        machine.write(
            "etc/dracut.conf.d/10-persistent_policy.conf",
            "persistent_policy=by-uuid\n",
        );
        machine.write(
            "usr/lib/dracut/dracut.conf.d/01-dist.conf",
            "hostonly=\"yes\"\n",
        );
        machine.grub("grub2", "root=UUID=7f7c9a2d-1111-4222-8333-444455556666");
        machine.write("sys/fs/btrfs/7f7c9a2d/devices/vda1", "");
        machine.write(
            "proc/self/mountinfo",
            "22 1 0:30 /@ / rw,relatime shared:1 - btrfs /dev/vda1 rw\n\
             23 22 254:15 / /boot/efi rw,relatime shared:2 - vfat /dev/vda15 rw\n",
        );
        machine
    }

    /// Amazon Linux 2023: made for Amazon's cloud.
    pub fn amazon() -> Self {
        let machine = Self::new("xfs");
        let release = "6.1.79-99.164.amzn2023.x86_64";
        machine.kernel(release, &DRIVERS);
        let bytes = image(release, &DRIVERS, Packing::Zstd);
        machine.write_bytes(&format!("boot/initramfs-{release}.img"), &bytes);
        machine.grub("grub2", "root=UUID=7f7c9a2d-1111-4222-8333-444455556666");
        machine.write("etc/cloud/cloud.cfg", "datasource_list: [ Ec2, None ]\n");
        machine.write("usr/lib/dracut/modules.d/00bash/module-setup.sh", "");
        machine
    }

    /// Looks at it.
    pub fn look(&self) -> Restorability {
        self.look_for(Duration::from_secs(60))
    }

    /// Looks at it for so long at most.
    pub fn look_for(&self, patience: Duration) -> Restorability {
        let options = RestorableOptions {
            root: self.dir.path().to_owned(),
            patience,
        };
        look_at_restorability(&options).unwrap()
    }
}
