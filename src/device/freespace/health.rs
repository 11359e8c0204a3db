//! Whether a mounted filesystem has given up after an error: what its memory calls free was never
//! committed then, and is in use on the disk. It only looks.

use super::super::filesystem::Filesystem;
use super::super::host::Host;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

/// Why an ext4 on the device of that name cannot be believed: an error is counted in sysfs
/// (`errors_count`), from one mount to the next, until `e2fsck` has looked at it.
pub(super) fn has_errors(host: &Host, name: &str) -> Option<String> {
    let errors = host.sys.join("fs/ext4").join(name).join("errors_count");
    let any = Host::number(&errors).is_some_and(|count| count > 0);
    any.then(|| "it has met errors (unmount it, and run e2fsck on it)".into())
}

/// Why its memory is no witness any more; `None` when nothing says so. `name` is its device's.
///
/// - ext4 may have [errors](has_errors).
/// - ext4 that is shut down or whose journal is aborted fails the `fsync` of any file
///   (`ext4_sync_file`), also where a read-only mount hides it.
/// - xfs that is shut down does not let a directory be opened (`xfs_dir_open`).
pub(super) fn given_up(host: &Host, filesystem: &Filesystem, name: &str) -> Option<String> {
    let errors = has_errors(host, name);
    if errors.is_some() {
        return errors;
    }
    for path in filesystem.open_paths(host) {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOATIME)
            .open(&path);
        match opened {
            Ok(root) => return cannot_sync(&root),
            Err(error) if is_broken(&error) => return Some(SHUT_DOWN.into()),
            // Unmounted meanwhile, or hidden: another way to it is tried.
            Err(_) => {}
        }
    }
    None
}

/// The same of one that could be opened.
pub(super) fn cannot_sync(root: &File) -> Option<String> {
    let failed = root.sync_all().is_err_and(|error| is_broken(&error));
    failed.then(|| SHUT_DOWN.into())
}

const SHUT_DOWN: &str = "it has shut down after an error (unmount it, and check it)";

/// Whether that is what a filesystem answers that is damaged (`EFSCORRUPTED` is `EUCLEAN`), or has
/// given up.
pub(super) fn is_broken(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EROFS | libc::EUCLEAN)
    )
}
