//! `diff`: which places differ between two snapshots of one disk.

use super::monitor::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::export::Image;
use crate::format::DiskRecord;
use crate::model::{BLOCK_SIZE, Bytes, Content, Extent, Run, RunMap, block_count};
use crate::restore::{TablePartition, partitions};
use crate::store::Vault;
use std::sync::Arc;

/// The places that differ, ascending, neighbours joined. Blocks that stand in one place are the
/// same; others are compared by their hashes. Free space counts as zeros.
pub fn diff(
    vault: &Vault,
    one: &DiskRecord,
    two: &DiskRecord,
    monitor: &dyn Monitor,
) -> Result<Vec<Extent>> {
    if one.identity.key() != two.identity.key() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} of the one and {} of the other are not the same disk",
                one.identity.name, two.identity.name
            ),
        )
        .with_hint("compare snapshots of one disk; name it with --disk"));
    }
    let blocks_of = |disk: &DiskRecord| block_count(disk.identity.size);
    let map_of = |disk: &DiskRecord| vault.read_index(&disk.index, blocks_of(disk), monitor);
    let (old, new) = (map_of(one)?, map_of(two)?);
    vault.know_footers(&one.footers, &old);
    vault.know_footers(&two.footers, &new);
    let size = Bytes(one.identity.size.0.max(two.identity.size.0));
    let mut found: Vec<Extent> = Vec::new();
    let mut add = |place: Extent| match found.last_mut() {
        Some(last) if last.end() == place.offset => last.length += place.length,
        _ => found.push(place),
    };
    for run in new.iter() {
        let mut at = run.start.0;
        for other in old.iter_range(run.blocks()) {
            monitor.check()?;
            let here = part(&new, other);
            let mut differ = differing(vault, here, other)?.into_iter().peekable();
            for block in differ.by_ref() {
                add(Extent::of_blocks(block..block + 1, size));
            }
            at = other.end();
        }
        if at < run.end() {
            // The disk has grown.
            add(Extent::of_blocks(at..run.end(), size));
        }
    }
    let (shorter, longer) = (blocks_of(two), blocks_of(one));
    if shorter < longer {
        add(Extent::of_blocks(shorter..longer, size));
    }
    Ok(found)
}

/// The partitions of a disk, by the table that the snapshot holds.
pub fn partitions_of(
    vault: &Arc<Vault>,
    disk: &DiskRecord,
    monitor: &dyn Monitor,
) -> Result<Vec<TablePartition>> {
    let image = Image::open(vault, disk, monitor)?;
    let mut head = vec![0; image.size().0.min(BLOCK_SIZE) as usize];
    image.read_at(Bytes(0), &mut head)?;
    Ok(partitions(&head, disk.identity.logical_block))
}

fn part(map: &RunMap, like: Run) -> Run {
    map.iter_range(like.blocks()).next().unwrap_or(like)
}

/// The blocks of two runs of the same place that differ.
fn differing(vault: &Vault, new: Run, old: Run) -> Result<Vec<u64>> {
    if new.content == old.content {
        return Ok(Vec::new());
    }
    let hash = |content: Content, at: u64| match content {
        Content::Zero | Content::Free => Ok(None),
        Content::Data { segment, slot } => vault
            .chunk(segment, slot + at as u32)
            .map(|chunk| Some(chunk.hash)),
    };
    let mut blocks = Vec::new();
    if matches!(new.content, Content::Zero | Content::Free)
        && matches!(old.content, Content::Zero | Content::Free)
    {
        return Ok(blocks);
    }
    for at in 0..new.count {
        if hash(new.content, at)? != hash(old.content, at)? {
            blocks.push(new.start.0 + at);
        }
    }
    Ok(blocks)
}
