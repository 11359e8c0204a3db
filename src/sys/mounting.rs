//! Mounting: a thread's own view of mounts, trees of mounts that stand nowhere yet, and what is put
//! where. A path that comes from a snapshot is never followed here: places are descriptors.
#![expect(
    unsafe_code,
    reason = "libc and nix have no wrapper for calls on trees of mounts"
)]

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// `include/uapi/linux/mount.h`:
/// ```c
/// #define OPEN_TREE_CLONE         1               /* Clone the target tree and attach the clone */
/// #define MOVE_MOUNT_F_EMPTY_PATH 0x00000004      /* Empty from path permitted */
/// #define MOVE_MOUNT_T_EMPTY_PATH 0x00000040      /* Empty to path permitted */
/// ```
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_EMPTY_PATHS: libc::c_uint = 0x04 | 0x40;

/// `include/uapi/linux/mount.h`, `MOUNT_ATTR_NOSYMFOLLOW`.
const NO_SYMLINKS: u64 = 0x0020_0000;

/// `include/uapi/linux/mount.h`, `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// What is mounted.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions<'a> {
    /// What mount tables show as the source, and what is opened where the type needs a device.
    pub source: &'a str,
    /// `ext4`, `tmpfs`, ...
    pub fstype: &'a str,
    /// The filesystem's own options, with commas between.
    pub data: &'a str,
    /// Whether nothing can be written to it.
    pub read_only: bool,
}

/// Gives this thread mounts, a working directory and descriptors of its own. What the host mounts
/// and unmounts from then on is seen here, too; nothing that is mounted here is seen elsewhere. The
/// mounts last as long as the thread.
///
/// # Errors
/// `EPERM`: not root. `EINVAL`: the root directory of this process is no mount (chroot).
pub fn leave_for_own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_FILES | CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let nothing: Option<&str> = None;
    let slaves = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(nothing, "/", nothing, slaves, nothing)
}

/// Goes to the mounts of the namespace that `namespace` (`/proc/PID/ns/mnt`) is of. Only for a
/// thread with a working directory of its own.
///
/// # Errors
/// As setns(2).
pub fn enter_mounts(namespace: impl AsFd) -> nix::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNS)
}

/// Mounts at a path. Nothing on it can be run, is a device, or gives anybody rights.
///
/// # Errors
/// As mount(2).
pub fn mount_at(place: &Path, options: &MountOptions<'_>) -> nix::Result<()> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    let MountOptions {
        source,
        fstype,
        data,
        ..
    } = options;
    mount(Some(*source), place, Some(*fstype), flags, Some(*data))
}

/// Makes one mount read-only, whatever its filesystem is elsewhere.
///
/// # Errors
/// As mount(2).
pub fn make_read_only(place: &Path) -> nix::Result<()> {
    let nothing: Option<&str> = None;
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    mount(nothing, place, nothing, flags, nothing)
}

/// Has no symlink on the very mount whose root a handle is of lead anywhere, whoever follows it:
/// `ELOOP` (`MOUNT_ATTR_NOSYMFOLLOW`, mount_setattr(2), since Linux 5.14). They can still be read.
///
/// # Errors
/// As mount_setattr(2): `EINVAL`, `ENOSYS` where the kernel knows of no such thing.
pub fn follow_no_links(handle: impl AsFd) -> nix::Result<()> {
    let wanted = MountAttributes {
        set: NO_SYMLINKS,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    let handle = handle.as_fd().as_raw_fd();
    // From include/linux/syscalls.h:
    //   asmlinkage long sys_mount_setattr(int dfd, const char __user *path, unsigned int flags,
    //                                     struct mount_attr __user *uattr, size_t usize);
    // SAFETY: the kernel reads a string that ends, and one `struct mount_attr` that lives across
    // the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            handle,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const wanted,
            size_of::<MountAttributes>(),
        )
    };
    Errno::result(done).map(drop)
}

/// How much of a tree is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreePart {
    /// The one mount.
    Mount,
    /// It, and all that is mounted below it.
    All,
}

/// A copy of what is mounted at the folder `place`, which stands nowhere yet; it goes when the
/// descriptor is closed, unless it was put somewhere. `place` is any folder on the mount.
///
/// # Errors
/// As open_tree(2); `EINVAL` when it is of another namespace.
pub fn copy_mount(place: impl AsFd, part: TreePart) -> nix::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    flags |= libc::AT_EMPTY_PATH as libc::c_uint;
    if part == TreePart::All {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    let place = place.as_fd().as_raw_fd();
    // From include/linux/syscalls.h:
    //   asmlinkage long sys_open_tree(int dfd, const char __user *path, unsigned flags);
    // SAFETY: the kernel reads a string that ends, and lives for ever.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, place, c"".as_ptr(), flags) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a tree of [`copy_mount`] on a folder.
///
/// # Errors
/// As move_mount(2).
pub fn put_mount(tree: impl AsFd, folder: impl AsFd) -> nix::Result<()> {
    let (tree, folder) = (tree.as_fd().as_raw_fd(), folder.as_fd().as_raw_fd());
    let empty: &CStr = c"";
    // From include/linux/syscalls.h:
    //   asmlinkage long sys_move_mount(int from_dfd, const char __user *from_path, int to_dfd,
    //                                  const char __user *to_path, unsigned int ms_flags);
    // SAFETY: the kernel reads two strings that end, and live for ever.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            empty.as_ptr(),
            folder,
            empty.as_ptr(),
            MOVE_MOUNT_EMPTY_PATHS,
        )
    };
    Errno::result(done).map(drop)
}

/// A folder, to put something on or to look below; it is not opened for reading.
///
/// # Errors
/// As open(2); `ENOTDIR`, also where a symlink stands.
pub fn folder(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
}

/// The folder at a path below another one. No symlink is followed and `..` leads nowhere, so
/// whatever stands there leads to no place outside.
///
/// # Errors
/// As openat2(2): `ELOOP` at a symlink, `ENOTDIR`, `ENOENT`, `EXDEV` at `..`.
pub fn folder_below(below: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    openat2(below, path, how)
}

/// How something is unmounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Only if nobody uses it.
    Unused,
    /// At once for whoever comes; those that use it keep it until they let go.
    Detach,
    /// What waits for its filesystem gets errors, if that can be; then only if nobody uses it.
    Force,
    /// Not at all: `EBUSY` where somebody uses it, else `EAGAIN`. A second time without anybody's
    /// having looked at it in between it is unmounted.
    Probe,
}

/// Unmounts what a path leads to. A symlink at its end is not followed.
///
/// # Errors
/// As umount(2): `EBUSY`, and `EINVAL` where nothing is mounted.
pub fn unmount(place: &Path, how: Unmount) -> nix::Result<()> {
    umount2(place, how.flags() | MntFlags::UMOUNT_NOFOLLOW)
}

/// Unmounts the very mount whose root a handle is of.
///
/// # Errors
/// As [`unmount`].
pub fn unmount_handle(handle: impl AsFd, how: Unmount) -> nix::Result<()> {
    let fd = handle.as_fd().as_raw_fd();
    umount2(format!("/proc/thread-self/fd/{fd}").as_str(), how.flags())
}

impl Unmount {
    fn flags(self) -> MntFlags {
        match self {
            Self::Unused => MntFlags::empty(),
            Self::Detach => MntFlags::MNT_DETACH,
            Self::Force => MntFlags::MNT_FORCE,
            Self::Probe => MntFlags::MNT_EXPIRE,
        }
    }
}
