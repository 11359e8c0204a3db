//! `mirror` of an encrypted vault by who has no key: what is missing is put as it is, checked by
//! its hashes. What a snapshot is made of cannot be known then, so manifests come last of all, and
//! none comes where anything else could not.

use super::outcome::{MirrorReport, SourceDamage, WrongObject};
use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::engine::session_record::session_record;
use crate::engine::verify::is_damage;
use crate::error::{ErrorKind, Result};
use crate::model::{Bytes, SnapshotId};
use crate::store::{MirrorWriter, ObjectName, SealedFolder, StoredObject, Vault};
use jiff::Timestamp;
use std::collections::BTreeMap;

type Names = BTreeMap<ObjectName, u64>;

/// Mirrors all of `source` to `target`, both opened without a key. `dry_run`: nothing is put.
/// `target` is `None` where nothing is there yet.
pub fn mirror_sealed(
    source: &Vault,
    target: Option<&Vault>,
    dry_run: bool,
    monitor: &dyn Monitor,
) -> Result<MirrorReport> {
    let writer = match (target, dry_run) {
        (Some(target), false) => {
            // It says nothing of this host: nothing here can be sealed.
            let mut record = session_record("mirror", "", Timestamp::now());
            (record.pid, record.boot_id) = (0, String::new());
            Some(MirrorWriter::begin(target, source, record)?)
        }
        _ => None,
    };
    monitor.tell(Event::Phase(RunPhase::ListingPlaces));
    let mut run = SealedRun {
        source,
        target,
        writer,
        monitor,
        report: MirrorReport::default(),
    };
    // First: whatever a snapshot refers to was there before it.
    let manifests = source.sealed_objects(SealedFolder::Manifests)?;
    run.report.snapshots = manifests.keys().filter_map(snapshot_of).count();
    for folder in SealedFolder::IN_ORDER {
        let here = match folder {
            SealedFolder::Manifests => manifests.clone(),
            other => source.sealed_objects(other)?,
        };
        run.folder(folder, here)?;
    }
    Ok(run.report)
}

fn snapshot_of(name: &ObjectName) -> Option<SnapshotId> {
    name.components().nth(2)?.parse().ok()
}

struct SealedRun<'a> {
    source: &'a Vault,
    target: Option<&'a Vault>,
    writer: Option<MirrorWriter<'a>>,
    monitor: &'a dyn Monitor,
    report: MirrorReport,
}

impl SealedRun<'_> {
    fn folder(&mut self, folder: SealedFolder, here: Names) -> Result<()> {
        let there = self.target.map(|target| target.sealed_objects(folder));
        let there = there.transpose()?.unwrap_or_default();
        let mut newest_first = here.into_iter().rev();
        newest_first.try_for_each(|(name, length)| {
            self.monitor.check()?;
            let known = there.get(&name).copied();
            self.object(folder, &name, length, known)
        })
    }

    /// Puts an object that has so many bytes here, and `known` there.
    fn object(
        &mut self,
        folder: SealedFolder,
        name: &ObjectName,
        length: u64,
        known: Option<u64>,
    ) -> Result<()> {
        let snapshot = match folder {
            SealedFolder::Manifests => snapshot_of(name),
            _ => None,
        };
        if known == Some(length) {
            self.report.there += usize::from(snapshot.is_some());
            return Ok(());
        }
        if let Some(snapshot) = snapshot
            && !self.report.warnings.is_empty()
        {
            let what = "without a key it is not known whether it needs what is damaged";
            self.report.damaged.push(SourceDamage {
                snapshot,
                what: what.into(),
                there: known.is_some(),
            });
            return Ok(());
        }
        if self.writer.is_none() {
            self.count(length, snapshot);
            return Ok(());
        }
        let object = match self.source.sealed_object(folder, name) {
            Ok(object) => object,
            // Deleted since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if is_damage(&error) => {
                let what = format!("damaged in the source: {error}");
                self.report.warnings.push(what);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.put(folder, &object, known.is_some())?;
        if let Some(known) = known {
            self.report.wrong.push(WrongObject {
                object: name.to_string(),
                what: format!("it had {known} B there, and {length} B in the source"),
                replaced: true,
            });
        }
        self.count(object.length(), snapshot);
        Ok(())
    }

    fn put(&self, folder: SealedFolder, object: &StoredObject, replaces: bool) -> Result<()> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        match (folder, replaces) {
            (SealedFolder::Manifests, _) => writer.put_manifest(object, replaces),
            (_, true) => writer.replace(object),
            (_, false) => writer.put(object),
        }
    }

    fn count(&mut self, length: u64, snapshot: Option<SnapshotId>) {
        self.report.objects += 1;
        self.report.bytes += Bytes(length);
        self.report.sent.extend(snapshot);
    }
}
