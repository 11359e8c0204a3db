//! What the `bpf` system call can tell and the loader's crate does not: program counters, and the
//! first pages of a disk's marks shared with the kernel. It must never map more than those.

#![expect(unsafe_code, reason = "the bpf system call and shared memory")]

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `include/uapi/linux/bpf.h`, `enum bpf_cmd`.
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
/// `include/uapi/linux/bpf.h`, `enum bpf_cmd`.
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `include/uapi/linux/bpf.h`, `enum bpf_prog_type`.
const BPF_PROG_TYPE_TRACING: u32 = 26;

/// The member of `union bpf_attr` for `BPF_*_GET_FD_BY_ID`:
/// `struct { union { __u32 prog_id; ... }; __u32 next_id; __u32 open_flags; }`.
#[repr(C)]
struct GetFdById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The member of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`:
/// `struct { __u32 bpf_fd; __u32 info_len; __aligned_u64 info; } info`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info`, up to and with `recursion_misses` (5.12; left zero by kernels before,
/// which skip no raw tracepoint program).
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
    ifindex: u32,
    gpl_compatible: u32,
    netns_dev: u64,
    netns_ino: u64,
    nr_jited_ksyms: u32,
    nr_jited_func_lens: u32,
    jited_ksyms: u64,
    jited_func_lens: u64,
    btf_id: u32,
    func_info_rec_size: u32,
    func_info: u64,
    nr_func_info: u32,
    nr_line_info: u32,
    line_info: u64,
    jited_line_info: u64,
    nr_jited_line_info: u32,
    line_info_rec_size: u32,
    jited_line_info_rec_size: u32,
    nr_prog_tags: u32,
    prog_tags: u64,
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
}

const _: () = assert!(std::mem::offset_of!(ProgInfo, recursion_misses) == 208);

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: `attributes` is a live, exclusively borrowed member of `union bpf_attr` of the given
    // size; both commands here read it and write only to it and to the buffer it names, which the
    // callers keep alive over the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(answer).map_err(io::Error::other)
}

/// A loaded program, kept loaded while this lives.
#[derive(Debug)]
pub struct LoadedProgram(OwnedFd);

/// What the kernel tells of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Its id, never used twice within one boot.
    pub id: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Whether it is of the type that tracing programs have.
    pub is_tracing: bool,
    /// Digest of its instructions.
    pub tag: [u8; 8],
    /// Ids of the maps it uses; at most 64 are told.
    pub maps: Vec<u32>,
    /// How often the kernel skipped it because it was running already on that CPU.
    pub recursion_misses: u64,
}

impl LoadedProgram {
    /// Opens the program with this id.
    pub fn by_id(id: u32) -> io::Result<Self> {
        let mut request = GetFdById {
            id,
            next_id: 0,
            open_flags: 0,
        };
        let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut request)?;
        // SAFETY: the kernel has just returned this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// What the kernel tells of it now.
    pub fn facts(&self) -> io::Result<ProgramFacts> {
        let mut maps = [0_u32; 64];
        let mut info = ProgInfo {
            nr_map_ids: maps.len() as u32,
            map_ids: maps.as_mut_ptr() as u64,
            ..ProgInfo::default()
        };
        self.ask(&mut info)?;
        let count = maps.len().min(info.nr_map_ids as usize);
        let name: Vec<u8> = info.name.iter().copied().take_while(|&b| b != 0).collect();
        Ok(ProgramFacts {
            id: info.id,
            name: String::from_utf8_lossy(&name).into_owned(),
            is_tracing: info.kind == BPF_PROG_TYPE_TRACING,
            tag: info.tag,
            maps: maps[..count].to_vec(),
            recursion_misses: info.recursion_misses,
        })
    }

    /// How often the kernel skipped it because it was running already on that CPU.
    pub fn recursion_misses(&self) -> io::Result<u64> {
        let mut info = ProgInfo::default();
        self.ask(&mut info)?;
        Ok(info.recursion_misses)
    }

    fn ask(&self, info: &mut ProgInfo) -> io::Result<()> {
        let mut request = GetInfo {
            fd: u32::try_from(self.0.as_raw_fd()).map_err(io::Error::other)?,
            info_len: size_of::<ProgInfo>() as u32,
            info: std::ptr::from_mut(info) as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request).map(|_| ())
    }
}

/// The first pages of a mappable array, shared with the kernel's programs and with other processes.
#[derive(Debug)]
pub struct SharedPages {
    start: NonNull<c_void>,
    length: NonZeroUsize,
    usable: usize,
}

// SAFETY: the mapping belongs to this value alone, any thread may unmap it, and it is only ever
// accessed through atomics.
unsafe impl Send for SharedPages {}
// SAFETY: as above; every access through a shared reference is atomic.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Maps the first `usable` bytes of the array behind `map` (created with `BPF_F_MMAPABLE`).
    ///
    /// # Errors
    /// The array is shorter, or cannot be mapped.
    pub fn of(map: BorrowedFd<'_>, usable: usize) -> io::Result<Self> {
        // The kernel rounds such an array up to whole pages of the machine's own size.
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?
            .and_then(|size| usize::try_from(size).ok())
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| io::Error::other("the machine's page size is not known"))?;
        let length = usable.checked_next_multiple_of(page.get());
        let length = length
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is touched. The
        // kernel refuses one that is longer than the array (array_map_mmap).
        let start = unsafe {
            mmap(
                None,
                length,
                protection,
                MapFlags::MAP_SHARED,
                map.as_fd(),
                0,
            )
        }?;
        Ok(Self {
            start,
            length,
            usable,
        })
    }

    /// The 32-bit number at byte `offset`, which must be aligned and inside what was asked for.
    pub fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.usable);
        // SAFETY: inside the mapping and aligned (asserted; the mapping starts at a page), alive
        // as long as `self`, and shared memory is only accessed through atomics.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().byte_add(offset).cast()) }
    }

    /// The 64-bit number at byte `offset`, which must be aligned and inside what was asked for.
    pub fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.usable);
        // SAFETY: as in `u32_at`.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().byte_add(offset).cast()) }
    }

    /// Adds one to the 32-bit number at `offset` unless it is `limit` already. Returns the new one.
    pub fn increment(&self, offset: usize, limit: u32) -> Option<u32> {
        self.u32_at(offset)
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
                (old < limit).then_some(old + 1)
            })
            .ok()
            .map(|old| old + 1)
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `of`; no reference into it can outlive `self`.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let answer = LoadedProgram::by_id(u32::MAX).map(|_| ());
        let errno = answer.unwrap_err().raw_os_error();
        assert!(matches!(
            errno,
            Some(libc::ENOENT | libc::EPERM | libc::ENOSYS)
        ));
    }
}
