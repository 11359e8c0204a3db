//! A name in the target, and how something comes to stand under it: at once, or when it is whole.
//! It must never follow a link, nor replace what it was not told to replace.

use crate::model::ObjectId;
use crate::sys::handle::{link_handle, look, nameless_file, target_handle_at};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What names begin with that are not whole yet.
pub(super) const UNFINISHED: &str = ".stillpoint-cp-";

/// How something comes to stand under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// At once: it lies in a directory that is not whole itself, and nobody else's yet.
    Direct,
    /// When it is whole; what stands there already is not replaced.
    Staged,
    /// When it is whole, in place of what stands there.
    Replacing,
}

/// A name in a directory of the target.
#[derive(Clone)]
pub(super) struct Slot {
    /// The directory.
    pub directory: Arc<OwnedFd>,
    /// The name.
    pub name: OsString,
    /// How it comes to stand there.
    pub placement: Placement,
}

/// Something that was made for a slot.
pub(super) struct Made {
    /// The name it has until it is whole; `None`: that of the slot.
    pub staged: Option<OsString>,
}

impl Slot {
    /// Makes something by its name. Its name is told what to make, and must replace nothing.
    pub fn make(&self, make: impl FnOnce(&OwnedFd, &OsStr) -> nix::Result<()>) -> io::Result<Made> {
        let staged = match self.placement {
            Placement::Direct => None,
            Placement::Staged | Placement::Replacing => Some(unfinished_name()),
        };
        make(&self.directory, staged.as_deref().unwrap_or(&self.name))?;
        Ok(Made { staged })
    }

    /// What was made, to be given what it shall have. In a directory where others may write, it
    /// could have been exchanged: it must be its maker's, have one name, and be of the same kind.
    pub fn open_made(&self, made: &Made, kind: libc::mode_t) -> io::Result<OwnedFd> {
        let handle = target_handle_at(&self.directory, self.name_of(made))?;
        let stat = look(&handle)?;
        let is_dir = kind == libc::S_IFDIR;
        let is_ours = stat.st_uid == nix::unistd::geteuid().as_raw();
        match stat.st_mode & libc::S_IFMT == kind && is_ours && (is_dir || stat.st_nlink == 1) {
            true => Ok(handle),
            false => Err(io::Error::other(
                "somebody has exchanged it while it was made",
            )),
        }
    }

    /// Puts what is whole under the slot's name.
    pub fn commit(&self, made: &Made) -> io::Result<()> {
        match &made.staged {
            Some(staged) => self.put_in_place(staged),
            None => Ok(()),
        }
    }

    /// Takes away what is not to stay; a directory must be empty.
    pub fn discard(&self, made: &Made) {
        let name = self.name_of(made);
        // Nothing more can be done, and what failed before is what is reported.
        if unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) == Err(Errno::EISDIR) {
            let _ = unlinkat(&self.directory, name, UnlinkatFlags::RemoveDir);
        }
    }

    fn name_of<'a>(&'a self, made: &'a Made) -> &'a OsStr {
        made.staged.as_deref().unwrap_or(&self.name)
    }

    fn put_in_place(&self, staged: &OsStr) -> io::Result<()> {
        let (folder, name) = (&self.directory, self.name.as_os_str());
        if self.placement == Placement::Replacing {
            renameat(folder, staged, folder, name)?;
            // Where both were names of one file, nothing was renamed (rename(2)).
            let _ = unlinkat(folder, staged, UnlinkatFlags::NoRemoveDir);
            return Ok(());
        }
        match renameat2(folder, staged, folder, name, RenameFlags::RENAME_NOREPLACE) {
            // The filesystem cannot do that at once.
            Err(Errno::EINVAL | Errno::ENOSYS) => match self.there()? {
                Some(_) => Err(Errno::EEXIST.into()),
                None => Ok(renameat(folder, staged, folder, name)?),
            },
            other => Ok(other?),
        }
    }

    /// What stands under its name already.
    pub fn there(&self) -> io::Result<Option<FileStat>> {
        match target_handle_at(&self.directory, &self.name) {
            Ok(handle) => look(handle).map(Some),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A new file, which has no name or an unfinished one where it is to be whole first.
    pub fn create_file(&self) -> io::Result<NewFile> {
        let create = |name: &OsStr| -> io::Result<File> {
            let flags = OFlag::O_RDWR
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let private = Mode::S_IRUSR | Mode::S_IWUSR;
            Ok(File::from(openat(&self.directory, name, flags, private)?))
        };
        if self.placement == Placement::Direct {
            let file = create(&self.name)?;
            let made = Some(Made { staged: None });
            return Ok(NewFile { file, made });
        }
        match nameless_file(&self.directory) {
            Ok(file) => Ok(NewFile { file, made: None }),
            Err(error) if cannot_be_nameless(&error) => {
                let staged = unfinished_name();
                let file = create(&staged)?;
                let made = Some(Made {
                    staged: Some(staged),
                });
                Ok(NewFile { file, made })
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a new file its name.
    pub fn commit_file(&self, new: &NewFile) -> io::Result<()> {
        match (&new.made, self.placement) {
            (Some(made), _) => self.commit(made),
            (None, Placement::Replacing) => {
                let made = self.make_link(&new.file)?;
                self.commit(&made).inspect_err(|_| self.discard(&made))
            }
            (None, Placement::Direct | Placement::Staged) => {
                link_handle(&new.file, &self.directory, &self.name)
            }
        }
    }

    /// Takes away a new file that is not to stay.
    pub fn discard_file(&self, new: &NewFile) {
        if let Some(made) = &new.made {
            self.discard(made);
        }
    }

    /// One more name for a file of the target.
    pub fn make_link(&self, file: impl AsFd) -> io::Result<Made> {
        let staged = match self.placement {
            Placement::Direct => None,
            Placement::Staged | Placement::Replacing => Some(unfinished_name()),
        };
        let name = staged.as_deref().unwrap_or(&self.name);
        link_handle(file, &self.directory, name)?;
        Ok(Made { staged })
    }
}

/// A new file.
pub(super) struct NewFile {
    /// It, to be written.
    pub file: File,
    /// `None`: it has no name yet, and is gone when it is closed.
    made: Option<Made>,
}

/// Whether a filesystem, or an old kernel for it, cannot make files without a name (open(2)).
fn cannot_be_nameless(error: &io::Error) -> bool {
    let cannot = [
        libc::EOPNOTSUPP,
        libc::EISDIR,
        libc::ENOENT,
        libc::EINVAL,
        libc::ENOSYS,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| cannot.contains(&errno))
}

fn unfinished_name() -> OsString {
    format!("{UNFINISHED}{}", ObjectId::generate()).into()
}
