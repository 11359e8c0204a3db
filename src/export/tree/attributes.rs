//! All about a file that is not its bytes: owner, extended attributes (ACLs and capabilities among
//! them), mode, times. The owner first: a change of it takes capabilities and setuid away. No file
//! may be setuid for another owner than its own.

use crate::model::printable;
use crate::sys::handle::{
    FileTimes, attribute, attributes, remove_attribute, set_attribute, set_mode, set_owner,
    set_times,
};
use nix::sys::stat::{FileStat, SFlag};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a new file may have from the directory that it is made in.
const INHERITED: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Gives a file what another has. `lost` is told what the target does not take.
///
/// # Errors
/// Not all that the source has can be read; the rest was given.
pub(super) fn copy_attributes(
    from: &OwnedFd,
    stat: &FileStat,
    to: impl AsFd,
    lost: &mut dyn FnMut(&str, &io::Error),
) -> io::Result<()> {
    let mut unread = None;
    let names = attributes(from).unwrap_or_else(|error| {
        unread = Some(error);
        Vec::new()
    });
    let mut mode = stat.st_mode;
    if let Err(error) = set_owner(&to, stat.st_uid, stat.st_gid) {
        mode &= !0o6000;
        lost("the owner", &error);
    }
    remove_inherited(&to, &names, lost);
    for name in names {
        let value = match attribute(from, &name) {
            // What it was derived from is gone, or nobody may read it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA)) => continue,
            Err(error) => {
                unread.get_or_insert(error);
                continue;
            }
            Ok(value) => value,
        };
        if let Err(error) = set_attribute(&to, &name, &value) {
            lost(&format!("the attribute {}", printable::path(&name)), &error);
        }
    }
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFLNK
        && let Err(error) = set_mode(&to, mode)
    {
        lost("the mode", &error);
    }
    if let Err(error) = set_times(&to, FileTimes::of(stat)) {
        lost("the times", &error);
    }
    unread.map_or(Ok(()), Err)
}

/// Takes away what the file has from its directory and not from the source.
fn remove_inherited(to: impl AsFd, wanted: &[OsString], lost: &mut dyn FnMut(&str, &io::Error)) {
    let Ok(there) = attributes(&to) else {
        return;
    };
    let inherited = there
        .iter()
        .filter(|name| INHERITED.iter().any(|inherited| name == inherited));
    for name in inherited.filter(|name| !wanted.contains(name)) {
        if let Err(error) = remove_attribute(&to, name) {
            lost("the absence of an ACL", &error);
        }
    }
}
