//! What qualifies a hook. The file is opened once, judged and copied through that descriptor, and
//! the copy is what is run: a name in a folder that others can write to is never trusted twice, nor
//! do interpreters take for the script's own what others have put beside it.

use crate::format::{HookRecord, HookStatus};
use crate::sys::lease::is_open_for_writing;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, SealFlag, fcntl, open, openat2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A first line longer than this is none: the kernel's limit (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;
/// A script that is longer is none.
const MAX_SCRIPT: usize = 1 << 20;
/// So much of a script is looked through for lines of another system; data may follow.
const LINES: usize = 64 << 10;
/// From `include/uapi/linux/memfd.h`: never to be executed as a program. Since Linux 6.3, and
/// demanded there where `vm.memfd_noexec` is 2.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x0008);
/// All bits of a mode that say who may do what.
const MODE_BITS: u32 = 0o7777;

/// Why a hook is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is none.
    Absent,
    /// There is something, and this is wrong with it.
    Rejected(String),
}

/// A script that root alone can have written, copied.
#[derive(Debug)]
pub(super) struct Script {
    /// Its text, in memory that nobody can change any more.
    pub text: File,
    /// How it is run.
    pub call: Call,
}

/// How a script is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    /// Where it was found.
    #[serde(with = "crate::helper::path_bytes")]
    pub path: PathBuf,
    /// The program that its first line names.
    pub interpreter: String,
    /// What the first line gives to that program.
    pub argument: Option<String>,
}

impl Script {
    /// Copies the hook at `path`, if it qualifies.
    pub(super) fn open(path: &Path) -> Result<Self, Unfit> {
        let place = open_place(path)?;
        let stat = fstat(&place).map_err(rejected)?;
        judge(&stat)?;
        // The same file, whatever stands under its name by now.
        let file = File::open(format!("/proc/thread-self/fd/{}", place.as_raw_fd()));
        let file = file.map_err(|error| unreadable(&error))?;
        // From here on nobody but root can come to write to it.
        if is_open_for_writing(&file) {
            let why = "someone has it open for writing; install it under a new name and rename it";
            return Err(Unfit::Rejected(why.into()));
        }
        let mut text = Vec::new();
        let read = file.take(MAX_SCRIPT as u64 + 1).read_to_end(&mut text);
        read.map_err(|error| unreadable(&error))?;
        if text.len() > MAX_SCRIPT {
            return Err(Unfit::Rejected("it is longer than 1 MiB".into()));
        }
        let (interpreter, argument) = first_line(&text)?;
        refuse_foreign_lines(&text)?;
        let copied = sealed(&text);
        Ok(Self {
            text: copied.map_err(|error| Unfit::Rejected(format!("cannot copy it: {error}")))?,
            call: Call {
                path: path.to_owned(),
                interpreter,
                argument,
            },
        })
    }
}

/// What the record says of two hooks of which at least one is unfit.
pub(super) fn unfit(
    prescript: Option<&Unfit>,
    postscript: Option<&Unfit>,
) -> (HookRecord, HookRecord) {
    let one = |unfit: Option<&Unfit>, other: &str, others: Option<&Unfit>| {
        let (status, reason) = match (unfit, others) {
            (Some(Unfit::Absent), _) => (HookStatus::Absent, "there is none".to_owned()),
            (Some(Unfit::Rejected(why)), _) => (HookStatus::Rejected, why.clone()),
            (None, Some(Unfit::Rejected(_))) => (
                HookStatus::NotRun,
                format!("the {other} that goes with it is unfit"),
            ),
            (None, _) => (
                HookStatus::NotRun,
                format!("there is no {other} to go with it"),
            ),
        };
        HookRecord::new(status, Some(reason))
    };
    (
        one(prescript, "postscript", postscript),
        one(postscript, "prescript", prescript),
    )
}

/// Whether both hooks qualify now; if not, what is wrong with each.
pub fn check_hooks(prescript: &Path, postscript: &Path) -> Option<(HookRecord, HookRecord)> {
    open_both(prescript, postscript).err().map(|both| *both)
}

/// Both, before either is run: the prescript cannot change what undoes it.
pub(super) fn open_both(
    prescript: &Path,
    postscript: &Path,
) -> Result<(Script, Script), Box<(HookRecord, HookRecord)>> {
    match (Script::open(prescript), Script::open(postscript)) {
        (Ok(prescript), Ok(postscript)) => Ok((prescript, postscript)),
        (prescript, postscript) => Err(Box::new(unfit(
            prescript.err().as_ref(),
            postscript.err().as_ref(),
        ))),
    }
}

/// Memory with this text, which nobody can change from then on.
fn sealed(text: &[u8]) -> std::io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memory = match memfd_create(c"stillpoint-hook", flags | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create(c"stillpoint-hook", flags),
        made => made,
    };
    let mut memory = File::from(memory?);
    memory.write_all(text)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(
        &memory,
        FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL),
    )?;
    Ok(memory)
}

/// The shell would take the carriage return for a part of the line's last word.
fn refuse_foreign_lines(text: &[u8]) -> Result<(), Unfit> {
    let lines = &text[..text.len().min(LINES)];
    let Some(place) = lines.windows(2).position(|two| two == b"\r\n") else {
        return Ok(());
    };
    let line = 1 + lines[..place].iter().filter(|byte| **byte == b'\n').count();
    Err(Unfit::Rejected(format!(
        "line {line} ends in CR LF, as of Windows; all must end in LF"
    )))
}

fn unreadable(error: &std::io::Error) -> Unfit {
    Unfit::Rejected(format!("it cannot be read: {error}"))
}

fn rejected(errno: Errno) -> Unfit {
    Unfit::Rejected(format!("it cannot be looked at: {}", errno.desc()))
}

/// A descriptor of the file that neither opens it nor follows a link.
fn open_place(path: &Path) -> Result<OwnedFd, Unfit> {
    let (Some(folder), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute())
    else {
        return Err(Unfit::Rejected("its path must be absolute".into()));
    };
    let folder = match folder.canonicalize() {
        Ok(folder) => folder,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Unfit::Absent),
        Err(error) => return Err(Unfit::Rejected(format!("its folder: {error}"))),
    };
    for ancestor in folder.ancestors() {
        judge_folder(ancestor)?;
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = open(&folder, flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(rejected)?;
    // Nothing mounted over the file: what serves it could say of it what it likes.
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV);
    openat2(&folder, name, how).map_err(|errno| match errno {
        Errno::ENOENT => Unfit::Absent,
        Errno::EXDEV => Unfit::Rejected("something is mounted over it".into()),
        other => rejected(other),
    })
}

/// Nobody but root may be able to put another file of root's under the name.
fn judge_folder(folder: &Path) -> Result<(), Unfit> {
    let stat = std::fs::symlink_metadata(folder)
        .map_err(|error| Unfit::Rejected(format!("its folder {}: {error}", folder.display())))?;
    let open_to_others = stat.mode() & 0o022 != 0 && stat.mode() & 0o1000 == 0;
    if stat.uid() == 0 && stat.is_dir() && !open_to_others {
        return Ok(());
    }
    Err(Unfit::Rejected(format!(
        "others than root can rename files in {}",
        folder.display()
    )))
}

fn judge(stat: &FileStat) -> Result<(), Unfit> {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let no = |why: String| Err(Unfit::Rejected(why));
    match kind {
        SFlag::S_IFREG => {}
        SFlag::S_IFLNK => return no("a symbolic link".into()),
        SFlag::S_IFDIR => return no("a directory".into()),
        SFlag::S_IFIFO => return no("a named pipe".into()),
        _ => return no("not a regular file".into()),
    }
    if stat.st_uid != 0 {
        return no(format!("owned by user {}, must be root's", stat.st_uid));
    }
    let mode = stat.st_mode & MODE_BITS;
    if mode != 0o700 {
        return no(format!("mode {mode:04o}, must be 0700"));
    }
    if stat.st_nlink != 1 {
        return no(format!("it has {} links, must have one", stat.st_nlink));
    }
    Ok(())
}

/// What the kernel would make of the first line: a program, and all the rest as one argument
/// (`fs/binfmt_script.c`). Read here, a script runs from a folder mounted `noexec` too.
fn first_line(text: &[u8]) -> Result<(String, Option<String>), Unfit> {
    let start = &text[..text.len().min(FIRST_LINE)];
    let no = |why: &str| Unfit::Rejected(why.to_owned());
    let Some(rest) = start.strip_prefix(b"#!") else {
        return Err(no("it does not begin with #!"));
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() == rest.len() && start.len() == FIRST_LINE {
        return Err(no("its first line is too long"));
    }
    if line.ends_with(b"\r") {
        return Err(no(
            "its lines end in CR LF, as of Windows; all must end in LF",
        ));
    }
    let line = std::str::from_utf8(line).map_err(|_| no("its first line is no text"))?;
    let line = line.trim_matches([' ', '\t']);
    let (program, argument) = match line.split_once([' ', '\t']) {
        Some((program, argument)) => (program, Some(argument.trim_start().to_owned())),
        None => (line, None),
    };
    if !program.starts_with('/') {
        return Err(no("its first line names no program by an absolute path"));
    }
    Ok((program.to_owned(), argument))
}
