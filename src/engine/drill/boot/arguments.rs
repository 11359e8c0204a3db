//! QEMU's command line: a machine without a network and without anything of the host's, whose disks
//! and channels are sockets that it inherits.

use super::emulator::Emulator;
use super::options::{BootDiskBus, BootOptions};
use serde_json::json;
use std::os::fd::RawFd;

/// A machine that is to be started.
pub(super) struct MachinePlan<'a> {
    pub emulator: &'a Emulator,
    pub options: &'a BootOptions,
    /// Of each disk its name and the size of its sectors, that from which it boots first.
    pub disks: Vec<PlannedBootDisk>,
    pub accelerated: bool,
}

/// One disk.
pub(super) struct PlannedBootDisk {
    pub name: String,
    pub sector: u32,
}

/// What QEMU inherits, by number.
pub(super) struct MachineDescriptors {
    pub monitor: RawFd,
    pub serial: RawFd,
    pub screen: RawFd,
    /// Variables of the firmware.
    pub variables: Option<RawFd>,
    /// The disks' sockets.
    pub disks: Vec<RawFd>,
}

/// The type of the machine.
pub(super) const MACHINE: &str = "pc";
/// The set of descriptors that the picture of the screen goes to.
pub(super) const SCREEN: &str = "/dev/fdset/1";
const VARIABLES: &str = "/dev/fdset/2";

pub(super) fn arguments(plan: &MachinePlan<'_>, fds: &MachineDescriptors) -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |option: &str, value: String| all.extend([option.to_owned(), value]);
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get().min(2));
    let (accelerator, processor) = match plan.accelerated {
        true => ("kvm", "host"),
        false => ("tcg,thread=multi,tb-size=256", "max"),
    };
    add("-name", "stillpoint-drill".into());
    add(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
    );
    add("-display", "none".into());
    add("-nic", "none".into());
    add("-accel", accelerator.into());
    add("-cpu", processor.into());
    add("-smp", processors.to_string());
    add("-m", format!("{}M", plan.options.memory.0 >> 20));
    add("-boot", "strict=on".into());
    add("-device", "VGA".into());
    add("-device", "virtio-rng-pci".into());
    add("-chardev", format!("socket,id=qmp,fd={}", fds.monitor));
    add("-mon", "chardev=qmp,mode=control".into());
    add("-chardev", format!("socket,id=serial,fd={}", fds.serial));
    add("-serial", "chardev:serial".into());
    add("-add-fd", format!("fd={},set=1", fds.screen));
    let mut machine = MACHINE.to_owned();
    if let (Some(files), Some(variables)) = (&plan.emulator.uefi, fds.variables) {
        add("-add-fd", format!("fd={variables},set=2"));
        let code = json!({"driver": "file", "node-name": "code", "read-only": true,
            "filename": files.code});
        add("-blockdev", code.to_string());
        let kept = json!({"driver": "file", "node-name": "variables", "filename": VARIABLES});
        add("-blockdev", kept.to_string());
        machine.push_str(",pflash0=code,pflash1=variables");
    }
    add("-machine", machine);
    match plan.options.bus {
        BootDiskBus::Scsi => add("-device", "virtio-scsi-pci,id=bus".into()),
        BootDiskBus::Sata => add("-device", "ahci,id=bus".into()),
        BootDiskBus::Virtio | BootDiskBus::Nvme => {}
    }
    for (at, (disk, fd)) in plan.disks.iter().zip(&fds.disks).enumerate() {
        let served = json!({"driver": "nbd", "node-name": format!("disk{at}"),
            "export": disk.name, "discard": "unmap",
            "server": {"type": "fd", "str": fd.to_string()}});
        add("-blockdev", served.to_string());
        add("-device", device(plan.options.bus, at, disk.sector));
    }
    // What ends the guest does not end QEMU: the screen is still to be seen.
    let flags = ["-nodefaults", "-no-user-config", "-no-shutdown"];
    all.extend(flags.map(str::to_owned));
    all
}

fn device(bus: BootDiskBus, at: usize, sector: u32) -> String {
    let device = match bus {
        BootDiskBus::Virtio => "virtio-blk-pci".to_owned(),
        BootDiskBus::Scsi => "scsi-hd,bus=bus.0".to_owned(),
        BootDiskBus::Sata => format!("ide-hd,bus=bus.{at}"),
        BootDiskBus::Nvme => format!("nvme,serial=disk{at}"),
    };
    let sectors = match sector {
        4096 => ",logical_block_size=4096,physical_block_size=4096",
        _ => "",
    };
    let first = if at == 0 { ",bootindex=1" } else { "" };
    // Where there is no room the guest stands still; what cannot be read it is told.
    let on_errors = match bus {
        // It has no such property: the guest is told of both.
        BootDiskBus::Nvme => "",
        _ => ",werror=stop,rerror=report",
    };
    format!("{device},drive=disk{at}{sectors}{first}{on_errors}")
}
