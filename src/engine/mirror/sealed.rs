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
use crate::store::{ManifestPut, MirrorWriter, ObjectName, SealedFolder, StoredObject, Vault};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

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
    // Nothing ever comes there that nobody could open.
    let warnings = match (target, &writer) {
        (Some(target), Some(_)) => [target.bring_keys(source)?, target.no_locks_there()?].concat(),
        _ => Vec::new(),
    };
    monitor.tell(Event::Phase(RunPhase::ListingPlaces));
    let mut run = SealedRun {
        source,
        target,
        writer,
        monitor,
        report: MirrorReport {
            warnings,
            ..MirrorReport::default()
        },
        lacks: false,
        names: BTreeMap::new(),
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

/// How an object stands in the second place, with how many bytes.
enum StandsThere {
    Missing,
    Whole(u64),
    Wrong(u64),
}

struct SealedRun<'a> {
    source: &'a Vault,
    target: Option<&'a Vault>,
    writer: Option<MirrorWriter<'a>>,
    monitor: &'a dyn Monitor,
    report: MirrorReport,
    /// Whether something is damaged that a manifest may refer to.
    lacks: bool,
    /// The names of snapshots in the second place, by what those of one snapshot have in common.
    names: BTreeMap<SnapshotId, BTreeSet<ObjectName>>,
}

impl SealedRun<'_> {
    fn folder(&mut self, folder: SealedFolder, here: Names) -> Result<()> {
        let there = self.target.map(|target| target.sealed_objects(folder));
        let there = there.transpose()?.unwrap_or_default();
        if folder == SealedFolder::Manifests {
            for name in there.keys() {
                if let Some(id) = snapshot_of(name) {
                    let names = self.names.entry(id.common_part()).or_default();
                    names.insert(name.clone());
                }
            }
        }
        let mut gone = Vec::new();
        for (name, length) in here.into_iter().rev() {
            self.monitor.check()?;
            let known = there.get(&name).copied();
            if !self.object(folder, &name, length, known)? {
                gone.push(name);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        // Deleted since they were listed, or so said a store that lists them still.
        let now = self.source.sealed_objects(folder)?;
        for name in gone {
            if let Some(length) = now.get(&name)
                && !self.object(folder, &name, *length, there.get(&name).copied())?
            {
                self.is_damaged(
                    folder,
                    format!("{name} is listed in the source, and not there"),
                );
            }
        }
        Ok(())
    }

    fn is_damaged(&mut self, folder: SealedFolder, what: String) {
        self.report.warnings.push(what);
        self.lacks |= folder != SealedFolder::Manifests;
    }

    /// Puts an object that has so many bytes here, and `known` there. False: it is not here.
    fn object(
        &mut self,
        folder: SealedFolder,
        name: &ObjectName,
        length: u64,
        known: Option<u64>,
    ) -> Result<bool> {
        let snapshot = match folder {
            SealedFolder::Manifests => snapshot_of(name),
            _ => None,
        };
        if known == Some(length) {
            self.report.there += usize::from(snapshot.is_some());
            return Ok(true);
        }
        if let Some(snapshot) = snapshot
            && self.lacks
        {
            let what = "without a key it is not known whether it needs what is damaged";
            self.report.damaged.push(SourceDamage {
                snapshot,
                what: what.into(),
                there: known.is_some(),
            });
            return Ok(true);
        }
        if self.writer.is_none() {
            self.count(length, snapshot);
            return Ok(true);
        }
        let known = match known {
            Some(known) => self.look_there(folder, name, known)?,
            None => StandsThere::Missing,
        };
        let object = match (self.source.sealed_object(folder, name), &known) {
            (Ok(object), _) => object,
            (Err(error), _) if error.kind() == ErrorKind::NotFound => return Ok(false),
            (Err(error), StandsThere::Whole(_)) if is_damage(&error) => {
                let what = format!("damaged in the source, and whole in the second place: {error}");
                self.report.warnings.push(what);
                self.report.there += usize::from(snapshot.is_some());
                return Ok(true);
            }
            (Err(error), _) if is_damage(&error) => {
                self.is_damaged(folder, format!("damaged in the source: {error}"));
                return Ok(true);
            }
            (Err(error), _) => return Err(error),
        };
        match known {
            StandsThere::Whole(known) => {
                self.report.there += usize::from(snapshot.is_some());
                let what = format!("{known} B there, {length} B in the source: both are whole");
                self.wrong(name, what, false);
                return Ok(true);
            }
            StandsThere::Wrong(known) => {
                self.put(folder, &object, true)?;
                let what = format!("it had {known} B there, and {length} B in the source");
                self.wrong(name, what, true);
            }
            StandsThere::Missing => self.put(folder, &object, false)?,
        }
        self.count(object.length(), snapshot);
        Ok(true)
    }

    /// What stands there under a name, with another length than here.
    fn look_there(
        &self,
        folder: SealedFolder,
        name: &ObjectName,
        length: u64,
    ) -> Result<StandsThere> {
        let Some(target) = self.target else {
            return Ok(StandsThere::Missing);
        };
        match target.sealed_object(folder, name) {
            Ok(_) => Ok(StandsThere::Whole(length)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(StandsThere::Missing),
            Err(error) if is_damage(&error) => Ok(StandsThere::Wrong(length)),
            Err(error) => Err(error),
        }
    }

    fn wrong(&mut self, name: &ObjectName, what: String, replaced: bool) {
        self.report.wrong.push(WrongObject {
            object: name.to_string(),
            what,
            replaced,
        });
    }

    fn put(&self, folder: SealedFolder, object: &StoredObject, replaces: bool) -> Result<()> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        match (folder, replaces) {
            (SealedFolder::Manifests, _) => {
                let is_like_another = self.is_like_another(object.name());
                let how = ManifestPut {
                    replaces,
                    is_like_another,
                };
                writer.put_manifest(object, how)
            }
            (_, true) => writer.replace(object),
            (_, false) => writer.put(object),
        }
    }

    /// Whether a name there may be another one of the same snapshot: no manifest can be asked.
    fn is_like_another(&self, name: &ObjectName) -> bool {
        let common = snapshot_of(name).map(SnapshotId::common_part);
        let names = common.and_then(|common| self.names.get(&common));
        names.is_some_and(|names| names.len() > usize::from(names.contains(name)))
    }

    fn count(&mut self, length: u64, snapshot: Option<SnapshotId>) {
        self.report.objects += 1;
        self.report.bytes += Bytes(length);
        self.report.sent.extend(snapshot);
    }
}
