//! What a mounted filesystem without a block device of its own lies on in the end: the upper folder
//! of an overlay, the folder that another one shows again, a server that may be this very host.

use super::filesystem::Filesystem;
use super::mountinfo::{DEPTH_LIMIT, MountEntry};
use super::mounts::Mounts;
use crate::model::DevNumber;
use crate::sys::machine::host_name;
use std::fs;
use std::path::PathBuf;

/// Where what is written to a mounted filesystem ends up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing<'a> {
    /// On this one, which has block devices.
    Filesystem(&'a Filesystem),
    /// On no disk of this host.
    Elsewhere,
    /// Unknown, for this reason.
    Unknown(String),
}

/// The next step down from a filesystem that has no block device.
#[derive(Debug, PartialEq, Eq)]
enum Below {
    Folder(PathBuf),
    Elsewhere,
    Unknown(String),
}

impl Mounts {
    /// Where what is written to the filesystem with that superblock ends up. Follows folders by
    /// their names, so it is for the one filesystem that a user named.
    pub fn backing(&self, dev: DevNumber) -> Backing<'_> {
        let mut dev = dev;
        for _ in 0..DEPTH_LIMIT {
            if let Some(filesystem) = self.filesystem(dev) {
                return Backing::Filesystem(filesystem);
            }
            let Some(entry) = self.own.of(dev) else {
                return Backing::Unknown(format!("no mount table shows the device {dev}"));
            };
            let folder = match below(entry, &host_name()) {
                Below::Folder(folder) => folder,
                Below::Elsewhere => return Backing::Elsewhere,
                Below::Unknown(why) => return Backing::Unknown(why),
            };
            let real = fs::canonicalize(&folder).ok();
            match real.and_then(|folder| self.own.holding(&folder)) {
                Some(next) if next.dev != dev => dev = next.dev,
                _ => {
                    let (fstype, folder) = (&entry.fstype, folder.display());
                    return Backing::Unknown(format!(
                        "its {fstype} leads to {folder}, not seen here"
                    ));
                }
            }
        }
        Backing::Unknown("too many filesystems lie on one another".into())
    }
}

fn below(entry: &MountEntry, this_host: &str) -> Below {
    let (fstype, source) = (entry.fstype.as_str(), entry.source.as_str());
    if fstype == "overlay" {
        return match entry.option("upperdir") {
            Some(upper) => Below::Folder(upper.into()),
            // Without one nothing is ever written.
            None => Below::Elsewhere,
        };
    }
    let fuse = fstype == "fuse" || fstype.starts_with("fuse.");
    // In this namespace root mounts, and any user what a process of his serves (fusermount(1)); the
    // kernel reports whose it is. Such a user may call its source anything.
    if fuse && entry.option("user_id").is_none_or(|user| user != "0") {
        let what = "it is served by a process of a user that is not root";
        return Below::Unknown(format!("{what} ({fstype})"));
    }
    if let Some(server) = server(source) {
        return if is_this_host(server, this_host) {
            Below::Unknown(format!("{source} is served by this host itself"))
        } else {
            Below::Elsewhere
        };
    }
    let folder = source.starts_with('/') && !source.starts_with("/dev/") && !source.contains(':');
    match (folder, fuse) {
        // bindfs, gocryptfs, ecryptfs: the folder that is shown again.
        (true, _) => Below::Folder(source.into()),
        (false, true) => Below::Unknown(format!("{source} is served by a process ({fstype})")),
        // tmpfs, virtiofs, 9p, ...
        (false, false) => Below::Elsewhere,
    }
}

/// `host:/path`, `user@host:`, `//host/share`, `[::1]:/path`.
fn server(source: &str) -> Option<&str> {
    if let Some(share) = source.strip_prefix("//") {
        return share.split('/').next();
    }
    let source = source.rsplit_once('@').map_or(source, |(_, rest)| rest);
    let end = match source.strip_prefix('[') {
        Some(rest) => return rest.split(']').next(),
        None => source.find(':')?,
    };
    source.get(..end).filter(|name| !name.contains('/'))
}

fn is_this_host(server: &str, this_host: &str) -> bool {
    let local = ["localhost", "localhost.localdomain", "::1", this_host];
    local.contains(&server) || server.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options of a FUSE mount of root's, among them.
    const ROOTS: &str = "rw,user_id=0,group_id=0";

    fn step(fstype: &str, source: &str, options: &str) -> Below {
        let entry = MountEntry {
            dev: DevNumber { major: 0, minor: 9 },
            root: "/".into(),
            target: "/m".into(),
            fstype: fstype.into(),
            source: source.into(),
            super_options: options.into(),
            visible: true,
        };
        below(&entry, "me")
    }

    #[test]
    fn each_kind_of_filesystem_leads_somewhere_or_says_that_it_cannot_be_told() {
        let folder = |path: &str| Below::Folder(path.into());
        let upper = "rw,lowerdir=/l,upperdir=/u,workdir=/w";
        assert_eq!(step("overlay", "overlay", upper), folder("/u"));
        assert_eq!(step("overlay", "none", "ro,lowerdir=/l"), Below::Elsewhere);
        assert_eq!(step("fuse.bindfs", "/srv/data", ROOTS), folder("/srv/data"));
        for options in ["rw", "rw,user_id=1000,group_id=0", "rw,user_id=00"] {
            for source in ["/srv/data", "root@far:/srv", "/dev/vda"] {
                let found = step("fuse.bindfs", source, options);
                assert!(matches!(found, Below::Unknown(_)), "{options}: {found:?}");
            }
        }
        assert_eq!(step("ecryptfs", "/home/.x", "rw"), folder("/home/.x"));
        for (fstype, source) in [
            ("tmpfs", "tmpfs"),
            ("nfs4", "10.0.0.5:/export"),
            ("nfs", "[fe80::1]:/export"),
            ("cifs", "//nas/share"),
            ("fuse.sshfs", "root@far:/srv"),
            ("virtiofs", "tag"),
        ] {
            assert_eq!(step(fstype, source, ROOTS), Below::Elsewhere, "{source}");
        }
        for (fstype, source) in [
            ("nfs4", "localhost:/export"),
            ("nfs4", "127.0.0.1:/export"),
            ("nfs4", "[::1]:/export"),
            ("nfs4", "me:/export"),
            ("cifs", "//me/share"),
            ("fuse.sshfs", "root@localhost:/srv"),
            ("fuse.mergerfs", "/mnt/a:/mnt/b"),
            ("fuse", "/dev/fuse"),
            ("fuse.s3fs", "s3fs"),
        ] {
            let found = step(fstype, source, ROOTS);
            assert!(matches!(found, Below::Unknown(_)), "{source}: {found:?}");
        }
    }
}
