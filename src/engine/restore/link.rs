//! Links on the way to a target, and ways into the vault: what a name leads to that nobody meant.

use super::name::directory_of;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::store::Vault;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{self, Component, Path, PathBuf};
use std::{fs, io};

/// A link to a device counts only below `/dev`, and there only where root alone makes links: in
/// `/dev/shm` and `/dev/mqueue` everyone does.
pub fn refuse_planted_link(target: &Path) -> Result<()> {
    let is_link = fs::symlink_metadata(target).is_ok_and(|found| found.file_type().is_symlink());
    let below_dev = target.starts_with("/dev");
    let is_device = fs::metadata(target).is_ok_and(|found| found.file_type().is_block_device());
    let planted = if is_link && !below_dev {
        Some(target.to_owned())
    } else if below_dev || is_device {
        planted_link(target).io_context("look at", target)?
    } else {
        None
    };
    let Some(link) = planted else {
        return Ok(());
    };
    let what = if link == target {
        format!("{} is a symbolic link", target.display())
    } else {
        let (target, link) = (target.display(), link.display());
        format!("the way to {target} leads over {link}, a symbolic link")
    };
    Err(
        Error::new(ErrorKind::Exists, format!("{what}; nothing was written"))
            .with_hint("name the device itself, or a file"),
    )
}

/// Most links on the way to a target, as the kernel has it (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The first link on the way to `target` that somebody else than root can have made or can replace.
/// A way that ends before the target is no matter: what is to be made there is a file.
fn planted_link(target: &Path) -> io::Result<Option<PathBuf>> {
    let mut at = PathBuf::new();
    let mut links = 0;
    let mut way = vec![path::absolute(target)?];
    while let Some(part) = way.pop() {
        let mut parts = part.components();
        let Some(first) = parts.next() else {
            continue;
        };
        way.push(parts.as_path().to_owned());
        match first {
            Component::ParentDir => {
                // There is no link left in it.
                at.pop();
                continue;
            }
            Component::Normal(name) => at.push(name),
            Component::RootDir => at = "/".into(),
            Component::CurDir | Component::Prefix(_) => continue,
        }
        let found = match fs::symlink_metadata(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if !found.file_type().is_symlink() {
            continue;
        }
        let leads_to = fs::read_link(&at)?;
        let directory = fs::metadata(directory_of(&at))?;
        let roots_alone = found.uid() == 0 && directory.uid() == 0 && directory.mode() & 0o022 == 0;
        links += 1;
        if !roots_alone || links > MAX_LINKS {
            return Ok(Some(at));
        }
        at.pop();
        way.push(leads_to);
    }
    Ok(None)
}

/// Also where the vault is seen under another path, through a bind mount.
pub fn refuse_the_vault(vault: &Vault, target: &Path) -> Result<()> {
    let Some(root) = vault.local_root() else {
        return Ok(());
    };
    let directory = if target.is_dir() {
        target
    } else {
        directory_of(target)
    };
    let is_root = |directory: &Path| {
        fs::metadata(directory).is_ok_and(|found| (found.dev(), found.ino()) == root)
    };
    let inside =
        fs::canonicalize(directory).is_ok_and(|directory| directory.ancestors().any(is_root));
    if inside {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} is inside the vault; nothing was written",
                target.display()
            ),
        )
        .with_hint("name a target outside the vault"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::planted_link;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    use std::path::Path;

    #[test]
    fn a_link_counts_where_root_alone_makes_links() {
        if !nix::unistd::geteuid().is_root() {
            // There is no making root's links then.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path();
        let at = |name: &str| directory.join(name);
        let planted = |path: &Path| planted_link(path).unwrap();
        symlink("/dev/null", at("link")).unwrap();
        std::fs::create_dir(at("inner")).unwrap();
        symlink("../link", at("inner/over")).unwrap();
        symlink("inner", at("way")).unwrap();
        for good in [
            "link",
            "inner/over",
            "way/over",
            "way/../link",
            "inner",
            "none/x",
        ] {
            assert_eq!(planted(&at(good)), None, "{good}");
        }
        // A directory that others can write to, sticky as /dev/shm is, and what leads over it.
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(at("inner"), mode(0o1777)).unwrap();
        for bad in ["inner/over", "way/over"] {
            assert_eq!(planted(&at(bad)), Some(at("inner/over")), "{bad}");
        }
        assert_eq!(planted(&at("link")), None);
        std::fs::set_permissions(at("inner"), mode(0o755)).unwrap();
        chown(at("inner"), Some(1), None).unwrap();
        assert_eq!(planted(&at("inner/over")), Some(at("inner/over")));
        lchown(at("way"), Some(1), None).unwrap();
        assert_eq!(planted(&at("way/over")), Some(at("way")));
        symlink("round", at("round")).unwrap();
        assert_eq!(planted(&at("round")), Some(at("round")));
    }
}
