//! What keeps a snapshot from being deleted now. It must never call a snapshot free of which it
//! could not read everything.

use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::model::{Cancel, SnapshotId};
use crate::store::{KeptBy, SnapshotRef, Vault};
use jiff::Timestamp;

/// What keeps a snapshot at that time; `None`: nothing does. A manifest that cannot be read says
/// nothing: nobody but the user deletes such a snapshot, by its name.
pub fn kept_now(
    vault: &Vault,
    snapshot: &SnapshotRef,
    now: Timestamp,
    cancel: &dyn Cancel,
) -> Result<Option<KeptBy>> {
    let manifest = match vault.manifest(snapshot) {
        Ok(manifest) => Some(manifest),
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => None,
        Err(error) => return Err(error),
    };
    let said = manifest.map(|manifest| said_by(vault, snapshot, &manifest, cancel));
    let mut kept = said.transpose()?.unwrap_or_default();
    kept.add(vault.kept_by(snapshot.id, cancel)?);
    Ok(kept.at(now))
}

/// The same of one whose manifest was read.
pub fn kept_with(
    vault: &Vault,
    snapshot: &SnapshotRef,
    manifest: &Manifest,
    cancel: &dyn Cancel,
) -> Result<Option<KeptBy>> {
    let mut kept = said_by(vault, snapshot, manifest, cancel)?;
    kept.add(vault.kept_by(snapshot.id, cancel)?);
    Ok(kept.at(Timestamp::now()))
}

/// What its manifest says, and what keeps it by names that it has borne. The store is asked for its
/// own time where that counts.
fn said_by(
    vault: &Vault,
    snapshot: &SnapshotRef,
    manifest: &Manifest,
    cancel: &dyn Cancel,
) -> Result<KeptBy> {
    let mut kept = KeptBy::default();
    for name in manifest.borne() {
        kept.add(vault.kept_by(name, cancel)?);
    }
    if manifest.keep_seconds.is_some() {
        let all = vault.stored_snapshots(Some(&manifest.host))?;
        let one = all.into_iter().find(|one| one.snapshot == *snapshot);
        kept.add(KeptBy::manifest(manifest, one.map(|one| one.received)));
    }
    Ok(kept)
}

/// Refuses to delete what is kept at that time.
pub fn refuse_kept(
    vault: &Vault,
    snapshot: &SnapshotRef,
    now: Timestamp,
    cancel: &dyn Cancel,
) -> Result<()> {
    let id = snapshot.id;
    let Some(kept) = kept_now(vault, snapshot, now, cancel)? else {
        return match vault.locked_until(snapshot, now)? {
            None => Ok(()),
            Some(until) => Err(locked(id, until)),
        };
    };
    let error = Error::new(ErrorKind::Busy, format!("snapshot {id} is kept {kept}"));
    let hint = match (kept.holds.first(), kept.unreadable.is_empty()) {
        (Some(hold), _) => format!("when nobody needs it: stillpoint keep {id} --release {hold:?}"),
        (None, false) => {
            format!("what cannot be read may say anything: see keeps/{id} in the vault")
        }
        (None, true) => "it can be deleted after that time".into(),
    };
    Err(error.with_hint(hint))
}

/// A bucket keeps a snapshot, whoever asks: a delete would hide it, and free nothing.
fn locked(snapshot: SnapshotId, until: Timestamp) -> Error {
    let what = format!("snapshot {snapshot} is locked in its bucket until {until:.0}");
    Error::new(ErrorKind::Busy, what).with_hint("it can be deleted after that time")
}
