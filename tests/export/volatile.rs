//! A folder with one file, on a disk with a volatile cache: what was written to the file is noted,
//! and each time that it was made to last. So it can be told what a power cut would leave of it.

use crate::support::model::Chance;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// The file's name.
pub const NAME: &str = "o";
const FILE: INodeNo = INodeNo(2);
const PUNCH_HOLE: i32 = 2;

/// What was done to the file.
#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Zero(u64, u64),
    Length(u64),
    Lasts,
}

/// What was done to the file, and what it holds by now.
#[derive(Default)]
struct Noted {
    steps: Vec<Step>,
    bytes: Option<Vec<u8>>,
}

impl Noted {
    fn note(&mut self, step: Step) {
        if let Some(bytes) = &mut self.bytes {
            apply(&step, bytes);
        }
        self.steps.push(step);
    }
}

fn apply(step: &Step, bytes: &mut Vec<u8>) {
    let longer = |bytes: &mut Vec<u8>, end: u64| {
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0);
        }
    };
    match step {
        Step::Write(at, new) => {
            longer(bytes, at + new.len() as u64);
            bytes[*at as usize..][..new.len()].copy_from_slice(new);
        }
        Step::Zero(at, length) => {
            let end = (at + length).min(bytes.len() as u64);
            bytes[(*at).min(end) as usize..end as usize].fill(0);
        }
        Step::Length(length) => bytes.resize(*length as usize, 0),
        Step::Lasts => {}
    }
}

/// The folder, mounted until this is dropped.
pub struct VolatileFolder {
    at: TempDir,
    noted: Arc<Mutex<Noted>>,
    session: Option<JoinHandle<()>>,
}

impl VolatileFolder {
    /// `None`: there is no FUSE here, or no right to mount.
    pub fn new() -> Option<Self> {
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .ok()?;
        let at = tempfile::tempdir().unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let (source, kind) = (Some("volatile"), Some("fuse"));
        let data = Some(options.as_str());
        mount(source, at.path(), kind, MsFlags::empty(), data).ok()?;
        let noted = Arc::<Mutex<Noted>>::default();
        let folder = OneFile(Arc::clone(&noted));
        let device = device.into();
        let session = Session::from_fd(folder, device, SessionACL::Owner, Config::default());
        let session = session.unwrap();
        let session = std::thread::spawn(move || session.run().unwrap());
        Some(Self {
            at,
            noted,
            session: Some(session),
        })
    }

    /// The file's path.
    pub fn path(&self) -> PathBuf {
        self.at.path().join(NAME)
    }

    /// How many steps were noted by now.
    pub fn steps(&self) -> usize {
        self.noted.lock().unwrap().steps.len()
    }

    /// What a power cut after so many steps leaves of the file: all that was made to last, and of
    /// the rest whatever the disk likes, page by page. `None`: there is no file yet.
    pub fn after_a_cut(&self, steps: usize, chance: &mut Chance) -> Vec<u8> {
        let noted = self.noted.lock().unwrap();
        let done = &noted.steps[..steps];
        let lasts = done.iter().rposition(|step| matches!(step, Step::Lasts));
        let (lasting, rest) = done.split_at(lasts.unwrap_or(0));
        let mut bytes = Vec::new();
        lasting.iter().for_each(|step| apply(step, &mut bytes));
        for step in rest {
            let Step::Write(at, new) = step else {
                if chance.below(2) == 0 {
                    apply(step, &mut bytes);
                }
                continue;
            };
            for (number, page) in (0..).zip(new.chunks(4096)) {
                if chance.below(2) == 0 {
                    let at = at + number * 4096;
                    apply(&Step::Write(at, page.to_vec()), &mut bytes);
                }
            }
        }
        bytes
    }
}

impl Drop for VolatileFolder {
    fn drop(&mut self) {
        let _ = umount2(self.at.path(), MntFlags::MNT_DETACH);
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
    }
}

struct OneFile(Arc<Mutex<Noted>>);

fn attributes(number: INodeNo, size: Option<u64>) -> FileAttr {
    let now = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: number,
        size: size.unwrap_or(0),
        blocks: size.unwrap_or(0) / 512,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: match number {
            FILE => FileType::RegularFile,
            _ => FileType::Directory,
        },
        perm: if number == FILE { 0o600 } else { 0o700 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl OneFile {
    fn attributes(&self, number: INodeNo) -> Option<FileAttr> {
        let noted = self.0.lock().unwrap();
        let size = noted.bytes.as_ref().map(|bytes| bytes.len() as u64);
        (number != FILE || size.is_some()).then(|| attributes(number, size))
    }

    fn note(&self, step: Step) {
        self.0.lock().unwrap().note(step);
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE).filter(|_| name == NAME) {
            Some(found) => reply.entry(&Duration::ZERO, &found, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(number) {
            Some(found) => reply.attr(&Duration::ZERO, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size {
            self.note(Step::Length(size));
        }
        match self.attributes(number) {
            Some(found) => reply.attr(&Duration::ZERO, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        self.0.lock().unwrap().bytes.get_or_insert_with(Vec::new);
        let found = attributes(FILE, Some(0));
        let (ttl, flags) = (Duration::ZERO, FopenFlags::empty());
        reply.created(&ttl, &found, Generation(0), FileHandle(0), flags);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let noted = self.0.lock().unwrap();
        let bytes = noted.bytes.as_deref().unwrap_or_default();
        let rest = &bytes[(offset as usize).min(bytes.len())..];
        reply.data(&rest[..rest.len().min(size as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.note(Step::Write(offset, data.to_vec()));
        reply.written(data.len() as u32);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & PUNCH_HOLE != 0 {
            self.note(Step::Zero(offset, length));
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.note(Step::Lasts);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }
}
