//! Disks to plug into a guest: a file on the host, and the hardware that it looks like.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk
    Virtio,
    /// A SCSI disk on virtio-scsi
    Scsi,
    /// NVMe with 4 KiB sectors
    Nvme,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing
    None,
    /// Reads of these 512-byte sectors give EIO.
    Unreadable(Vec<u64>),
    /// Writes to these 512-byte sectors give EIO.
    Unwritable(Vec<u64>),
    /// Everything that is written, and each flush, is noted in this file.
    Logged(PathBuf),
    /// No more bytes in a second than these.
    Slow(u64),
}

/// A raw file on the host as a disk in a guest.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its serial number, and QEMU's name for it.
    pub name: String,
    /// The hardware.
    pub bus: Bus,
    /// What is behind it.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
    /// The guest must not write on it.
    pub read_only: bool,
}

impl Disk {
    /// A blank disk of so many MiB, its file in `dir`.
    pub fn blank(dir: &Path, name: &str, mib: u64, bus: Bus) -> Result<Self> {
        let file = dir.join(format!("{name}.raw"));
        File::create(&file)
            .and_then(|file| file.set_len(mib << 20))
            .with_context(|| format!("make {}", file.display()))?;
        Ok(Self::of(&file, name, bus))
    }

    /// A disk of a file that is there.
    pub fn of(file: &Path, name: &str, bus: Bus) -> Self {
        Self {
            name: name.into(),
            bus,
            file: file.into(),
            fault: Fault::None,
            read_only: false,
        }
    }

    /// Where the guest finds it, whatever its name is there.
    pub fn path(&self) -> String {
        let name = &self.name;
        match self.bus {
            Bus::Virtio => format!("/dev/disk/by-id/virtio-{name}"),
            Bus::Scsi => format!("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{name}"),
            Bus::Nvme => format!("/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{name}"),
        }
    }

    /// Objects that its node needs.
    pub(crate) fn objects(&self) -> Vec<Value> {
        match self.fault {
            Fault::Slow(rate) => vec![json!({
                "qom-type": "throttle-group", "id": format!("group-{}", self.name),
                "limits": {"bps-total": rate},
            })],
            _ => Vec::new(),
        }
    }

    /// QEMU's description of what is behind it.
    pub(crate) fn node(&self) -> Value {
        let name = format!("node-{}", self.name);
        // A flush is not waited for: what QEMU wrote outlives QEMU in the host's memory.
        let cache = json!({"direct": false, "no-flush": true});
        let (file, cache) = match self.server() {
            Some(server) => (server, json!({"direct": false})),
            None => {
                let file = json!({"driver": "file", "filename": self.file, "cache": cache,
                    "discard": "unmap", "read-only": self.read_only});
                (file, cache.clone())
            }
        };
        let raw = json!({"driver": "raw", "file": file, "cache": cache, "discard": "unmap",
            "read-only": self.read_only});
        let mut node = match &self.fault {
            Fault::None => raw,
            Fault::Unreadable(sectors) => errors(&raw, "read", sectors),
            Fault::Unwritable(sectors) => errors(&raw, "write", sectors),
            // It has no cache of its own: flushes come to it.
            Fault::Logged(log) => json!({"driver": "blklogwrites", "file": raw,
                "log": {"driver": "file", "filename": log, "cache": cache}}),
            Fault::Slow(_) => json!({"driver": "throttle", "file": raw,
                "throttle-group": format!("group-{}", self.name)}),
        };
        node["node-name"] = name.into();
        node
    }

    /// QEMU's description of the server that it comes from, if its file is the URI of one.
    fn server(&self) -> Option<Value> {
        let uri = self.file.to_str()?.strip_prefix(SERVED)?;
        let (export, socket) = uri.split_once("?socket=")?;
        Some(json!({"driver": "nbd", "export": export,
            "server": {"type": "unix", "path": socket}}))
    }

    /// QEMU's description of the hardware.
    pub(crate) fn device(&self) -> Value {
        let (name, node) = (&self.name, format!("node-{}", self.name));
        match self.bus {
            // The log of writes adds two pieces to each request, and fails one of more than 1022,
            // which several requests merged into one can have.
            Bus::Virtio => json!({"driver": "virtio-blk-pci", "id": name, "drive": node,
                "serial": name, "request-merging": !matches!(self.fault, Fault::Logged(_))}),
            Bus::Scsi => json!({"driver": "scsi-hd", "id": name, "drive": node, "bus": "scsi.0",
                "serial": name}),
            Bus::Nvme => json!({"driver": "nvme", "id": name, "drive": node, "serial": name,
                "logical_block_size": 4096, "physical_block_size": 4096}),
        }
    }
}

/// How the URI of a disk begins that a server at a Unix socket has.
const SERVED: &str = "nbd+unix:///";

/// Whether a server has the disk: its file is a URI then.
pub fn is_served(file: &Path) -> bool {
    file.to_str().is_some_and(|file| file.starts_with(SERVED))
}

/// A node whose reads or writes of some sectors fail.
fn errors(below: &Value, what: &str, sectors: &[u64]) -> Value {
    let one = |sector: &u64| {
        json!({"event": "none", "iotype": what, "sector": sector, "errno": 5,
            "immediately": false})
    };
    let all: Vec<Value> = sectors.iter().map(one).collect();
    json!({"driver": "blkdebug", "image": below, "inject-error": all})
}

/// Changes bytes of a disk from below, so that its guest does not know.
pub fn spoil(disk: &Disk, offset: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(&disk.file)?;
    let mut bytes = [0; 4096];
    file.read_exact_at(&mut bytes, offset)?;
    bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
    file.write_all_at(&bytes, offset)
        .with_context(|| format!("write to {}", disk.file.display()))
}

/// The first place where two files differ, zeros after a file's end being no difference.
pub fn difference(one: &Path, other: &Path) -> Result<Option<u64>> {
    let mut files = [one, other].map(|path| (path, Vec::new()));
    let mut open = files
        .iter()
        .map(|(path, _)| File::open(path).with_context(|| path.display().to_string()))
        .collect::<Result<Vec<_>>>()?;
    let mut offset = 0;
    loop {
        for (file, (_, buffer)) in open.iter_mut().zip(&mut files) {
            buffer.clear();
            file.by_ref().take(1 << 20).read_to_end(buffer)?;
        }
        let [(_, left), (_, right)] = &mut files;
        let length = left.len().max(right.len());
        if length == 0 {
            return Ok(None);
        }
        left.resize(length, 0);
        right.resize(length, 0);
        if let Some(at) = left.iter().zip(right.iter()).position(|(a, b)| a != b) {
            return Ok(Some(offset + at as u64));
        }
        offset += length as u64;
    }
}
