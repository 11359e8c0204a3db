//! Which processes have a file or a device open for writing: the image of a running machine, a
//! server of disks. It reads `/proc` alone, opens nothing of what it finds there, and never waits
//! for a file that does not answer.

use super::host::Host;
use crate::error::{Error, ErrorKind, Result};
use crate::model::DevNumber;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// How long looking at all processes may take. A descriptor takes some microseconds; one that leads
/// to a server that is gone would take for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file, whatever its names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// `st_dev`.
    pub device: DevNumber,
    /// Its inode.
    pub inode: u64,
}

impl FileId {
    /// Of a file that was looked at.
    pub fn of(found: &fs::Metadata) -> Self {
        Self {
            device: DevNumber::from_dev_t(found.dev()),
            inode: found.ino(),
        }
    }
}

/// What is looked for among what processes have open.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Block devices.
    pub devices: BTreeSet<DevNumber>,
    /// Files.
    pub files: BTreeSet<FileId>,
}

impl Wanted {
    fn holds(&self, found: &fs::Metadata) -> bool {
        if found.file_type().is_block_device() {
            return self.devices.contains(&DevNumber::from_dev_t(found.rdev()));
        }
        self.files.contains(&FileId::of(found))
    }
}

/// A process that can write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// What it is called.
    pub process: String,
    /// Its number.
    pub pid: u32,
}

/// The processes that have any of these open for writing, but for this one, as far as they may be
/// asked; each once.
///
/// # Errors
/// When processes cannot be listed, or their descriptors do not answer in time.
pub fn writers(host: &Host, wanted: Wanted) -> Result<Vec<Writer>> {
    let (answer, answers) = crossbeam_channel::bounded(1);
    let host = host.clone();
    let asking = std::thread::Builder::new()
        .name("writers".into())
        .spawn(move || {
            // Whoever asked may have gone on.
            let _ = answer.send(search(&host, &wanted));
        });
    let unknown = |why: &str| {
        let what = format!("cannot tell which processes have the target open: {why}");
        Error::new(ErrorKind::Unsupported, what)
    };
    asking.map_err(|error| unknown("no thread could be started").with_source(error))?;
    answers.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        Err(
            unknown("what they have open did not answer in time; nothing was written")
                .with_hint("look for a mount whose server is gone, and unmount it"),
        )
    })
}

fn search(host: &Host, wanted: &Wanted) -> Result<Vec<Writer>> {
    let own = std::process::id();
    let pids = Host::names(&host.proc)?;
    let pids = pids.iter().filter_map(|name| name.to_str()?.parse().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != own) {
        let folder = host.proc.join(format!("{pid}"));
        if has_open(&folder, wanted) {
            let process = Host::text(&folder.join("comm")).unwrap_or_else(|| "a process".into());
            found.push(Writer { process, pid });
        }
    }
    found.sort_by_key(|writer: &Writer| writer.pid);
    Ok(found)
}

fn has_open(process: &Path, wanted: &Wanted) -> bool {
    let numbers = Host::names_if_any(&process.join("fdinfo"));
    numbers.iter().any(|number| {
        // First what is known without following the descriptor to the file.
        may_write(&process.join("fdinfo").join(number))
            && fs::metadata(process.join("fd").join(number)).is_ok_and(|found| wanted.holds(&found))
    })
}

/// `flags:` of `/proc/PID/fdinfo/FD`, in octal (proc_pid_fdinfo(5)).
fn may_write(info: &Path) -> bool {
    let text = Host::text(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| {
        let mode = flags & libc::O_ACCMODE;
        flags & libc::O_PATH == 0 && (mode == libc::O_WRONLY || mode == libc::O_RDWR)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A `/proc` with processes, each with descriptors: flags, and the file behind.
    fn host(folder: &Path, processes: &[(u32, &[(&str, &Path)])]) -> Host {
        let host = Host::at(folder);
        for (pid, descriptors) in processes {
            let process = host.proc.join(pid.to_string());
            for part in ["fd", "fdinfo"] {
                fs::create_dir_all(process.join(part)).unwrap();
            }
            fs::write(process.join("comm"), format!("name{pid}\n")).unwrap();
            for (number, (flags, file)) in descriptors.iter().enumerate() {
                let number = number.to_string();
                let info = format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t24\n");
                fs::write(process.join("fdinfo").join(&number), info).unwrap();
                symlink(file, process.join("fd").join(&number)).unwrap();
            }
        }
        host
    }

    #[test]
    fn those_who_can_write_are_found_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["image", "other"] {
            fs::write(at(name), name).unwrap();
        }
        fs::hard_link(at("image"), at("same")).unwrap();
        let (image, other, same) = (at("image"), at("other"), at("same"));
        let gone = at("gone");
        let own = std::process::id();
        let host = host(
            folder.path(),
            &[
                (9_000_001, &[("0100000", &image), ("0100002", &other)]),
                (9_000_002, &[("0100000", &other), ("02100002", &same)]),
                (9_000_003, &[("0100001", &image)]),
                // O_PATH
                (9_000_004, &[("012000002", &image), ("junk", &image)]),
                (9_000_005, &[("0100002", &gone)]),
                (own, &[("0100002", &image)]),
            ],
        );
        let files = [FileId::of(&fs::metadata(&image).unwrap())].into();
        let devices = BTreeSet::new();
        let found = writers(&host, Wanted { devices, files }).unwrap();
        let pids: Vec<u32> = found.iter().map(|writer| writer.pid).collect();
        assert_eq!(pids, [9_000_002, 9_000_003]);
        assert_eq!(found[0].process, "name9000002");
    }
}
