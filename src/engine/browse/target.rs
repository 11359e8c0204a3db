//! Where `cp` copies to, by what is there. It makes nothing: all that is asked for must be known to
//! be in the snapshot before.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::printable;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTarget {
    /// Into a directory, each under the name that it has in the snapshot.
    Into(PathBuf),
    /// One, under a name of its own.
    As {
        /// The directory.
        directory: PathBuf,
        /// The name.
        name: OsString,
    },
}

/// What `dest` means for copies of these paths.
///
/// # Errors
/// `Usage`, `NotFound`, `Exists`: they cannot be copied there, and why.
pub fn find_target(dest: &Path, paths: &[PathBuf], replace: bool) -> Result<CopyTarget> {
    let shown = printable::path(dest);
    let ends_open = dest.as_os_str().as_bytes().ends_with(b"/");
    let target = match fs::metadata(dest) {
        Ok(there) if there.is_dir() => CopyTarget::Into(dest.to_owned()),
        Ok(_) if paths.len() > 1 || ends_open => {
            let what = format!("{shown} is no directory");
            return Err(Error::new(ErrorKind::Exists, what)
                .with_hint("name a directory that is there, or one file and a name for it"));
        }
        Ok(_) => named(dest)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => match paths.len() > 1 {
            true => {
                let what = format!("{shown} is not there, and several are to be copied into it");
                return Err(
                    Error::new(ErrorKind::NotFound, what).with_hint(format!("mkdir -p {shown}"))
                );
            }
            false => named(dest)?,
        },
        Err(error) => return Err(Error::io("look at", dest, error)),
    };
    let mut names = BTreeSet::new();
    for path in paths {
        let place = target.place_of(path)?;
        if !names.insert(place.clone()) {
            let what = format!("two copies would be {}", printable::path(&place));
            return Err(
                Error::new(ErrorKind::Usage, format!("{what}; nothing was copied"))
                    .with_hint("copy them into different directories"),
            );
        }
        let there = fs::symlink_metadata(&place).is_ok();
        if there && !replace {
            let what = format!(
                "{} is there already; nothing was copied",
                printable::path(&place)
            );
            return Err(Error::new(ErrorKind::Exists, what).with_hint(
                "name another place, or say --overwrite: files are replaced, and a directory gets \
                 what the snapshot has in it",
            ));
        }
    }
    Ok(target)
}

/// A name in a directory that is there.
fn named(dest: &Path) -> Result<CopyTarget> {
    let refused = || {
        let what = format!("{} is no name for a copy", printable::path(dest));
        Err(Error::new(ErrorKind::Usage, what).with_hint("name a directory, or a new file in one"))
    };
    let Some(Component::Normal(name)) = dest.components().next_back() else {
        return refused();
    };
    let directory = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let about = fs::metadata(&directory).io_context("look at", &directory)?;
    match about.is_dir() {
        true => Ok(CopyTarget::As {
            directory,
            name: name.to_owned(),
        }),
        false => refused(),
    }
}

impl CopyTarget {
    /// The directory that copies are put into.
    pub fn directory(&self) -> &Path {
        match self {
            Self::Into(directory) | Self::As { directory, .. } => directory,
        }
    }

    /// The name that the copy of a path gets.
    ///
    /// # Errors
    /// `Usage`: it has none.
    pub fn name_of<'a>(&'a self, path: &'a Path) -> Result<&'a OsStr> {
        match self {
            Self::As { name, .. } => Ok(name),
            Self::Into(_) => path.file_name().ok_or_else(|| {
                let what = format!(
                    "{} has no name that its copy could have",
                    printable::path(path)
                );
                Error::new(ErrorKind::Usage, what)
                    .with_hint("name a DEST that is not there yet: the copy gets that name")
            }),
        }
    }

    /// Where the copy of a path will be.
    ///
    /// # Errors
    /// As [`Self::name_of`].
    pub fn place_of(&self, path: &Path) -> Result<PathBuf> {
        Ok(self.directory().join(self.name_of(path)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_cp_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "x").unwrap();
        fs::write(at("dir/there"), "x").unwrap();
        let (one, two) = (PathBuf::from("/srv/a"), PathBuf::from("/srv/there"));
        let find = |dest: &str, paths: &[&PathBuf], replace| {
            let paths: Vec<PathBuf> = paths.iter().copied().cloned().collect();
            find_target(&at(dest), &paths, replace)
        };
        let into = CopyTarget::Into(at("dir"));
        assert_eq!(find("dir", &[&one], false).unwrap(), into);
        assert_eq!(into.place_of(&one).unwrap(), at("dir/a"));
        let named = find("new", &[&one], false).unwrap();
        assert_eq!(named.place_of(&one).unwrap(), at("new"));
        assert_eq!(
            find("file", &[&one], true).unwrap().place_of(&one).unwrap(),
            at("file")
        );
        for (dest, paths, kind) in [
            ("file", vec![&one], ErrorKind::Exists),
            ("dir", vec![&one, &two], ErrorKind::Exists),
            ("file/", vec![&one], ErrorKind::Io),
            ("file", vec![&one, &two], ErrorKind::Exists),
            ("dir", vec![&one, &one], ErrorKind::Usage),
            ("new", vec![&one, &two], ErrorKind::NotFound),
            ("none/new", vec![&one], ErrorKind::NotFound),
        ] {
            let error = find(dest, &paths, false).unwrap_err();
            assert_eq!(error.kind(), kind, "{dest}: {error}");
        }
        let root = PathBuf::from("/");
        assert_eq!(
            find("dir", &[&root], false).unwrap_err().kind(),
            ErrorKind::Usage
        );
        assert!(find("new", &[&root], false).is_ok());
    }
}
