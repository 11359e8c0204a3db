//! Disks with filesystems that hold all that a tree can hold, and a listing of such a tree that
//! shows every difference.

use crate::support::host::{LoopDisk, Mount, format, noise, run};
use crate::support::model::ModelDisk;
use std::path::Path;
use std::process::Command;

/// Everything that stat(2), links, attributes and contents say, a line for each.
const LIST: &str = r#"
import hashlib, os, stat, sys
top = sys.argv[1]
def show(path):
    info = os.lstat(path)
    size = info.st_size if not stat.S_ISDIR(info.st_mode) else '-'
    name = os.fsencode(os.path.relpath(path, top))
    words = [name, oct(info.st_mode), info.st_uid, info.st_gid, size,
             info.st_mtime_ns, info.st_nlink, info.st_rdev]
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        words.append((name, os.getxattr(path, name, follow_symlinks=False)))
    if stat.S_ISLNK(info.st_mode):
        words.append(os.readlink(path))
    if stat.S_ISREG(info.st_mode):
        words.append(hashlib.sha256(open(path, 'rb').read()).hexdigest())
    print(*words)
show(top)
for folder, folders, files in os.walk(top):
    folders.sort()
    for name in sorted(folders + files):
        show(os.path.join(folder, name))
"#;

/// A tree with owners, modes, times, links, attributes, holes and a name that is no text.
const FILL: &str = r#"
import os, sys
top = sys.argv[1]
os.chdir(top)
os.makedirs('etc/deep/er')
open('etc/hostname', 'w').write('before')
open('etc/deep/er/one', 'wb').write(os.urandom(300000))
os.chmod('etc/deep/er/one', 0o4751)
os.chown('etc/deep/er/one', 1234, 4321)
with open('holes', 'wb') as file:
    file.seek(1 << 20)
    file.write(b'end')
os.symlink('../../somewhere', 'etc/link')
os.link('etc/hostname', 'etc/again')
os.mkfifo('pipe')
os.mknod('node', 0o20600, os.makedev(1, 3))
open(b'name\xff\n', 'w').write('bytes')
os.setxattr('etc/hostname', 'user.note', b'\x00\x01')
for number in range(300):
    open('etc/deep/file%d' % number, 'w').write('x' * number)
os.utime('holes', ns=(1, 1234567890123456789))
for folder in ('boot', 'srv', 'home'):
    os.mkdir(folder)
"#;

/// What is in a folder, as the calling thread sees it.
pub fn listing(top: &Path) -> String {
    python(LIST, top)
}

/// Fills a folder.
pub fn fill(top: &Path) {
    python(FILL, top);
}

fn python(script: &str, top: &Path) -> String {
    let mut command = Command::new("python3");
    let output = command.args(["-c", script]).arg(top).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A filesystem as bytes, and the listing of its tree.
pub struct Made {
    pub bytes: Vec<u8>,
    pub tree: String,
}

/// How a filesystem's bytes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Unmounted.
    Clean,
    /// Mounted, with what matters in the log alone.
    Dirty,
}

/// Makes a filesystem of so many MiB.
pub fn make(kind: &str, mib: u64, taken: Taken) -> Made {
    let disk = LoopDisk::within("/dev/shm", mib << 20, &[]);
    match kind {
        // Smaller ones than 300 MiB are for tests.
        "xfs" => drop(run("mkfs.xfs", &["-q", "--unsupported", &disk.device])),
        _ => format(kind, &disk.device),
    }
    let mount = Mount::somewhere(disk.path(), "rw");
    fill(&mount.place);
    if taken == Taken::Clean {
        let tree = listing(&mount.place);
        mount.end();
        let bytes = std::fs::read(&disk.file).unwrap();
        return Made { bytes, tree };
    }
    run("sync", &["-f", mount.path()]);
    // These are in the log when they are synced, and in their places some time later.
    let late = mount.place.join("late");
    std::fs::create_dir(&late).unwrap();
    for number in 0..20 {
        let path = late.join(format!("file{number}"));
        std::fs::write(&path, noise(5000, number)).unwrap();
        std::fs::File::open(&path).unwrap().sync_all().unwrap();
    }
    for folder in [&late, &mount.place] {
        std::fs::File::open(folder).unwrap().sync_all().unwrap();
    }
    let bytes = std::fs::read(&disk.file).unwrap();
    let tree = listing(&mount.place);
    Made { bytes, tree }
}

/// An ext4 whose folders lie between its files, all over it: a look at them has to read.
pub fn make_spread() -> Vec<u8> {
    let disk = LoopDisk::within("/dev/shm", 48 << 20, &[]);
    format("ext4", &disk.device);
    let mount = Mount::somewhere(disk.path(), "rw");
    for number in 0..30 {
        let folder = mount.place.join(format!("folder{number}"));
        std::fs::create_dir(&folder).unwrap();
        for entry in 0..60 {
            std::fs::write(folder.join(format!("{entry:0>200}")), "").unwrap();
        }
        let data = folder.join("data");
        std::fs::write(&data, noise(1 << 20, number)).unwrap();
        std::fs::File::open(&data).unwrap().sync_all().unwrap();
    }
    mount.end();
    std::fs::read(&disk.file).unwrap()
}

/// A disk with these contents.
pub fn disk_of(number: u32, bytes: &[u8]) -> ModelDisk {
    let disk = ModelDisk::new(number, bytes.len() as u64, 1);
    // What is zero is there already.
    for (at, part) in (0..).step_by(1 << 20).zip(bytes.chunks(1 << 20)) {
        if part.iter().any(|byte| *byte != 0) {
            disk.write(at, part);
        }
    }
    disk
}

/// Fails at the first lines that differ.
#[track_caller]
pub fn assert_same_tree(seen: &str, truth: &str) {
    let missing: Vec<&str> = truth
        .lines()
        .filter(|line| !seen.lines().any(|l| l == *line))
        .collect();
    let other: Vec<&str> = seen
        .lines()
        .filter(|line| !truth.lines().any(|l| l == *line))
        .collect();
    assert!(
        missing.is_empty() && other.is_empty(),
        "not seen: {:#?}\nseen instead: {:#?}",
        &missing[..missing.len().min(5)],
        &other[..other.len().min(5)]
    );
    assert!(seen.lines().count() > 300);
}
