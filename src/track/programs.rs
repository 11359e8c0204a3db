//! The two copies of the program and the maps they share: loading, pinning, finding them again. It
//! must never take pins for ours that are not, or that are not all alive.

use super::attached::{Attached, failed};
use super::capacity::CapacityWatch;
use super::mark_layout::PAGE;
use super::pins::{PinDir, PinLock, pin};
use crate::error::{Error, ErrorKind, Result};
use aya::maps::{ArrayOfMaps, HashOfMaps, Map, MapData, MapError};
use aya::programs::BtfTracePoint;
use aya::programs::links::FdLink;
use aya::{Btf, Ebpf};
use nix::sys::signal::SigSet;
use std::io;
use std::path::Path;

/// The tracepoint, in `include/trace/events/block.h`.
pub(super) const TRACEPOINT: &str = "block_rq_complete";

/// Names of the two copies, in the order of their attachment, which matters: see `cbt.bpf.c`.
const COPIES: [&str; 2] = ["stillpoint_a", "stillpoint_b"];

/// `scripts/build-bpf` makes it from `cbt.bpf.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/cbt.bpf.o");

/// `include/uapi/linux/bpf.h`
const BPF_MAP_TYPE_ARRAY: u32 = 2;

/// The flags of a map of marks: `BPF_F_INNER_MAP | BPF_F_MMAPABLE`.
const MARKS_FLAGS: u32 = 1 << 12 | 1 << 10;

/// The running programs. They stay attached while this lives, whatever becomes of the pins.
pub(super) struct Programs {
    copies: [Attached; 2],
    /// Kernel ids of the two copies.
    pub ids: [u32; 2],
    /// What notices when a disk's capacity is set, where the kernel can.
    pub capacity: Option<CapacityWatch>,
    /// Marks of every tracked disk, by device number.
    pub disks: HashOfMaps<MapData, u32, MapData>,
    fence: ArrayOfMaps<MapData, MapData>,
}

/// What was found where the pins should be.
pub(super) enum PinnedPrograms {
    /// Nothing.
    Absent,
    /// Something that does not work or is not ours, and why.
    Broken(String),
    /// Running programs.
    Running(Box<Programs>),
}

impl Programs {
    /// Finds the running programs.
    pub fn find(pins: &PinDir) -> Result<PinnedPrograms> {
        if !pins.exists()? {
            return Ok(PinnedPrograms::Absent);
        }
        Ok(match Self::open(&pins.current()) {
            Ok(programs) => PinnedPrograms::Running(Box::new(programs)),
            Err(error) => PinnedPrograms::Broken(error.to_string()),
        })
    }

    fn open(directory: &Path) -> Result<Self> {
        let map = |name: &str| {
            MapData::from_pin(directory.join(name)).map_err(failed(format_args!("open {name}")))
        };
        let (disks, fence) = (map(pin::DISKS)?, map(pin::FENCE)?);
        let id = map_id(&disks)?;
        let copy =
            |copy: usize| Attached::open(&directory.join(pin::LINKS[copy]), COPIES[copy], id);
        let copies = [copy(0)?, copy(1)?];
        Ok(Self {
            ids: [copies[0].id, copies[1].id],
            copies,
            capacity: CapacityWatch::open(directory, id)?,
            disks: typed(Map::HashOfMaps(disks))?,
            fence: typed(Map::ArrayOfMaps(fence))?,
        })
    }

    /// Loads the programs, attaches them and pins everything. Tells, too, why changes of capacity
    /// are not noticed, if they are not.
    pub fn load(pins: &PinDir, lock: &PinLock) -> Result<(Self, Option<Error>)> {
        undisturbed(|| Self::load_all(pins, lock))
    }

    fn load_all(pins: &PinDir, lock: &PinLock) -> Result<(Self, Option<Error>)> {
        let btf = Btf::from_sys_fs().map_err(no_types)?;
        let mut object = Ebpf::load(OBJECT).map_err(failed("load the tracking programs"))?;
        let directory = pins.begin(lock)?;
        for name in [pin::DISKS, pin::FENCE] {
            let map = object.map(name).ok_or_else(|| missing(name))?;
            map.pin(directory.join(name))
                .map_err(failed(format_args!("pin {name}")))?;
        }
        set_up_fence(&mut object)?;
        for (copy, name) in COPIES.into_iter().enumerate() {
            let program = object.program_mut(name).ok_or_else(|| missing(name))?;
            let program: &mut BtfTracePoint = program.try_into().map_err(failed("use it"))?;
            program
                .load(TRACEPOINT, &btf)
                .map_err(failed(format_args!("load {name} into the kernel")))?;
            let link = program
                .attach()
                .map_err(failed(format_args!("attach {name}")))?;
            let link = program.take_link(link).map_err(failed("take the link"))?;
            FdLink::from(link)
                .pin(directory.join(pin::LINKS[copy]))
                .map_err(failed("pin a link"))?;
        }
        let unwatched = CapacityWatch::load(&mut object, &btf, &directory).err();
        pins.finish(lock)?;
        Ok((Self::open(&pins.current())?, unwatched))
    }

    /// Gives up noticing when a capacity is set. Needs the lock.
    pub fn drop_capacity(&mut self, pins: &PinDir, _: &PinLock) -> Result<()> {
        self.capacity = None;
        CapacityWatch::unpin(&pins.current())
    }

    /// Waits until every program that was running when this was called has ended.
    pub fn wait(&mut self) -> Result<()> {
        // kernel/bpf/syscall.c: after an update of a map of maps, maybe_wait_bpf_programs() calls
        // synchronize_rcu(), and programs run inside RCU read-side sections.
        let same: MapData = self.fence.get(&0, 0).map_err(failed("read the fence"))?;
        self.fence
            .set(0, &same, 0)
            .map_err(failed("wait for running programs"))
    }

    /// How often the kernel skipped each copy.
    pub fn recursion_misses(&self) -> Result<[u64; 2]> {
        let of = |copy: usize| {
            self.copies[copy]
                .recursion_misses()
                .map_err(failed("read a program's counters"))
        };
        Ok([of(0)?, of(1)?])
    }

    /// The marks of a disk; `None` when it is not tracked.
    pub fn marks(&self, key: u32) -> Result<Option<MapData>> {
        match self.disks.get(&key, 0) {
            Ok(map) => Ok(Some(map)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(failed("look a disk's marks up")(error)),
        }
    }
}

/// Does `work` on a thread that no signal reaches: the verifier gives up with EAGAIN as soon as one
/// is pending, be it io_uring's own way to wake a thread (kernel/bpf/verifier.c: do_check()).
fn undisturbed<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let quiet = || {
        SigSet::all()
            .thread_block()
            .map_err(failed("block signals"))?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn_scoped(scope, quiet)
            .map_err(failed("start a thread"))?;
        // A panic goes on where it would have gone on without the thread.
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The kernel's id of a map, never used twice within one boot.
pub(super) fn map_id(map: &MapData) -> Result<u32> {
    let info = map.info().map_err(failed("ask what a map is"))?;
    Ok(info.id())
}

fn typed<T: TryFrom<Map, Error = MapError>>(map: Map) -> Result<T> {
    map.try_into()
        .map_err(failed("use a pinned map: it is of another type"))
}

/// The fence needs something in it that an update can replace by itself.
fn set_up_fence(object: &mut Ebpf) -> Result<()> {
    let map = object
        .map_mut(pin::FENCE)
        .ok_or_else(|| missing(pin::FENCE))?;
    let mut fence: ArrayOfMaps<_, MapData> = map.try_into().map_err(failed("use the fence"))?;
    let inner = new_marks(1)?;
    fence.set(0, &inner, 0).map_err(failed("set the fence up"))
}

/// A new map of `pages` pages, all zero, that the programs know nothing of yet.
pub(super) fn new_marks(pages: u32) -> Result<MapData> {
    let (key, value) = (size_of::<u32>() as u32, PAGE as u32);
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_ARRAY, key, value, pages, MARKS_FLAGS);
    let bytes = u64::from(pages) * PAGE as u64;
    MapData::create(map, "stillpoint", None).map_err(|error| {
        failed(format_args!("get {bytes} bytes of kernel memory for marks"))(error)
            .with_hint("they count against the memory limit of the service that asks for them")
    })
}

fn missing(name: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("the built-in tracking object lacks {name}"),
    )
}

/// The kernel does not say where its fields are.
pub(super) fn no_types(error: aya::BtfError) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "this kernel does not describe its own types (no /sys/kernel/btf/vmlinux)",
    )
    .with_hint("use a kernel built with CONFIG_DEBUG_INFO_BTF; without, disks are compared")
    .with_source(error)
}
