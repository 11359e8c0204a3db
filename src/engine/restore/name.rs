//! What a target's name says: a device, an image and of which format, standard output; and names
//! that could mean two things, or nothing. It only looks.

use crate::device::{Host, NoTables, Topology};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

/// How a disk is written into a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageFormat {
    /// Its bytes, sparse.
    #[default]
    Raw,
    /// A QEMU image.
    Qcow2,
}

impl ImageFormat {
    /// As it is called on the command line, and how names of files end.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A block device.
    Device,
    /// A file of that format.
    File(ImageFormat),
    /// Standard output, which takes the disk's bytes in their order.
    Stdout,
}

impl TargetKind {
    /// How documents call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::File(format) => format.name(),
            Self::Stdout => ImageFormat::Raw.name(),
        }
    }
}

/// Whether standard output is meant.
pub fn is_stdout(target: &Path) -> bool {
    target.as_os_str() == "-"
}

/// What a target is, and the format of a file: as asked for, or as its name ends.
///
/// # Errors
/// Usage, when a device or standard output shall take an image, or a name ends as those of a format
/// do that is not written here.
pub fn kind_of(target: &Path, format: Option<ImageFormat>) -> Result<TargetKind> {
    let image = format == Some(ImageFormat::Qcow2);
    if is_stdout(target) {
        if image {
            let what = "a qcow2 image cannot be written to standard output: its header comes last";
            return Err(Error::new(ErrorKind::Usage, what).with_hint(
                "leave --format out: standard output takes the disk's bytes; or name a file",
            ));
        }
        return Ok(TargetKind::Stdout);
    }
    if is_block_device(target) {
        if image {
            let what = format!(
                "{} is a block device, which takes the disk's bytes, not an image",
                target.display()
            );
            return Err(
                Error::new(ErrorKind::Usage, what).with_hint("leave --format out, or name a file")
            );
        }
        return Ok(TargetKind::Device);
    }
    let format = match format {
        Some(format) => format,
        None => format_of(target)?,
    };
    Ok(TargetKind::File(format))
}

pub fn is_block_device(target: &Path) -> bool {
    fs::metadata(target).is_ok_and(|found| found.file_type().is_block_device())
}

/// How names of images end that are not written here, and what `qemu-img` calls them.
const OTHER_IMAGES: &[(&str, &str)] = &[
    ("vmdk", "vmdk"),
    ("vhd", "vpc"),
    ("vpc", "vpc"),
    ("vhdx", "vhdx"),
    ("vdi", "vdi"),
    ("qed", "qed"),
    ("qcow", "qcow"),
    ("hdd", "parallels"),
];

/// How names of what is packed end, and what packs so.
const PACKED: &[(&str, &str)] = &[
    ("gz", "gzip"),
    ("tgz", "gzip"),
    ("xz", "xz"),
    ("zst", "zstd"),
    ("zstd", "zstd"),
    ("bz2", "bzip2"),
    ("lz4", "lz4"),
    ("lzo", "lzop"),
];

/// Of formats that no pipe makes of a disk's bytes.
const NO_IMAGE: &[&str] = &[
    "zip", "7z", "rar", "tar", "ova", "ovf", "e01", "aff", "aff4", "dmg", "wim",
];

/// The format that a file's name ends in; raw where it says nothing.
fn format_of(target: &Path) -> Result<ImageFormat> {
    let ending = target.extension().unwrap_or_default();
    let ending = ending.to_string_lossy().to_ascii_lowercase();
    if ending == ImageFormat::Qcow2.name() {
        return Ok(ImageFormat::Qcow2);
    }
    let named = |list: &[(&str, &'static str)]| {
        let found = list.iter().find(|(known, _)| *known == ending);
        found.map(|(_, tool)| *tool)
    };
    let hint = if let Some(format) = named(OTHER_IMAGES) {
        format!(
            "restore to a name in .qcow2 and then: qemu-img convert -O {format} FILE.qcow2 {}; \
             --format raw makes a raw image of that name",
            target.display()
        )
    } else if let Some(tool) = named(PACKED) {
        format!(
            "give - for the target, and pipe it: ... - | {tool} > {}; --format raw makes a raw \
             image of that name",
            target.display()
        )
    } else if NO_IMAGE.contains(&ending.as_str()) {
        "name a file in .raw, .img or .qcow2; --format raw makes a raw image of that name".into()
    } else {
        return Ok(ImageFormat::Raw);
    };
    let what = format!(
        "{} ends in .{ending}, and what is written here is raw or qcow2; nothing was written",
        target.display()
    );
    Err(Error::new(ErrorKind::Usage, what).with_hint(hint))
}

/// Refuses a name without a directory that is a disk's too: nobody can tell which of the two was
/// meant, and on a host that comes from a rescue a file of that name would not be noticed.
pub fn refuse_two_meanings(target: &Path, manifest: &Manifest) -> Result<()> {
    let mut parts = target.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else {
        return Ok(());
    };
    if name.as_bytes() != target.as_os_str().as_bytes() {
        // `./vdb`, `vdb/`
        return Ok(());
    }
    let refused = |what: String, disk: String| {
        let what = format!("{what}; nothing was written");
        let hint = format!(
            "say {disk} for the disk, or ./{} for a file of that name",
            target.display()
        );
        Err(Error::new(ErrorKind::Usage, what).with_hint(hint))
    };
    if let Some(disk) = disk_called(name) {
        let what = format!("{} is a disk of this host", target.display());
        return refused(what, disk.display().to_string());
    }
    let there = manifest
        .disks
        .iter()
        .find(|disk| *disk.identity.name == *name);
    if there.is_some() {
        let what = format!(
            "{} is what a disk of the snapshot was called, and there is none of that name here",
            target.display()
        );
        return refused(what, "/dev/NAME".into());
    }
    Ok(())
}

/// The device that goes by that name here.
fn disk_called(name: &std::ffi::OsStr) -> Option<PathBuf> {
    let nodes = [Path::new("/dev"), Path::new("/dev/mapper")].map(|directory| directory.join(name));
    if let Some(node) = nodes.into_iter().find(|node| is_block_device(node)) {
        return Some(node);
    }
    let name = name.to_str()?;
    let topology = Topology::scan(&Host::here(), &NoTables).ok()?;
    let mut disks = topology.disks();
    let named = |serial: &String| serial == name;
    let disk = disks.find(|disk| disk.identity.serial.as_ref().is_some_and(named))?;
    Some(disk.path.clone())
}

/// Refuses the name of a directory that is not there, and a name in such a directory.
pub fn refuse_no_place(target: &Path) -> Result<()> {
    let shown = target.display();
    let text = target.as_os_str().as_bytes();
    if text.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no target was named")
            .with_hint("name a block device, a file, or an empty directory"));
    }
    let of_a_directory = [&b"/"[..], b"/.", b"/.."];
    if of_a_directory.iter().any(|end| text.ends_with(end)) && !target.is_dir() {
        let what = format!("{shown} names a directory, and there is none; nothing was written");
        return Err(Error::new(ErrorKind::NotFound, what).with_hint(format!(
            "for all disks into it: mkdir -p {shown}; for a file, leave the / at the end out"
        )));
    }
    let directory = directory_of(target);
    let missing = |what: &str, hint: String| {
        let what = format!("{} {what}; nothing was written", directory.display());
        Err(Error::new(ErrorKind::NotFound, what).with_hint(hint))
    };
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => missing(
            "is no directory",
            format!("{shown} cannot be in it: name another target"),
        ),
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => missing(
            "leads over something that is no directory",
            "name another target".into(),
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing(
            "is not there",
            format!("make the directory: mkdir -p {}", directory.display()),
        ),
        Err(error) => Err(Error::io("look at", directory, error)),
    }
}

pub fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_name() {
        let file = |name: &str| kind_of(Path::new(name), None);
        for (name, format) in [
            ("x.qcow2", ImageFormat::Qcow2),
            ("/images/X.QCOW2", ImageFormat::Qcow2),
            ("x.raw", ImageFormat::Raw),
            ("x.img", ImageFormat::Raw),
            ("x", ImageFormat::Raw),
            ("x.qcow2.old", ImageFormat::Raw),
            (".qcow2", ImageFormat::Raw),
        ] {
            assert_eq!(file(name).unwrap(), TargetKind::File(format), "{name}");
        }
        for (name, hint) in [
            ("x.vmdk", "-O vmdk FILE.qcow2 x.vmdk"),
            ("x.vhd", "-O vpc"),
            ("x.img.gz", "- | gzip > x.img.gz"),
            ("X.ZST", "- | zstd"),
            ("x.ova", ".qcow2"),
        ] {
            let error = file(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{name}");
            assert!(error.hint().unwrap().contains(hint), "{error:?}");
            let asked = kind_of(Path::new(name), Some(ImageFormat::Raw)).unwrap();
            assert_eq!(asked, TargetKind::File(ImageFormat::Raw));
        }
        let both = kind_of(Path::new("x.raw"), Some(ImageFormat::Qcow2)).unwrap();
        assert_eq!(both, TargetKind::File(ImageFormat::Qcow2));
        assert_eq!(kind_of(Path::new("-"), None).unwrap(), TargetKind::Stdout);
        assert!(kind_of(Path::new("-"), Some(ImageFormat::Qcow2)).is_err());
    }

    #[test]
    fn a_name_needs_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "x").unwrap();
        for good in ["new", "file", ".", "./x"] {
            refuse_no_place(&at(good)).unwrap();
        }
        refuse_no_place(Path::new("x")).unwrap();
        for (bad, words) in [
            ("none/", "names a directory"),
            ("none/.", "names a directory"),
            ("file/", "names a directory"),
            ("none/x", "none is not there"),
            ("none/none/x", "none/none is not there"),
            ("file/x", "file is no directory"),
            ("file/x/y", "no directory"),
        ] {
            let error = refuse_no_place(&at(bad)).unwrap_err();
            assert!(error.to_string().contains(words), "{bad}: {error}");
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        let error = refuse_no_place(&at("none/x")).unwrap_err();
        assert!(error.hint().unwrap().contains("mkdir -p"), "{error:?}");
        let error = refuse_no_place(Path::new("")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
