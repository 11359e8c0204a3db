//! Which filesystems the kernel is asked to open, by which driver and with which options. What is
//! not named here is not tried: a driver that few use is what a hostile vault would aim at.

/// How a filesystem is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilesystemDriver {
    /// Its name for mount(2).
    pub(super) name: &'static str,
    /// Its options. None may have the kernel panic over what it reads, whatever a superblock says.
    pub(super) options: &'static str,
    /// Those with which it leaves its log alone.
    pub(super) without_log: Option<&'static str>,
}

/// By the name that a signature or a mount table has for it.
pub(super) fn driver(kind: &str) -> Option<FilesystemDriver> {
    let driver = |name, options, without_log| {
        Some(FilesystemDriver {
            name,
            options,
            without_log,
        })
    };
    match kind {
        "ext2" | "ext3" | "ext4" => {
            driver("ext4", "errors=continue", Some("errors=continue,noload"))
        }
        // The original may be mounted here: it has the same UUID.
        "xfs" => driver("xfs", "nouuid", Some("nouuid,norecovery")),
        "btrfs" => driver("btrfs", "", Some("rescue=nologreplay")),
        "vfat" => driver("vfat", "errors=continue", None),
        _ => None,
    }
}

/// Whether a filesystem of that kind can be attached.
pub fn is_attachable(kind: &str) -> bool {
    driver(kind).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_superblock_can_have_the_kernel_panic() {
        for kind in ["ext2", "ext3", "ext4", "vfat"] {
            let driver = driver(kind).unwrap();
            for options in [Some(driver.options), driver.without_log]
                .into_iter()
                .flatten()
            {
                assert!(options.contains("errors=continue"), "{kind}");
            }
        }
        for kind in ["LUKS", "LVM member", "RAID member", "swap", "ntfs", ""] {
            assert!(!is_attachable(kind), "{kind}");
        }
    }
}
