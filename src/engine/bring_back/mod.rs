//! `recover`: what snapshots needed at a time stands again, out of the versions that a bucket
//! keeps. The time is that of a theft: what stood then is what is true, and what came later has no
//! say in it; of segments and index objects that is true which their names prove. What stands
//! unchanged is left alone, and so is what was first put later.
//!
//! It is a writer like any other: a session comes first, manifests last, and nobody collects
//! meanwhile. It must never put bytes that were not checked, nor delete anything.

mod carry;
mod needs;
mod outcome;

pub use outcome::{BringBackReport, BroughtBack, Unrecovered};

use super::monitor::{Event, Monitor};
use super::run_phase::RunPhase;
use super::session_record::session_record;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;
use crate::store::{
    KeepsVersions, MirrorWriter, NeededSort, ObjectName, PastVault, PutBefore, Stood,
};
use crate::sys::machine::host_name;
use carry::{CarryBack, EndOfOne};
use jiff::Timestamp;
use needs::PastNeeds;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

/// Most looks at what stands: after the last one nothing should have been left to do.
const MOST_LOOKS: usize = 4;
/// Most objects that a listing lacks and that are asked for by their names.
const MOST_ASKED: usize = 256;

/// How to bring back.
#[derive(Clone, Copy, Debug)]
pub struct BringBackOptions {
    /// Only say what would be brought back.
    pub dry_run: bool,
    /// The time now.
    pub now: Timestamp,
}

/// Brings back what stood at the time of `past`, and does not stand any more.
///
/// # Errors
/// The store may not be asked, or does not answer; a collector's plan stands. What is back is
/// whole. The same again goes on.
pub fn bring_back(
    past: &PastVault,
    options: BringBackOptions,
    monitor: &dyn Monitor,
) -> Result<BringBackReport> {
    let mut work = BringBack {
        past,
        monitor,
        writer: None,
        failed: HashSet::new(),
        whole: HashMap::new(),
        is_touched: Cell::new(false),
        asked: 0,
        report: BringBackReport::default(),
    };
    let done = work.run(options);
    let count = work.report.put_count();
    match (done, count, options.dry_run) {
        (Ok(()), ..) => Ok(work.report),
        (Err(error), 0, _) | (Err(error), _, true) => Err(error),
        (Err(error), 1, false) => Err(error.and_said("1 object was brought back before")),
        (Err(error), count, false) => {
            Err(error.and_said(format!("{count} objects were brought back before")))
        }
    }
}

struct BringBack<'a> {
    past: &'a PastVault,
    monitor: &'a dyn Monitor,
    /// `None`: nothing is put.
    writer: Option<MirrorWriter<'a>>,
    /// What could not be brought back: it is not tried again.
    failed: HashSet<ObjectName>,
    /// Versions that stand, and were found whole, of what names prove.
    whole: HashMap<ObjectName, String>,
    /// Whether anything that was looked at was put or deleted after the time.
    is_touched: Cell<bool>,
    /// How many objects were asked for by their names.
    asked: usize,
    report: BringBackReport,
}

impl BringBack<'_> {
    fn run(&mut self, options: BringBackOptions) -> Result<()> {
        self.begin(options)?;
        let needs = PastNeeds::read(self.past, self.monitor, &mut self.report)?;
        for _ in 0..MOST_LOOKS {
            let before = self.report.put_count();
            self.look(&needs)?;
            if options.dry_run || self.report.put_count() == before {
                self.warn_of_a_late_time();
                return Ok(());
            }
        }
        self.report.warnings.push(
            "what was brought back was gone again, more than once: whose key is still at work \
             there? take it away and run it again"
                .into(),
        );
        Ok(())
    }

    /// A time after all that was done, or that has not come yet by the store's clock: whatever a
    /// thief did counts as true then.
    fn warn_of_a_late_time(&mut self) {
        if self.is_touched.get() || self.report.put_count() > 0 {
            return;
        }
        self.report.warnings.push(format!(
            "by the store's clock nothing that snapshots need was put or deleted at {:.0} or \
             later, so nothing can come back: if somebody has hidden or replaced anything, it was \
             before that: give an earlier time",
            self.past.at
        ));
    }

    /// Before anything is listed: what is there from here on no collector takes.
    fn begin(&mut self, options: BringBackOptions) -> Result<()> {
        let why = match self.past.keeps {
            KeepsVersions::Yes | KeepsVersions::Never => None,
            KeepsVersions::NotNow if !options.dry_run => return Err(keeps_none_now(self.past)),
            KeepsVersions::NotNow => Some("its versioning is switched off"),
            KeepsVersions::Unknown => Some(
                "it does not say whether it keeps versions (s3:GetBucketVersioning); where it does \
                 not, nothing can come back",
            ),
        };
        if self.past.is_info_another()? {
            match options.dry_run {
                true => self
                    .report
                    .warnings
                    .push(info_was_another(self.past).to_string()),
                false => return Err(info_was_another(self.past)),
            }
        }
        let warned = why.map(|why| format!("{}: {why}", self.past.now.location()));
        self.report.warnings.extend(warned);
        if options.dry_run {
            if let Some(first) = self.past.now.standing_plans()?.first() {
                self.report.warnings.push(format!(
                    "a collector means to delete objects there (condemned/{first}-00000000): \
                     without --dry-run nothing is brought back while that stands"
                ));
            }
            return Ok(());
        }
        let record = session_record("recover", &host_name(), options.now);
        self.writer = Some(MirrorWriter::begin_without_plans(&self.past.now, record)?);
        Ok(())
    }

    /// Looks at all that is needed, and brings back what does not stand: what opens the vault
    /// first, manifests last.
    fn look(&mut self, needs: &PastNeeds) -> Result<()> {
        self.monitor.tell(Event::Phase(RunPhase::ListingVault));
        self.door()?;
        for some in needs.segments.chunk_by(|one, next| one.0[0] == next.0[0]) {
            self.segments(some)?;
        }
        let mut missing: HashSet<ObjectId> = needs.indexes.clone();
        let found = self.changed(NeededSort::Indexes, &ObjectName::indexes(), |stood| {
            let id = id_of(&stood.name).filter(|id| ObjectName::index(*id) == stood.name);
            let is_needed = id.is_some_and(|id| needs.indexes.contains(&id));
            if is_needed {
                id.map(|id| missing.remove(&id));
            }
            is_needed
        })?;
        let missing = missing.into_iter().map(ObjectName::index);
        let asked = self.ask_for_missing(missing.collect())?;
        self.carry(NeededSort::Indexes, &[found, asked].concat())?;
        // Readers do without those that are lost.
        let found = self.changed(NeededSort::Footers, &ObjectName::all_footers(), |stood| {
            stood.then.is_some() && needs.copies.contains(&stood.name)
        })?;
        self.carry(NeededSort::Footers, &found)?;
        let past = self.past;
        let found = self.changed(NeededSort::Manifests, &ObjectName::snapshots(), |stood| {
            stood.then.is_some() && past.snapshot_named(&stood.name).is_some()
        })?;
        self.carry(NeededSort::Manifests, &found)
    }

    /// What opens the vault.
    fn door(&mut self) -> Result<()> {
        let info = self.past.info_stood()?;
        self.touches(info.as_ref());
        let is_other = |stood: &Stood| stood.then.is_some() && stood.then != stood.now;
        let info = info.into_iter().filter(is_other);
        self.carry(NeededSort::Info, &info.collect::<Vec<_>>())?;
        if self.past.then.info().encryption.is_none() {
            return Ok(());
        }
        let mut since = 0;
        let found = self.changed(NeededSort::Keys, &ObjectName::keys(), |stood| {
            let id = stood
                .name
                .components()
                .last()
                .and_then(|last| last.parse().ok());
            let is_key = id.is_some_and(|id| ObjectName::key(id) == stood.name);
            since += usize::from(is_key && stood.then.is_none() && stood.now.is_some());
            is_key && stood.then.is_some()
        })?;
        self.report.keys_since = since;
        self.carry(NeededSort::Keys, &found)
    }

    /// Segments whose names begin alike, ascending: what is in mind of a listing are these alone.
    fn segments(&mut self, some: &[ObjectId]) -> Result<()> {
        let Some(first) = some.first() else {
            return Ok(());
        };
        let mut is_there = vec![false; some.len()];
        let found = self.changed(
            NeededSort::Segments,
            &ObjectName::segments_beside(*first),
            |stood| {
                let id = id_of(&stood.name).filter(|id| ObjectName::segment(*id) == stood.name);
                let Some(at) = id.and_then(|id| some.binary_search(&id).ok()) else {
                    return false;
                };
                is_there[at] = true;
                true
            },
        )?;
        let missing = some.iter().zip(is_there).filter(|(_, is_there)| !is_there);
        let missing = missing.map(|(id, _)| ObjectName::segment(*id));
        let asked = self.ask_for_missing(missing.collect())?;
        self.carry(NeededSort::Segments, &[found, asked].concat())
    }

    /// What a listing lacks is asked for by its name before it is called lost: a listing may be
    /// late. Names that false manifests invent are not asked for without end.
    fn ask_for_missing(&mut self, names: Vec<ObjectName>) -> Result<Vec<Stood>> {
        let mut found = Vec::new();
        for name in names {
            self.monitor.check()?;
            if self.failed.contains(&name) {
                continue;
            }
            let is_asked = self.asked < MOST_ASKED;
            self.asked += usize::from(is_asked);
            let stood = match is_asked {
                true => self.past.one_stood(&name)?,
                false => None,
            };
            self.touches(stood.as_ref());
            match stood {
                Some(stood) if !self.was_found_whole(&stood) => found.push(stood),
                Some(_) => {}
                None => self.is_lost(name),
            }
        }
        Ok(found)
    }

    fn touches(&self, stood: Option<&Stood>) {
        let is_touched = stood.is_some_and(|stood| stood.is_touched);
        self.is_touched.set(self.is_touched.get() || is_touched);
    }

    /// What is needed of a folder and is another version now than then, or gone; of what names
    /// prove also what may have been wrong then.
    fn changed(
        &self,
        sort: NeededSort,
        folder: &ObjectName,
        mut needed: impl FnMut(&Stood) -> bool,
    ) -> Result<Vec<Stood>> {
        let mut found = Vec::new();
        self.past.each_stood(folder, &mut |stood| {
            self.monitor.check()?;
            let is_needed = needed(&stood);
            if is_needed {
                self.touches(Some(&stood));
            }
            let is_known = || self.failed.contains(&stood.name) || self.was_found_whole(&stood);
            if is_needed && may_be_wrong(sort, &stood) && !is_known() {
                found.push(stood);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn carry(&mut self, sort: NeededSort, found: &[Stood]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let phase = RunPhase::BringingBack(found.len());
        self.monitor.tell(Event::Phase(phase));
        let carry = CarryBack::new(self.past, self.writer.as_ref(), self.monitor);
        let (ended, done) = carry.all(sort, found);
        for (stood, ended) in found.iter().zip(ended) {
            if let (Some(EndOfOne::Stands), true, Some(now)) =
                (&ended, sort.is_proven(), &stood.now)
            {
                self.whole.insert(stood.name.clone(), now.id.clone());
            }
            if let Some(ended) = ended
                && self.report.note(self.past, sort, stood, ended)
            {
                self.failed.insert(stood.name.clone());
            }
        }
        done
    }

    /// Whether an earlier look has found that this very version is whole.
    fn was_found_whole(&self, stood: &Stood) -> bool {
        let now = stood.now.as_ref();
        now.is_some_and(|now| self.whole.get(&stood.name) == Some(&now.id))
    }

    fn is_lost(&mut self, name: ObjectName) {
        if self.failed.insert(name.clone()) {
            self.report.is_lost(name);
        }
    }
}

/// Whether an object may not stand as it has to.
fn may_be_wrong(sort: NeededSort, stood: &Stood) -> bool {
    let was_wrong = || stood.then.is_none() || stood.before == PutBefore::Several;
    stood.then != stood.now || (sort.is_proven() && was_wrong())
}

/// By its rule all would be locked that is put, and nobody could undo that.
fn info_was_another(past: &PastVault) -> Error {
    let what = format!(
        "{}: vault.json as it stood at {:.0} is not the one that the vault was made with: somebody \
         had replaced it before that time",
        past.now.location(),
        past.at
    );
    Error::new(ErrorKind::Damaged, what)
        .with_hint("nothing was put; give an earlier time, before it was replaced")
}

/// What is put over would be gone.
fn keeps_none_now(past: &PastVault) -> Error {
    let what = format!(
        "{}: the versioning of the bucket is switched off: what is put over now is gone for good",
        past.now.location()
    );
    Error::new(ErrorKind::Unsupported, what).with_hint(
        "nothing was put; switch it on and run it again: aws s3api put-bucket-versioning \
         --versioning-configuration Status=Enabled --bucket ...",
    )
}

fn id_of(name: &ObjectName) -> Option<ObjectId> {
    name.components().last()?.parse().ok()
}
