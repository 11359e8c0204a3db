//! Hosts recorded as text, unfolded into a folder: see `tests/fixtures/sysfs/README.md`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use stillpoint::device::{Host, Mounts, NoTables, Topology};
use tempfile::TempDir;

/// A recorded host. Its folder goes away with it.
pub struct Recorded {
    pub host: Host,
    _folder: TempDir,
}

impl Recorded {
    /// Unfolds `tests/fixtures/sysfs/<case>/tree.txt`.
    pub fn open(case: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/sysfs")
            .join(case)
            .join("tree.txt");
        let text = fs::read_to_string(&file).unwrap();
        let folder = TempDir::new().unwrap();
        unfold(&text, folder.path());
        Self {
            host: Host::at(folder.path()),
            _folder: folder,
        }
    }

    pub fn topology(&self) -> Topology {
        Topology::scan(&self.host, &NoTables).unwrap()
    }

    pub fn mounts(&self, topology: &Topology) -> Mounts {
        Mounts::read(&self.host, topology).unwrap()
    }
}

fn unfold(text: &str, root: &Path) {
    let mut folder = root.to_path_buf();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
        } else if let Some(name) = line.strip_prefix('[') {
            folder = root.join(name.strip_suffix(']').unwrap());
        } else if let Some(name) = line.strip_suffix(" <<") {
            let content: Vec<&str> = lines.by_ref().take_while(|line| *line != ">>").collect();
            fs::write(place(&folder, name), content.join("\n") + "\n").unwrap();
        } else if let Some((name, content)) = line.split_once(" =") {
            let content = content.strip_prefix(' ').unwrap_or(content);
            fs::write(place(&folder, name), unescape(content)).unwrap();
        } else if let Some((name, target)) = line.split_once(" -> ") {
            symlink(target, place(&folder, name)).unwrap();
        } else if let Some(name) = line.strip_suffix('/') {
            fs::create_dir_all(folder.join(name)).unwrap();
        } else {
            panic!("a line that means nothing: {line:?}");
        }
    }
}

fn place(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

fn unescape(content: &str) -> Vec<u8> {
    let mut parts = content.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    bytes.push(b'\n');
    bytes
}
