//! Gives snapshots other names, under which their blocks have other places. The new one is there,
//! whole, and stands, before the old one goes. It must never delete a snapshot of which no other
//! name leads to the same chunks, nor one that it has made.

use super::moves::{Moves, Unmoved};
use super::survey::OldPart;
use crate::engine::monitor::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, FooterCopiesRef, IndexRef, Manifest};
use crate::model::{ObjectId, RunMap, SnapshotId, block_count};
use crate::store::{Draft, KeepTerm, KeptBy, SnapshotRef, StoredSnapshot, Vault};
use std::collections::HashMap;

/// Most objects of copies of footers that a disk's record names.
const MOST_COPIES: usize = 512;

/// What has become of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    /// It has this name now.
    As(SnapshotId),
    /// Somebody has deleted it.
    Gone,
    /// Somebody has deleted its old name since it has this one, too.
    LeftBehind(SnapshotId),
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
        match self.lead_to_new_places(&mut manifest) {
            Ok(true) => {}
            Ok(false) => return Ok(Renewed::Left("it needs nothing of what was moved".into())),
            // Nothing was put for it: what is wrong with this one keeps no other from its name.
            Err(error) if is_of_one(&error) => return Ok(Renewed::Left(error.to_string())),
            Err(error) => return Err(error),
        }
        if self.is_condemned(&manifest)? {
            return Ok(Renewed::Left("a plan names something that it needs".into()));
        }
        // Both once more, right before anything is put.
        if self.is_kept(&manifest)? {
            return Ok(Renewed::Left("somebody keeps it".into()));
        }
        if !self.vault.has_snapshot(&old.snapshot)? {
            return Ok(Renewed::Gone);
        }
        manifest.received = Some(manifest.first_received(old.received));
        manifest.keep_seconds = None;
        manifest.rename(id.successor());
        // What no reader would believe is found here, before anything is put.
        if let Err(error) = manifest.encode(self.vault.sealer()) {
            return Ok(Renewed::Left(error.to_string()));
        }
        self.draft.commit_one(&mut manifest)?;
        self.let_go(old, &manifest)
    }

    /// Whether anybody keeps it under any of its names.
    fn is_kept(&self, manifest: &Manifest) -> Result<bool> {
        for name in [manifest.snapshot].into_iter().chain(manifest.borne()) {
            if self.vault.kept_by(name, self.monitor)? != KeptBy::default() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes the old name, now that the new one stands. The new one is never deleted again, also
    /// where the old one has gone: who took that may have seen both, and kept the new one.
    fn let_go(&self, old: &StoredSnapshot, manifest: &Manifest) -> Result<Renewed> {
        let new = self.vault.named_on(&manifest.host, manifest.snapshot);
        let (was, id) = (old.snapshot.id, new.id);
        let twice = |error: Error| {
            error.and_said(format!(
                "it may be there twice now, as {was} and as {id}: both are whole, and one may be \
                 deleted"
            ))
        };
        // Who keeps it under the old name was told that it is kept.
        let kept = self.vault.kept_by(was, self.monitor).map_err(twice)?;
        self.hand_over(&kept, &new).map_err(twice)?;
        // The machine may have stood still: last of all, that it is there still.
        self.draft.ask_session().map_err(twice)?;
        if !self.vault.has_snapshot(&new).map_err(twice)? {
            let what = format!("somebody has deleted {id}, its new name, meanwhile");
            return Ok(Renewed::Left(what));
        }
        if !self.vault.has_snapshot(&old.snapshot).map_err(twice)? {
            return Ok(Renewed::LeftBehind(id));
        }
        self.vault.delete(&old.snapshot).map_err(|error| {
            twice(error).with_hint(
                "--rewrite takes the right to delete in `snapshots/`; gc without it does not",
            )
        })?;
        let since = self.vault.kept_by(was, self.monitor)?;
        if since != kept {
            self.hand_over(&since, &new)?;
        }
        Ok(Renewed::As(id))
    }

    /// Puts for the new name what keeps the old one. What cannot be read counts by the old name.
    fn hand_over(&self, kept: &KeptBy, new: &SnapshotRef) -> Result<()> {
        let until = kept.until.map(KeepTerm::Until);
        let holds = kept.holds.iter().cloned().map(KeepTerm::Hold);
        for term in until.into_iter().chain(holds) {
            self.vault.put_keep(new, term, self.host)?;
        }
        Ok(())
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

/// Whether it is one snapshot that cannot be had or written, and not the vault.
fn is_of_one(error: &Error) -> bool {
    use ErrorKind::{Damaged, Failed, Format, NotFound};
    matches!(error.kind(), Damaged | Failed | Format | NotFound)
}
