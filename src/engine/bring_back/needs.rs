//! What the snapshots of a time needed, from their manifests and index objects as these stood then.
//! Nothing that was put later is asked.

use super::outcome::BringBackReport;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::reach::{CopiesName, ReachListener, Reachable};
use crate::engine::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FooterCopiesRef;
use crate::model::{ObjectId, SnapshotId, clip};
use crate::store::{ObjectName, PastVault, PutBefore, SnapshotRef, Stood};
use std::collections::HashSet;

/// So many failures of the way to the store are no object's fault.
const MOST_FAILURES: usize = 8;

/// What is to stand again.
pub(super) struct PastNeeds {
    /// Ascending.
    pub(super) segments: Vec<ObjectId>,
    pub(super) indexes: HashSet<ObjectId>,
    pub(super) copies: HashSet<ObjectName>,
}

impl PastNeeds {
    /// Reads it; what cannot be read is told in the report.
    pub(super) fn read(
        past: &PastVault,
        monitor: &dyn Monitor,
        report: &mut BringBackReport,
    ) -> Result<Self> {
        monitor.tell(Event::Phase(RunPhase::ListingVault));
        let mut stood: Vec<SnapshotRef> = Vec::new();
        let mut doubts = Doubts::default();
        past.info_stood()?.iter().for_each(|one| doubts.note(one));
        past.each_stood(&ObjectName::snapshots(), &mut |one| {
            monitor.check()?;
            let Some(snapshot) = past.snapshot_named(&one.name) else {
                return Ok(());
            };
            match (&one.then, &one.now) {
                (Some(_), _) => {
                    doubts.note(&one);
                    past.learn(&one);
                    stood.push(snapshot);
                }
                (None, Some(_)) => report.is_since(snapshot.id),
                (None, None) => report.hidden_since += usize::from(one.is_later),
            }
            Ok(())
        })?;
        report.stood = stood.len();
        report.warnings.extend(doubts.told());
        let mut listener = WhatIsUnknown {
            past,
            monitor,
            report,
            failures: 0,
        };
        let wait = |long| {
            std::thread::sleep(long);
            monitor.check()
        };
        let found = Reachable::read_telling(&past.then, stood, monitor, &wait, &mut listener)?;
        for gone in found.gone() {
            let what = "its manifest of then is not there any more";
            report.is_unknown(gone.id, Error::new(ErrorKind::NotFound, what));
        }
        let mut segments: Vec<ObjectId> = found.segments().collect();
        segments.sort_unstable();
        Ok(Self {
            segments,
            indexes: found.indexes().collect(),
            copies: found.copies().map(copies_named).collect(),
        })
    }
}

/// What stood then and need not be true, as other bytes had been put under its name before.
#[derive(Default)]
struct Doubts {
    count: usize,
    first: Option<Stood>,
}

impl Doubts {
    fn note(&mut self, stood: &Stood) {
        if stood.then.is_some() && stood.before == PutBefore::Several {
            self.count += 1;
            self.first.get_or_insert_with(|| stood.clone());
        }
    }

    fn told(self) -> Option<String> {
        let first = self.first?;
        let version = first.then.as_ref().map_or("", |then| then.id.as_str());
        Some(format!(
            "of {} other bytes, too, had been put before then, which nobody does but `repair` and \
             `recover`: the first is {}, version {}; if it was neither, somebody was there before \
             that time: look at an earlier one",
            counted(self.count),
            first.name,
            clip(version, 128)
        ))
    }
}

fn counted(count: usize) -> String {
    match count {
        1 => "1 manifest or vault.json".into(),
        _ => format!("{count} manifests or vault.json"),
    }
}

fn copies_named(copies: CopiesName) -> ObjectName {
    let CopiesName { run, part } = copies;
    ObjectName::footers(FooterCopiesRef {
        run,
        part,
        bytes: 0,
    })
}

struct WhatIsUnknown<'a> {
    past: &'a PastVault,
    monitor: &'a dyn Monitor,
    report: &'a mut BringBackReport,
    failures: usize,
}

impl ReachListener for WhatIsUnknown<'_> {
    fn unreadable(&mut self, snapshot: SnapshotId, error: Error) -> Result<()> {
        self.failures += usize::from(error.kind() == ErrorKind::Io);
        if matches!(error.kind(), ErrorKind::Interrupted(_)) || self.failures >= MOST_FAILURES {
            return Err(error);
        }
        self.report.is_unknown(snapshot, error);
        Ok(())
    }

    /// One listing in place of a question for each.
    fn named(&mut self, found: &Reachable) -> Result<()> {
        self.past.each_stood(&ObjectName::indexes(), &mut |stood| {
            self.monitor.check()?;
            let id = stood
                .name
                .components()
                .last()
                .and_then(|last| last.parse().ok());
            if id.is_some_and(|id| found.has_index(id) && ObjectName::index(id) == stood.name) {
                self.past.learn(&stood);
            }
            Ok(())
        })
    }
}
