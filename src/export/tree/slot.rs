//! A name in the target, and how something comes to stand under it: at once, or when it is whole.
//! It must never follow a link, nor replace what it was not told to replace.

use super::walk::NodeId;
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
    /// What was made: a name may lead to something else by now.
    pub id: NodeId,
}

impl Slot {
    /// Makes something by its name: `make` is told where, and must replace nothing. What is found
    /// there then must be what was made. In a directory where others may write, it could have been
    /// exchanged. So it must be of the same kind, have one name, and have the owner that what we
    /// make there has: on some targets that is always the same somebody.
    pub fn make(
        &self,
        kind: libc::mode_t,
        make: impl FnOnce(&OwnedFd, &OsStr) -> nix::Result<()>,
    ) -> io::Result<(Made, OwnedFd)> {
        let staged = self.first_name();
        let name = staged.as_deref().unwrap_or(&self.name);
        make(&self.directory, name)?;
        let handle = target_handle_at(&self.directory, name)?;
        let stat = look(&handle)?;
        let is_dir = kind == libc::S_IFDIR;
        let is_one = stat.st_mode & libc::S_IFMT == kind && (is_dir || stat.st_nlink <= 1);
        if !is_one || !self.is_ours(&stat)? {
            return Err(exchanged());
        }
        let id = NodeId::of_stat(&stat);
        Ok((Made { staged, id }, handle))
    }

    fn first_name(&self) -> Option<OsString> {
        match self.placement {
            Placement::Direct => None,
            Placement::Staged | Placement::Replacing => Some(unfinished_name()),
        }
    }

    /// Whether something has the owner that a new file of ours has there.
    fn is_ours(&self, stat: &FileStat) -> io::Result<bool> {
        if stat.st_uid == nix::unistd::geteuid().as_raw() {
            return Ok(true);
        }
        let trial = Self {
            placement: Placement::Staged,
            ..self.clone()
        };
        let new = trial.create_file()?;
        let owner = look(&new.file)?.st_uid;
        trial.discard_file(&new);
        Ok(stat.st_uid == owner)
    }

    /// Puts what is whole under the slot's name.
    pub fn commit(&self, made: &Made) -> io::Result<()> {
        let Some(staged) = &made.staged else {
            return Ok(());
        };
        self.refuse_another(staged, made)?;
        self.put_in_place(staged, made)?;
        self.refuse_another(&self.name, made)
    }

    /// Takes away what is not to stay; a directory must be empty. What has its name by now and is
    /// something else stays.
    pub fn discard(&self, made: &Made) -> io::Result<()> {
        let name = made.staged.as_deref().unwrap_or(&self.name);
        self.refuse_another(name, made)?;
        match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => Ok(unlinkat(&self.directory, name, UnlinkatFlags::RemoveDir)?),
            other => Ok(other?),
        }
    }

    fn refuse_another(&self, name: &OsStr, made: &Made) -> io::Result<()> {
        let there = look(target_handle_at(&self.directory, name)?)?;
        match NodeId::of_stat(&there) == made.id {
            true => Ok(()),
            false => Err(exchanged()),
        }
    }

    fn put_in_place(&self, staged: &OsStr, made: &Made) -> io::Result<()> {
        let (folder, name) = (&self.directory, self.name.as_os_str());
        if self.placement == Placement::Replacing {
            renameat(folder, staged, folder, name)?;
            // Where both were names of one file, nothing was renamed (rename(2)).
            if self.refuse_another(staged, made).is_ok() {
                unlinkat(folder, staged, UnlinkatFlags::NoRemoveDir)?;
            }
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
            return NewFile::named(file, None);
        }
        match nameless_file(&self.directory) {
            Ok(file) => Ok(NewFile { file, made: None }),
            Err(error) if cannot_be_nameless(&error) => {
                let staged = unfinished_name();
                let file = create(&staged)?;
                NewFile::named(file, Some(staged))
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
                self.commit(&made)
                    .inspect_err(|_| drop(self.discard(&made)))
            }
            (None, Placement::Direct | Placement::Staged) => {
                link_handle(&new.file, &self.directory, &self.name)
            }
        }
    }

    /// Takes away a new file that is not to stay.
    pub fn discard_file(&self, new: &NewFile) {
        if let Some(made) = &new.made {
            // What failed before is what is reported.
            let _ = self.discard(made);
        }
    }

    /// One more name for a file of the target.
    pub fn make_link(&self, file: impl AsFd) -> io::Result<Made> {
        let staged = self.first_name();
        let name = staged.as_deref().unwrap_or(&self.name);
        let id = NodeId::of_stat(&look(&file)?);
        link_handle(file, &self.directory, name)?;
        Ok(Made { staged, id })
    }
}

/// A new file.
pub(super) struct NewFile {
    /// It, to be written.
    pub file: File,
    /// `None`: it has no name yet, and is gone when it is closed.
    made: Option<Made>,
}

impl NewFile {
    fn named(file: File, staged: Option<OsString>) -> io::Result<Self> {
        let id = NodeId::of_stat(&look(&file)?);
        let made = Some(Made { staged, id });
        Ok(Self { file, made })
    }
}

fn exchanged() -> io::Error {
    io::Error::other("somebody has exchanged it while it was made")
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
