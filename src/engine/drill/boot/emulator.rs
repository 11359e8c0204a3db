//! What of this host a machine is made with: QEMU, a firmware for UEFI, memory, and whether the
//! processor may run the guest's code itself. What is missing is told before anything is begun.

use super::options::{BootFirmware, BootOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Bytes;
use crate::sys::memory;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What QEMU takes beside the guest's memory, its own translations among it.
const BESIDE_MEMORY: Bytes = Bytes(512 << 20);
/// The least memory with which a machine begins at all.
const LEAST_MEMORY: Bytes = Bytes(64 << 20);
/// Where the processor's own way to run guests is asked for.
const KVM: &str = "/dev/kvm";

/// What a machine is made with.
#[derive(Clone, Debug)]
pub(super) struct Emulator {
    /// QEMU.
    pub program: PathBuf,
    /// The firmware and its variables, if that is needed.
    pub uefi: Option<UefiFiles>,
    /// Whether the processor may run the guest's code.
    pub accelerates: bool,
    /// A group that may do that.
    pub group: Option<u32>,
}

/// Files of a firmware.
#[derive(Clone, Debug)]
pub(super) struct UefiFiles {
    pub code: PathBuf,
    /// A copy of them is the machine's.
    pub variables: PathBuf,
}

/// Where distributions have them: Debian, Fedora, SUSE, Arch.
const UEFI: [(&str, &str); 5] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/qemu/ovmf-x86_64-code.bin",
        "/usr/share/qemu/ovmf-x86_64-vars.bin",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
];

impl Emulator {
    /// Looks for QEMU, and whether there is memory for the machine.
    ///
    /// # Errors
    /// `Unsupported`: something is missing here.
    pub(super) fn find(options: &BootOptions) -> Result<Self> {
        let folders = ["/usr/bin", "/usr/local/bin", "/usr/libexec"];
        let names = ["qemu-system-x86_64", "qemu-kvm"];
        let paths = names
            .iter()
            .flat_map(|name| folders.map(|folder| Path::new(folder).join(name)));
        let program = paths
            .into_iter()
            .find(|path| path.exists())
            .ok_or_else(|| {
                let what = "QEMU is not installed here, so nothing can be booted";
                Error::new(ErrorKind::Unsupported, what).with_hint(
                "install qemu-system-x86 (qemu-kvm on Red Hat's systems); without --boot a drill \
                 needs none",
            )
            })?;
        refuse_without_memory(options.memory, memory::available())?;
        let (accelerates, group) = match options.accelerate {
            true => may_accelerate(Path::new(KVM)),
            false => (false, None),
        };
        Ok(Self {
            program,
            uefi: None,
            accelerates,
            group,
        })
    }

    /// Looks for what this firmware needs.
    ///
    /// # Errors
    /// `Unsupported`: it is missing here.
    pub(super) fn with_firmware(mut self, firmware: BootFirmware) -> Result<Self> {
        if firmware == BootFirmware::Bios {
            return Ok(self);
        }
        let mut known = UEFI.iter();
        let found = known
            .find(|(code, variables)| Path::new(code).exists() && Path::new(variables).exists());
        let (code, variables) = found.ok_or_else(|| {
            let what = "the snapshot's machine starts by UEFI, and no firmware for it is installed";
            Error::new(ErrorKind::Unsupported, what)
                .with_hint("install ovmf (edk2-ovmf); or try --firmware bios")
        })?;
        self.uefi = Some(UefiFiles {
            code: code.into(),
            variables: variables.into(),
        });
        Ok(self)
    }
}

fn refuse_without_memory(wanted: Bytes, available: Option<Bytes>) -> Result<()> {
    if wanted < LEAST_MEMORY {
        let what = format!("a machine with {wanted} of memory does not start");
        return Err(Error::new(ErrorKind::Usage, what).with_hint("give it more with --memory"));
    }
    let needed = wanted.0.saturating_add(BESIDE_MEMORY.0);
    match available {
        Some(available) if available.0 < needed => {
            let what = format!(
                "the machine would take {wanted} of memory, and QEMU {BESIDE_MEMORY}, of the \
                 {available} that this host can spare; nothing was begun"
            );
            Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("give it less with --memory, or drill on another host"))
        }
        // Who cannot be asked is no reason to refuse.
        _ => Ok(()),
    }
}

/// Whether a user without rights can open it, and as a member of which group.
fn may_accelerate(device: &Path) -> (bool, Option<u32>) {
    const OTHERS: u32 = 0o006;
    const GROUP: u32 = 0o060;
    match fs::metadata(device) {
        Ok(found) if found.mode() & OTHERS == OTHERS => (true, None),
        // A program that is not trusted does not become a member of root's group.
        Ok(found) if found.mode() & GROUP == GROUP && found.gid() != 0 => (true, Some(found.gid())),
        _ => (false, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_host_without_room_is_refused_and_one_that_says_nothing_is_not() {
        let gib = |count: u64| Bytes(count << 30);
        assert!(refuse_without_memory(gib(1), Some(gib(2))).is_ok());
        assert!(refuse_without_memory(gib(1), None).is_ok());
        for (wanted, available) in [(gib(2), gib(2)), (Bytes(u64::MAX), gib(64))] {
            let error = refuse_without_memory(wanted, Some(available)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        let error = refuse_without_memory(Bytes(1 << 20), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn nobody_becomes_a_member_of_roots_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, may) in [(0o666, true), (0o600, false), (0o604, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(may_accelerate(file.path()), (may, None), "{mode:o}");
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o660)).unwrap();
        let group = fs::metadata(file.path()).unwrap().gid();
        let expected = (group != 0, (group != 0).then_some(group));
        assert_eq!(may_accelerate(file.path()), expected);
        assert_eq!(may_accelerate(Path::new("/none")), (false, None));
    }
}
