//! What is made once and kept outside the tree: the root file system, system disks, saved states.
//! Each is named by a hash of its recipe, so that a changed recipe never meets an old product.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Which kernel a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian 12's own
    V6_1,
    /// Debian 13's, from Debian 12's backports
    V6_12,
    /// Debian's newest, from Debian 13's backports
    V7,
}

impl Kernel {
    /// All of them, in the order in which they are run.
    pub const ALL: [Self; 3] = [Self::V6_12, Self::V6_1, Self::V7];

    /// Its version's start.
    pub fn version(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
        }
    }
}

/// Where the root filesystem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In a partition
    Plain,
    /// In a logical volume, with `/boot` in a partition
    Lvm,
}

impl Layout {
    /// As recipes name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Lvm => "lvm",
        }
    }
}

const ROOT_RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/images/root.sh");
const DISK_RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/images/disk.sh");

/// The folder of all that is kept.
pub fn folder() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let folder = base
        .or_else(home)
        .context("neither XDG_CACHE_HOME nor HOME")?;
    let folder = folder.join("stillpoint-vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// A short name for what a recipe makes.
pub fn key(parts: &[&str]) -> String {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.finalize().to_hex().as_str()[..16].to_owned()
}

/// Runs a recipe unless what it makes is there; a half-made one never gets the name.
pub fn made(path: &Path, what: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let begun = Instant::now();
    eprintln!("making {what}: {}", path.display());
    make().with_context(|| format!("make {what}"))?;
    ensure!(path.exists(), "the recipe of {what} made nothing");
    eprintln!("made {what} in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn run(recipe: &str, arguments: &[&Path]) -> Result<()> {
    let output = Command::new("nice")
        .args(["-n", "5", "bash", recipe])
        .args(arguments)
        .output()
        .with_context(|| format!("run {recipe}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().take(20).collect::<Vec<_>>();
    ensure!(
        output.status.success(),
        "{recipe} failed: {}",
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    Ok(())
}

/// The system disk with this kernel: its file, and the key of its recipe.
pub fn system_disk(kernel: Kernel, layout: Layout) -> Result<(PathBuf, String)> {
    let (root, disk) = (
        fs::read_to_string(ROOT_RECIPE)?,
        fs::read_to_string(DISK_RECIPE)?,
    );
    let folder = folder()?;
    let tar = folder.join(format!("root-{}.tar", key(&[&root])));
    made(&tar, "the guests' root file system", || {
        run(ROOT_RECIPE, &[&tar])
    })?;
    let (version, layout) = (kernel.version(), layout.name());
    let name = key(&[&root, &disk, version, layout]);
    let image = folder.join(format!("system-{version}-{layout}-{name}.raw"));
    made(
        &image,
        &format!("a system disk with Linux {version}"),
        || {
            run(
                DISK_RECIPE,
                &[&tar, Path::new(version), Path::new(layout), &image],
            )
        },
    )?;
    Ok((image, name))
}
