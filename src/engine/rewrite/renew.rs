//! Gives snapshots other names, under which their blocks have other places. The new one is there,
//! whole, and stands, before the old one goes. It must never delete a snapshot of which no other
//! name leads to the same chunks, nor bring back one that somebody has deleted.

use super::moves::{Moves, Unmoved};
use super::survey::OldPart;
use crate::engine::monitor::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, FooterCopiesRef, IndexRef, Manifest};
use crate::model::{ObjectId, RunMap, SnapshotId, block_count};
use crate::store::{Draft, KeepTerm, KeptBy, StoredSnapshot, Vault};
use std::collections::HashMap;

/// Most names that a manifest remembers.
const MOST_NAMES: usize = 16;
/// Most objects of copies of footers that a disk's record names.
const MOST_COPIES: usize = 512;

/// What has become of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    /// It has this name now.
    As(SnapshotId),
    /// Somebody has deleted it.
    Gone,
    /// It stays as it is; why.
    Left(String),
}

/// Who renews snapshots.
pub(super) struct Renewal<'a> {
    pub(super) vault: &'a Vault,
    pub(super) draft: &'a Draft,
    pub(super) moves: &'a Moves,
    pub(super) host: &'a str,
    /// What stands in the place of index objects.
    pub(super) parts: HashMap<ObjectId, Vec<IndexRef>>,
    /// Copies of the footers of the new segments.
    pub(super) copies: Vec<FooterCopiesRef>,
    pub(super) monitor: &'a dyn Monitor,
}

impl Renewal<'_> {
    /// Puts index objects with the new places. What no snapshot shows of the old ones is left out.
    pub(super) fn put_parts(&mut self, old: &[OldPart]) -> Result<()> {
        for OldPart { part, blocks } in old {
            self.monitor.check()?;
            let mut read = None;
            self.vault
                .read_index_parts(&[(part.id, *blocks)], self.monitor, &mut |_, map| {
                    read = Some(map?);
                    Ok(())
                })?;
            let map = read.unwrap_or_default();
            if self.moves.concern(&map) {
                let map = self.moves.applied(&map, Unmoved::LeftOut)?;
                let new = self.draft.put_index(&map, *blocks, part.base)?;
                self.parts.insert(part.id, new);
            }
        }
        Ok(())
    }

    /// Gives a snapshot another name.
    pub(super) fn renew(&self, old: &StoredSnapshot) -> Result<Renewed> {
        let id = old.snapshot.id;
        let mut manifest = match self.vault.known_manifest(&old.snapshot) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(Renewed::Left("it says more than is known here".into())),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Renewed::Gone),
            Err(error) => return Err(error),
        };
        if !self.lead_to_new_places(&mut manifest)? {
            return Ok(Renewed::Left("it needs nothing of what was moved".into()));
        }
        if self.is_condemned(&manifest)? {
            return Ok(Renewed::Left("a plan names something that it needs".into()));
        }
        manifest.received = Some(manifest.first_received(old.received));
        manifest.keep_seconds = None;
        manifest.rewrites.push(id);
        let many = manifest.rewrites.len().saturating_sub(MOST_NAMES);
        manifest.rewrites.drain(..many);
        manifest.snapshot = id.successor();
        self.draft.commit_one(&mut manifest)?;
        self.let_go(old, &manifest)
    }

    /// Deletes the old name, now that the new one stands; or the new one, where the old one must
    /// stay, or is gone: no name is ever put again, so one that is there has been there all along,
    /// and nothing that it leads to was garbage.
    fn let_go(&self, old: &StoredSnapshot, manifest: &Manifest) -> Result<Renewed> {
        let new = self.vault.named_on(&manifest.host, manifest.snapshot);
        let undo = |instead: Renewed| self.vault.delete(&new).map(|()| instead);
        if self.vault.kept_by(old.snapshot.id, self.monitor)? != KeptBy::default() {
            return undo(Renewed::Left("somebody keeps it".into()));
        }
        if !self.vault.has_snapshot(&old.snapshot)? {
            return undo(Renewed::Gone);
        }
        self.vault.delete(&old.snapshot).map_err(|error| {
            error
                .and_said(format!(
                    "it is there twice now, as {} and as {}: delete either",
                    old.snapshot.id, new.id
                ))
                .with_hint(
                    "--rewrite takes the right to delete in `snapshots/`; gc without it does not",
                )
        })?;
        // Who has kept it in between was told that it is kept.
        let kept = self.vault.kept_by(old.snapshot.id, self.monitor)?;
        let until = kept.until.map(KeepTerm::Until);
        let holds = kept.holds.into_iter().map(KeepTerm::Hold);
        for term in until.into_iter().chain(holds) {
            self.vault.put_keep(&new, term, self.host)?;
        }
        Ok(Renewed::As(new.id))
    }

    /// Changes the lists of index objects; whether there was anything to change.
    ///
    /// # Errors
    /// Some block would not be where its chunk is: nothing was put.
    fn lead_to_new_places(&self, manifest: &mut Manifest) -> Result<bool> {
        let mut any = false;
        for disk in &mut manifest.disks {
            let changed = |part: &IndexRef| self.parts.contains_key(&part.id);
            if !disk.index.iter().any(changed) {
                continue;
            }
            any = true;
            let blocks = block_count(disk.identity.size);
            let of = |part: &IndexRef| self.parts.get(&part.id).cloned().unwrap_or(vec![*part]);
            let index: Vec<IndexRef> = disk.index.iter().flat_map(of).collect();
            let before = self.vault.read_index(&disk.index, blocks, self.monitor)?;
            let after = self.vault.read_index(&index, blocks, self.monitor)?;
            if self.moves.applied(&before, Unmoved::Error)? != after {
                let what = format!(
                    "snapshot {}: the map of {} would not lead to the same chunks",
                    manifest.snapshot, disk.identity.name
                );
                return Err(Error::new(ErrorKind::Failed, what)
                    .with_hint("every snapshot that is there is as it was"));
            }
            disk.index = index;
            disk.footers.extend(&self.copies);
            let many = disk.footers.len().saturating_sub(MOST_COPIES);
            disk.footers.drain(..many);
        }
        Ok(any)
    }

    /// Whether a collector's plan names anything that it would refer to.
    fn is_condemned(&self, manifest: &Manifest) -> Result<bool> {
        if !self.vault.heeds_any() {
            return Ok(false);
        }
        for disk in &manifest.disks {
            let map: RunMap = self.vault.read_index(
                &disk.index,
                block_count(disk.identity.size),
                self.monitor,
            )?;
            let segments = map.iter().filter_map(|run| run.segment());
            let mut all = segments
                .map(Condemned::Segment)
                .chain(disk.index.iter().map(|part| Condemned::Index(part.id)));
            if all.any(|object| self.vault.is_condemned(object)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
