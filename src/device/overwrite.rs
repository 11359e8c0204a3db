//! What uses the bytes that are to be overwritten, by whichever path they are reached: filesystems
//! mounted from them, devices that lie on them or show a part of them, processes that have them
//! open or locked. It only looks. Opening the device with `O_EXCL` is a further check, elsewhere.

use super::host::Host;
use super::kind::DeviceKind;
use super::mounts::Mounts;
use super::name::node_name;
use super::swap::{Swap, swap_files, swaps};
use super::table::NoTables;
use super::topology::{Device, Topology};
use super::usage::{Use, in_use};
use super::writers::{FileId, Wanted, writers};
use crate::error::{IoContext, Result};
use crate::model::{Bytes, DevNumber, Extent};
use crate::sys::lease::is_open_for_writing;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often processes are looked for, as some have it open for an instant only.
const TRIES: u32 = 3;
/// The pause between.
const PAUSE: Duration = Duration::from_millis(15);

/// What is to be overwritten.
#[derive(Clone, Debug)]
pub enum OverwriteTarget {
    /// A block device.
    Device(DevNumber),
    /// A file that is there, by the name under which it will be replaced.
    File(PathBuf),
}

/// This host at one moment, to be asked who uses what.
pub struct OverwriteCheck {
    host: Host,
    topology: Topology,
    mounts: Mounts,
    swaps: Vec<Swap>,
}

impl OverwriteCheck {
    /// Looks at the host.
    ///
    /// # Errors
    /// When devices or mounts cannot be listed.
    pub fn scan() -> Result<Self> {
        Self::at(Host::here())
    }

    fn at(host: Host) -> Result<Self> {
        let topology = Topology::scan(&host, &NoTables)?;
        let mounts = Mounts::read(&host, &topology)?;
        let swaps = swaps(&host, &topology);
        Ok(Self {
            host,
            topology,
            mounts,
            swaps,
        })
    }

    /// Whether bytes of a device are bytes of another one.
    pub fn lies_on(&self, upper: DevNumber, lower: DevNumber) -> bool {
        let spans = below(&self.topology, upper);
        spans.iter().any(|span| span.device() == Some(lower))
    }

    /// What uses the bytes of that target, apart from this process. When empty, no use was found.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn users_of(&self, target: &OverwriteTarget) -> Result<Vec<Use>> {
        let (spans, path) = match target {
            OverwriteTarget::Device(dev) => (below(&self.topology, *dev), self.node(*dev)),
            OverwriteTarget::File(path) => {
                let found = std::fs::metadata(path).io_context("look at", path)?;
                let file = SpanSource::File(FileId::of(&found));
                let whole = UsedSpan {
                    on: file,
                    place: None,
                };
                (vec![whole], Some(path.clone()))
            }
        };
        let mut uses = self.shown(&spans);
        if let OverwriteTarget::File(path) = target {
            uses.extend(self.of_a_name(path)?);
        }
        if uses.is_empty() {
            uses.extend(self.open_or_locked(target, &spans, path.as_deref())?);
        }
        Ok(uses.into_iter().collect())
    }

    fn node(&self, dev: DevNumber) -> Option<PathBuf> {
        let device = self.topology.device(dev)?;
        Some(self.host.dev.join(node_name(&device.name)))
    }

    /// What is mounted from, lies on, or shows any of the spans; the first is the target itself.
    fn shown(&self, spans: &[UsedSpan]) -> BTreeSet<Use> {
        let used = |dev| in_use(&self.topology, &self.mounts, &self.swaps, dev);
        let own: BTreeSet<DevNumber> = spans.iter().filter_map(UsedSpan::device).collect();
        let target = spans.first().and_then(UsedSpan::device);
        let mut uses: BTreeSet<Use> = target.into_iter().flat_map(used).collect();
        for span in spans {
            let all = self.topology.devices();
            let over = all.filter(|device| !own.contains(&device.dev) && span.is_under(device));
            for device in over {
                uses.extend(used(device.dev));
                let lies_on_it = Use::Holder(device.name.clone());
                if device.kind != DeviceKind::Partition && !uses.contains(&lies_on_it) {
                    uses.insert(Use::Shown(device.name.clone()));
                }
            }
        }
        // Where the place is not known, what is used is used beside the target.
        let exact = spans.iter().filter(|span| span.place.is_some());
        let exact: BTreeSet<DevNumber> = exact.filter_map(UsedSpan::device).collect();
        let whole = self.mounts.filesystems().iter();
        let whole = whole.filter(|one| one.members.iter().any(|dev| exact.contains(dev)));
        uses.extend(whole.map(|one| Use::Mounted(one.target().to_string_lossy().into_owned())));
        let disks = exact.iter().filter_map(|dev| self.topology.disk(*dev));
        for other in disks.flat_map(|disk| self.topology.other_paths(disk)) {
            let of_other = used(other.dev());
            if !of_other.is_empty() {
                uses.insert(Use::Shown(other.name().to_owned()));
                uses.extend(of_other);
            }
        }
        uses.extend(self.zrams_on(&exact));
        uses
    }

    /// Compressed memory that is written out to one of these devices.
    fn zrams_on(&self, devices: &BTreeSet<DevNumber>) -> Vec<Use> {
        let zrams = self.topology.devices();
        let zrams = zrams.filter(|device| device.kind == DeviceKind::Zram);
        let on_these = zrams.filter(|device| {
            let folder = self.host.sys.join("block").join(&device.name);
            let below = Host::text(&folder.join("backing_dev"));
            let below = below.and_then(|path| Some(self.topology.node(Path::new(&path))?.dev));
            below.is_some_and(|dev| devices.contains(&dev))
        });
        on_these
            .map(|device| Use::Holder(device.name.clone()))
            .collect()
    }

    /// Uses of a file's name and inode that no device shows.
    fn of_a_name(&self, path: &Path) -> Result<Vec<Use>> {
        let mut uses = Vec::new();
        let real = std::fs::canonicalize(path).io_context("look at", path)?;
        let shows = |device: &&Device| {
            device.loop_file.is_none() && device.backing_file.as_ref() == Some(&real)
        };
        // The name of its file is known also for a loop device that may not be asked.
        let loops = self.topology.devices().filter(shows);
        uses.extend(loops.map(|device| Use::Shown(device.name.clone())));
        let holding = self.mounts.own.holding(&real);
        if holding.is_some_and(|entry| entry.target == real) {
            uses.push(Use::Held("something is mounted over its name"));
        }
        let same = |file: &PathBuf| {
            let ids = [path, file].map(|path| std::fs::metadata(path).ok());
            matches!(ids, [Some(one), Some(other)] if FileId::of(&one) == FileId::of(&other))
        };
        if let Some(file) = swap_files(&self.host).iter().find(|file| same(file)) {
            uses.push(Use::Swap(file.to_string_lossy().into_owned()));
        }
        Ok(uses)
    }

    /// Processes that can write to it. Others look at devices for an instant, and do not count.
    fn open_or_locked(
        &self,
        target: &OverwriteTarget,
        spans: &[UsedSpan],
        path: Option<&Path>,
    ) -> Result<Vec<Use>> {
        let wanted = self.wanted(spans);
        for attempt in 1.. {
            let found = writers(&self.host, wanted.clone())?;
            let mut uses: Vec<Use> = found
                .into_iter()
                .map(|one| Use::Open {
                    process: one.process,
                    pid: one.pid,
                })
                .collect();
            // It may not be readable, as a user's own of mode 0200: then nobody says.
            if let Some(file) = path.and_then(|path| open_quietly(path).ok()) {
                uses.extend(held(
                    file,
                    matches!(target, OverwriteTarget::File(_)) && uses.is_empty(),
                ));
            }
            if uses.is_empty() || attempt == TRIES {
                return Ok(uses);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Vec::new())
    }

    /// The devices and files whose writers would write to the target.
    fn wanted(&self, spans: &[UsedSpan]) -> Wanted {
        let mut wanted = Wanted::default();
        for span in spans
            .iter()
            .filter(|span| span.place.is_some() || spans.len() == 1)
        {
            match span.on {
                SpanSource::File(file) => {
                    wanted.files.insert(file);
                }
                SpanSource::Device(dev) => {
                    wanted.devices.insert(dev);
                    let parts = self.topology.holders(dev);
                    let parts = parts.filter(|part| part.kind == DeviceKind::Partition);
                    let under = parts.filter(|part| span.is_under(part));
                    wanted.devices.extend(under.map(|part| part.dev));
                }
            }
        }
        wanted
    }
}

/// Opens it to ask about it, so that nothing waits and nothing is noticed.
fn open_quietly(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Locks on it, and with `lease` whether somebody has it open for writing whom no process shows:
/// the kernel itself, or one that may not be asked.
fn held(file: File, lease: bool) -> Vec<Use> {
    let mut uses = Vec::new();
    let kind = libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default();
    let mut lock = libc::flock {
        l_type: kind,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let asked = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock));
    let free = libc::c_short::try_from(libc::F_UNLCK).unwrap_or_default();
    if asked.is_ok() && lock.l_type != free {
        uses.push(Use::Held(
            "it is locked, as a running machine locks its image",
        ));
    }
    if lease && is_open_for_writing(&file) {
        uses.push(Use::Held("it is open for writing"));
    }
    if let Err((_, Errno::EWOULDBLOCK)) = Flock::lock(file, FlockArg::LockSharedNonblock) {
        uses.push(Use::Held("someone has locked it (flock)"));
    }
    uses
}

/// What holds bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpanSource {
    Device(DevNumber),
    File(FileId),
}

/// A part of what holds bytes. `place` is `None` where the part is unknown, and for a file that is
/// replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UsedSpan {
    on: SpanSource,
    place: Option<Extent>,
}

impl UsedSpan {
    fn device(&self) -> Option<DevNumber> {
        match self.on {
            SpanSource::Device(dev) => Some(dev),
            SpanSource::File(_) => None,
        }
    }

    /// Whether a device lies on it, or shows a byte of it. Where the part is unknown, as with
    /// logical volumes, what lies there may be beside the target: only loop devices count then.
    fn is_under(&self, device: &Device) -> bool {
        let lies_here = match self.on {
            SpanSource::Device(dev) => device.parents.contains(&dev),
            SpanSource::File(file) => device.loop_file.is_some_and(|shown| {
                shown.block_device.is_none()
                    && (shown.device, shown.inode) == (file.device, file.inode)
            }),
        };
        if !lies_here {
            return false;
        }
        match (self.place, place_of(device)) {
            (Some(here), Some(there)) => here.offset < there.end() && there.offset < here.end(),
            (None, _) => device.kind == DeviceKind::Loop,
            (Some(_), None) => true,
        }
    }
}

/// Where a device begins and ends on what it lies on, if that is known.
fn place_of(device: &Device) -> Option<Extent> {
    match device.kind {
        DeviceKind::Partition => device.place,
        DeviceKind::Loop => {
            let file = device.loop_file?;
            Some(Extent::new(file.offset, device.size))
        }
        _ => None,
    }
}

/// Where the bytes of a device lie: on itself, and on what it shows or lies on.
fn below(topology: &Topology, dev: DevNumber) -> Vec<UsedSpan> {
    let size = topology.device(dev).map_or(Bytes(0), |device| device.size);
    let mut spans = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![(dev, Some(Extent::new(Bytes(0), size)))];
    while let Some((dev, place)) = open.pop() {
        if !seen.insert(dev) {
            continue;
        }
        spans.push(UsedSpan {
            on: SpanSource::Device(dev),
            place,
        });
        let Some(device) = topology.device(dev) else {
            continue;
        };
        let within = place_of(device)
            .zip(place)
            .map(|(whole, part)| Extent::new(whole.offset + part.offset, part.length));
        match (device.loop_file, device.parents.as_slice()) {
            (Some(file), []) => spans.push(UsedSpan {
                on: SpanSource::File(FileId {
                    device: file.device,
                    inode: file.inode,
                }),
                place: within,
            }),
            (_, parents) => open.extend(parents.iter().map(|parent| (*parent, within))),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A host with `vda` (1: LVM with two volumes, the second mounted; 2 overlaps 3, mounted),
    /// `vdb` in a RAID, `vdc` below compressed memory, and `sda` and `sdb`, paths to one disk.
    fn host(folder: &Path) -> OverwriteCheck {
        let host = Host::at(folder);
        let put = |path: &str, text: &str| {
            let path = host.sys.join("block").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let whole = |name: &str, dev: &str| {
            put(&format!("{name}/dev"), dev);
            put(&format!("{name}/size"), "204800\n");
            put(&format!("{name}/mq/0"), "");
        };
        let disks = [("vda", "254:0"), ("vdb", "254:16"), ("vdc", "254:32")];
        let paths = [("sda", "8:0"), ("sdb", "8:16"), ("zram0", "250:0")];
        disks
            .into_iter()
            .chain(paths)
            .for_each(|(name, dev)| whole(name, dev));
        for (name, dev) in [("dm-0", "252:0"), ("dm-1", "252:1"), ("md0", "9:0")] {
            whole(name, dev);
        }
        for part in 1..=3 {
            let at = |what: &str| format!("vda/vda{part}/{what}");
            put(&at("partition"), &part.to_string());
            put(&at("dev"), &format!("254:{part}"));
            put(&at("start"), if part == 1 { "2048" } else { "20480" });
            put(&at("size"), "8192");
        }
        for volume in ["dm-0", "dm-1"] {
            put(&format!("{volume}/dm/uuid"), "LVM-x");
            put(&format!("{volume}/slaves/vda1"), "");
        }
        put("md0/md/level", "raid1");
        put("md0/slaves/vdb", "");
        put("zram0/backing_dev", "/dev/vdc");
        for path in ["sda", "sdb"] {
            put(&format!("{path}/wwid"), "naa.5000");
        }
        let mounts = "1 0 252:1 / / rw - ext4 x rw\n2 1 254:3 / /part rw - xfs x rw\n\
                      3 1 8:16 / /path rw - ext4 x rw\n";
        fs::create_dir_all(host.proc.join("self")).unwrap();
        fs::write(host.proc.join("self/mountinfo"), mounts).unwrap();
        OverwriteCheck::at(host).unwrap()
    }

    #[test]
    fn what_lies_on_a_device_or_beside_it_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let here = host(folder.path());
        let by = |name: &str| {
            let dev = here.topology.named(name).unwrap().dev;
            let uses = here.users_of(&OverwriteTarget::Device(dev)).unwrap();
            uses.iter().map(Use::to_string).collect::<Vec<_>>()
        };
        let all = [
            "mounted at /",
            "mounted at /part",
            "dm-0 lies on it",
            "dm-1 lies on it",
        ];
        assert_eq!(by("vda"), all);
        assert_eq!(
            by("vda1"),
            ["mounted at /", "dm-0 lies on it", "dm-1 lies on it"]
        );
        // Its neighbour in the volume group is in use, and it is not.
        assert_eq!(by("dm-0"), [""; 0]);
        assert_eq!(by("dm-1"), ["mounted at /"]);
        assert_eq!(by("vda2"), ["mounted at /part"]);
        assert_eq!(by("vdb"), ["md0 lies on it"]);
        assert_eq!(by("md0"), [""; 0]);
        assert_eq!(by("vdc"), ["zram0 lies on it"]);
        assert_eq!(by("sda"), ["mounted at /path", "sdb shows bytes of it"]);
        let dev = |name: &str| here.topology.named(name).unwrap().dev;
        assert!(here.lies_on(dev("dm-0"), dev("vda")) && !here.lies_on(dev("vda"), dev("dm-0")));
    }
}
