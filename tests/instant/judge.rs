//! Tells from a copy of the writers' disks whether it is of one instant. It must never write to the
//! copy before it has read it.

use super::writers::{Chain, KEPT, RECORD, Record, churned};
use crate::support::host::{LoopDisk, Mount, attempt, run};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How many of its writes are there, or why it cannot be the first so many.
pub fn prefix(chain: &Chain, mounts: &[PathBuf]) -> Result<u64, String> {
    let mut found: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for disk in chain.disks.iter().map(|disk| *disk as u32) {
        let path = mounts[disk as usize].join(&chain.name);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for (n, unit) in (0..).zip(bytes.chunks(RECORD)) {
            let offset = n * RECORD as u64;
            let here = |why: String| format!("{} at {offset}: {why}", path.display());
            let Some(record) = Record::decode(unit).map_err(here)? else {
                continue;
            };
            if record != chain.record(record.sequence)
                || (record.disk, record.offset) != (disk, offset)
            {
                return Err(here(format!("a record of another place: {record:?}")));
            }
            found.insert((disk, offset), record.sequence);
        }
    }
    let count = found.values().max().map_or(0, |last| last + 1);
    let mut expected = BTreeMap::new();
    for sequence in 0..count {
        let record = chain.record(sequence);
        expected.insert((record.disk, record.offset), sequence);
    }
    for (place, sequence) in expected {
        if found.get(&place) != Some(&sequence) {
            return Err(format!(
                "write {sequence} of {} is missing at {place:?} (there is {:?}), but write {} is \
                 there",
                chain.name,
                found.get(&place),
                count - 1
            ));
        }
    }
    Ok(count)
}

/// Whether the files of the churn are those of one moment; how many there have been.
pub fn churn(folder: &Path) -> Result<u64, String> {
    let mut done = BTreeSet::new();
    let mut open = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        let name = name.to_string_lossy().into_owned();
        let (sort, number) = name.split_once('-').ok_or("a file of nobody")?;
        let number: u64 = number.parse().map_err(|_| "a file of nobody")?;
        match sort {
            "done" => done.insert(number),
            "open" => open.insert(number),
            _ => false,
        };
    }
    let next = done.last().map_or(0, |last| last + 1);
    let first = done.first().copied().unwrap_or(0);
    let kept = if next > KEPT { KEPT } else { next };
    let right =
        (kept..=kept + 1).contains(&(done.len() as u64)) && next - first == done.len() as u64;
    if !right || open.iter().any(|open| *open != next) {
        return Err(format!("files of no one moment: {done:?}, open {open:?}"));
    }
    for number in done {
        let path = folder.join(format!("done-{number}"));
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if bytes != churned(number) {
            return Err(format!("{} is not what was written", path.display()));
        }
    }
    Ok(next)
}

/// Mounts a copy so that nothing is repaired or replayed. The mount goes away first.
pub fn mount(fstype: &str, image: &Path, place: &Path) -> (Mount, LoopDisk) {
    let options = match fstype {
        "ext4" => "ro,noload",
        "xfs" => "ro,norecovery,nouuid",
        _ => "ro,rescue=nologreplay",
    };
    if fstype == "btrfs" {
        // Or the kernel takes it for the live one. Its blocks stay as they are.
        run("btrfstune", &["-f", "-m", image.to_str().unwrap()]);
    }
    let attached = LoopDisk::of_file(image, &[]);
    (Mount::new(&attached.device, place, options), attached)
}

/// Whether the filesystem's own checker finds it clean.
pub fn clean(fstype: &str, image: &Path, place: &Path) -> Result<(), String> {
    let path = image.to_str().unwrap();
    let check: (&str, &[&str]) = match fstype {
        "ext4" => ("e2fsck", &["-fn", path]),
        "xfs" => {
            // A frozen xfs leaves a record in its log on purpose, which a mount takes out.
            let attached = LoopDisk::of_file(image, &[]);
            Mount::new(&attached.device, place, "nouuid").end();
            ("xfs_repair", &["-n", path])
        }
        _ => ("btrfs", &["check", "--readonly", "--force", path]),
    };
    let mut output = attempt(check.0, check.1);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if fstype == "ext4"
        && ["Orphan file", "has zero dtime"]
            .iter()
            .any(|one| said.contains(one))
    {
        // A file that was deleted, and not gone yet when the freeze came: a mount takes it away, as
        // it would after any freeze. Nothing else is mended by that: the log is empty.
        let attached = LoopDisk::of_file(image, &[]);
        Mount::new(&attached.device, place, "noatime").end();
        output = attempt(check.0, check.1);
    }
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{} {path}: {}{}",
        check.0,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
