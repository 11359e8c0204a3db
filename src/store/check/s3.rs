//! What a bucket and the store that has it can do: how it is named, checksums, versions, locks,
//! rules, classes of storage, and what becomes of a wrong body.

use super::bounds::CheckOptions;
use super::bucket::{BucketTraits, YesNoUnknown, ask_bucket};
use super::ends::{conclude, look};
use super::found::{RowState, StoreCheck};
use super::objects::{add_clock, passed, try_all};
use super::settings::lines;
use super::trial::Trial;
use crate::error::{Error, ErrorKind, Result};
use crate::model::RequestCounts;
use crate::store::location::Location;
use crate::store::object_name::ObjectName;
use crate::store::object_store::ObjectStore;
use crate::store::s3::{
    Condition, Patience, PutChecksum, S3Place, S3Settings, S3Store, Said, WrongBody,
};
use std::sync::Arc;
use std::time::Duration;

/// Longest that one request of a check may stand still.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(10),
    stalled: Duration::from_secs(20),
    answer: Duration::from_secs(30),
};

/// A place in S3 that is checked.
struct S3Check<'a> {
    place: &'a Location,
    s3: &'a S3Place,
    /// Settings that fit.
    fit: S3Settings,
    /// All that were opened.
    stores: Vec<Arc<S3Store>>,
    found: StoreCheck,
    bucket: BucketTraits,
    /// Checksums with which something could be put.
    working: Vec<PutChecksum>,
}

/// Tries a place in S3.
pub(super) fn check(place: &Location, s3: &S3Place, options: CheckOptions) -> Result<StoreCheck> {
    let mut fit = s3.settings.clone();
    let patience = &mut fit.patience;
    patience.connect = patience.connect.min(PATIENCE.connect);
    patience.stalled = patience.stalled.min(PATIENCE.stalled);
    patience.answer = patience.answer.min(PATIENCE.answer);
    let mut check = S3Check {
        place,
        s3,
        fit,
        stores: Vec::new(),
        found: StoreCheck::default(),
        bucket: BucketTraits::default(),
        working: Vec::new(),
    };
    let store = check.open(check.fit.clone())?;
    check.found.location = store.location();
    let mut trial = Trial::new(place.tried(store), options);
    let tried = check.try_here(&mut trial);
    check.conclude(trial, tried)
}

impl S3Check<'_> {
    fn open(&mut self, settings: S3Settings) -> Result<Arc<S3Store>> {
        let place = S3Place {
            settings,
            ..self.s3.clone()
        };
        let store = Arc::new(S3Store::open(place)?);
        self.stores.push(Arc::clone(&store));
        Ok(store)
    }

    fn try_here(&mut self, trial: &mut Trial) -> Result<()> {
        let Some(store) = self.reach(trial)? else {
            return Ok(());
        };
        let asked = Arc::clone(&store);
        let is_empty = passed(trial.ask(move |_| asked.is_empty()))?;
        if !look(trial, is_empty, &mut self.found)? {
            return Ok(());
        }
        self.neighbours(trial)?;
        self.bucket = ask_bucket(trial, &mut self.found, &store, &self.s3.prefix)?;
        let store = self.checksums(trial, store)?;
        let is_locked = self.bucket.is_locked;
        try_all(trial, &mut self.found, is_locked == YesNoUnknown::No)?;
        if let Some(ahead) = store.clock_ahead() {
            add_clock(&mut self.found, ahead);
        }
        // What is locked stays: no more of it than is needed.
        if is_locked == YesNoUnknown::Yes || self.found.is_bad("put") {
            return Ok(());
        }
        if is_locked == YesNoUnknown::Unknown {
            let what = "not tried: it is not known whether 32 MiB would be locked here";
            self.found.row("largest", RowState::Unknown, what);
            self.found
                .remedy("it is tried where s3:GetBucketObjectLockConfiguration is granted");
        }
        self.wrong_bodies(trial, &store)?;
        self.condition(trial, &store)?;
        self.class(trial, &store)
    }

    /// Finds how the bucket is to be named; `None`: it cannot be reached.
    fn reach(&mut self, trial: &mut Trial) -> Result<Option<Arc<S3Store>>> {
        let set = self.fit.path_style;
        let mut first: Option<Error> = None;
        let mut styles = vec![set];
        styles.extend(
            [Some(true), Some(false)]
                .iter()
                .filter(|style| **style != set),
        );
        for style in styles {
            let settings = S3Settings {
                path_style: style,
                ..self.fit.clone()
            };
            let store = self.open(settings)?;
            let asked = Arc::clone(&store);
            let listed = passed(trial.ask(move |_| asked.is_empty()))?;
            // Who may not list is heard.
            let is_heard = |error: &Error| error.kind() == ErrorKind::Unsupported;
            if listed.is_ok() || (style == set && listed.as_ref().is_err_and(is_heard)) {
                let name = match style {
                    Some(true) => "the bucket stands in the path",
                    Some(false) => "the bucket stands in the host's name",
                    None => "the bucket is named as is usual",
                };
                let will_do = style == set;
                let state = if will_do {
                    RowState::Good
                } else {
                    RowState::Warning
                };
                self.found.row("addressing", state, name);
                if let Some(style) = style.filter(|_| !will_do) {
                    self.found.remedy(format!("set path_style = {style}"));
                }
                self.fit.path_style = style;
                trial.use_store(self.place.tried(store.clone()));
                return Ok(Some(store));
            }
            first = first.or(listed.err());
            // There is an answer, and another way to name it gives no other.
            let is_sure = first
                .as_ref()
                .is_some_and(|error| error.kind() == ErrorKind::Usage);
            if is_sure {
                break;
            }
        }
        if let Some(error) = first {
            self.found.failed("addressing", RowState::Bad, &error);
        }
        Ok(None)
    }

    /// Whether it lies within another vault.
    fn neighbours(&mut self, trial: &Trial) -> Result<()> {
        let parts: Vec<&str> = self.s3.prefix.split('/').collect();
        let above = (0..parts.len()).map(|count| parts[..count].join("/"));
        for prefix in above.filter(|above| *above != self.s3.prefix) {
            let place = S3Place {
                prefix,
                settings: self.fit.clone(),
                ..self.s3.clone()
            };
            let store = Arc::new(S3Store::open(place)?);
            self.stores.push(Arc::clone(&store));
            let asked = Arc::clone(&store);
            let there = trial.ask(move |_| asked.size(&ObjectName::vault_info()));
            if passed(there)?.is_ok() {
                let what = format!("it lies within another vault, {}", store.location());
                self.found.row("neighbours", RowState::Warning, what);
                self.found
                    .remedy("what mirrors or removes that one takes this one with it");
            }
        }
        Ok(())
    }

    /// Tries each setting; the store with the one that is used from here on.
    fn checksums(&mut self, trial: &mut Trial, store: Arc<S3Store>) -> Result<Arc<S3Store>> {
        let set = self.fit.checksums;
        let mut good = Vec::new();
        let mut failed = None;
        for checksums in [PutChecksum::None, PutChecksum::Md5, PutChecksum::Crc32] {
            let settings = S3Settings {
                checksums,
                ..self.fit.clone()
            };
            let (tried, name) = (self.open(settings)?, trial.fresh());
            let (putting, at) = (Arc::clone(&tried), name.clone());
            let small = trial.options().small;
            match passed(trial.put_by(&name, small, move || putting.put_small(&at)))? {
                Ok(()) => good.push((checksums, tried)),
                Err(error) if checksums == set => failed = Some(error),
                Err(_) => {}
            }
        }
        let words: Vec<&str> = good.iter().map(|(sum, _)| sum.word()).collect();
        self.working = good.iter().map(|(sum, _)| *sum).collect();
        let works = format!("these work: {}", words.join(", "));
        match (failed, good.into_iter().next()) {
            (None, _) => self.found.good("checksums", works),
            // The row of putting says it.
            (Some(_), None) => {}
            (Some(error), Some((checksums, tried))) => {
                let what = format!("{} does not work: {error}; {works}", set.word());
                self.found.row("checksums", RowState::Warning, what);
                self.found
                    .remedy(format!("set checksums = {:?}", checksums.word()));
                self.fit.checksums = checksums;
                trial.use_store(self.place.tried(tried.clone()));
                return Ok(tried);
            }
        }
        Ok(store)
    }

    fn wrong_bodies(&mut self, trial: &mut Trial, store: &Arc<S3Store>) -> Result<()> {
        let mut refused = Vec::new();
        let mut is_taken = false;
        for (wrong, checksums) in [
            (WrongBody::Signature, None),
            (WrongBody::Crc32, Some(PutChecksum::Crc32)),
            (WrongBody::Md5, Some(PutChecksum::Md5)),
        ] {
            // Where the right sum is refused, too, a wrong one says nothing.
            if checksums.is_some_and(|sum| !self.working.contains(&sum)) {
                continue;
            }
            let name = trial.fresh();
            let (putting, at) = (Arc::clone(store), name.clone());
            let small = trial.options().small;
            let answer = trial.put_by(&name, small, move || putting.refuses(&at, wrong));
            let is_in_force = checksums.is_none_or(|sum| sum == self.fit.checksums);
            match passed(answer)? {
                Ok(Said::Told(true)) => refused.push(SeenBy {
                    checksums,
                    is_in_force,
                }),
                Ok(Said::Told(false)) => is_taken |= is_in_force,
                _ => {}
            }
        }
        let words: Vec<&str> = refused.iter().map(SeenBy::word).collect();
        if refused.iter().any(|seen| seen.is_in_force) {
            let by = words.join(", ");
            let what = format!("a body that changed on its way is refused, by {by}");
            self.found.good("wrong_body", what);
            return Ok(());
        }
        match is_taken {
            true => {
                let what = "a body that changed on its way is taken: verify finds it, and no run \
                            does";
                self.found.row("wrong_body", RowState::Warning, what);
            }
            false => {
                let what = "a body that changed on its way is refused by no sum that is known";
                self.found.row("wrong_body", RowState::Unknown, what);
            }
        }
        match refused.iter().find_map(|seen| seen.checksums) {
            Some(checksums) => {
                self.fit.checksums = checksums;
                self.found
                    .remedy(format!("set checksums = {:?}", checksums.word()));
            }
            None => self
                .found
                .remedy("reach the store by https, and verify often"),
        }
        Ok(())
    }

    fn condition(&mut self, trial: &mut Trial, store: &Arc<S3Store>) -> Result<()> {
        let name = trial.fresh();
        let (putting, at) = (Arc::clone(store), name.clone());
        let small = trial.options().small;
        let answer = trial.put_by(&name, small, move || putting.condition(&at));
        let what = match passed(answer)? {
            Ok(Condition::Kept) => "If-None-Match is kept",
            Ok(Condition::Ignored) => "If-None-Match is ignored",
            Ok(Condition::Refused) => "If-None-Match is refused",
            Err(_) => "If-None-Match fails",
        };
        let what = format!("{what}; a vault does not need it");
        self.found.good("if_none_match", what);
        Ok(())
    }

    fn class(&mut self, trial: &mut Trial, store: &Arc<S3Store>) -> Result<()> {
        let Some(class) = self.fit.storage_class.clone() else {
            return Ok(());
        };
        let name = trial.fresh();
        let (putting, at, wanted) = (Arc::clone(store), name.clone(), class.clone());
        let small = trial.options().small;
        let answer = trial.put_by(&name, small, move || putting.put_in_class(&at, &wanted));
        let why = match passed(answer)? {
            Ok(Said::Told(is)) if is == class => {
                self.found
                    .good("storage_class", format!("{class} is taken"));
                return Ok(());
            }
            Ok(Said::Told(is)) => format!("{class} was asked for, and it is in {is}"),
            Ok(Said::MayNotBeAsked) => format!("these credentials may not put into {class}"),
            Ok(Said::NotKnown(why)) => format!("{class} is refused ({why})"),
            Err(error) => error.to_string(),
        };
        self.found.row("storage_class", RowState::Warning, why);
        self.found
            .remedy("leave storage_class out, or name a class that the store has");
        self.fit.storage_class = None;
        Ok(())
    }

    /// Deletes what was put, also what versions of it there are.
    fn conclude(mut self, trial: Trial, tried: Result<()>) -> Result<StoreCheck> {
        let names = trial.used();
        let (versions, last) = (self.bucket.versions_stay, self.stores.last().cloned());
        let bounded = Trial::new(Arc::clone(trial.store()), trial.options_to_clean());
        self.found.settings = lines(self.s3, &self.fit);
        let requests = |stores: &[Arc<S3Store>]| {
            let counts = stores.iter().filter_map(|store| store.requests());
            counts.fold(RequestCounts::default(), |sum, counts| sum + counts)
        };
        let mut found = conclude(trial, tried, std::mem::take(&mut self.found))?;
        if let Some(store) = last.filter(|_| versions != YesNoUnknown::No && !names.is_empty()) {
            let count = names.len();
            let most = bounded.options().large;
            let deleted = bounded.within(most, move || store.delete_versions(&names));
            versions_left(&mut found, versions, &deleted, count);
        }
        found.requests = Some(requests(&self.stores));
        Ok(found)
    }
}

/// What saw that a body is not what was sent.
struct SeenBy {
    /// `None`: the signature.
    checksums: Option<PutChecksum>,
    /// Whether runs send it, as the settings are.
    is_in_force: bool,
}

impl SeenBy {
    fn word(&self) -> &'static str {
        match self.checksums {
            None => "its signature",
            Some(checksums) => checksums.word(),
        }
    }
}

/// A row of the versions that stay, or may stay, of `count` objects that were put and deleted.
fn versions_left(
    found: &mut StoreCheck,
    versions: YesNoUnknown,
    deleted: &Result<Said<usize>>,
    count: usize,
) {
    let left = match deleted {
        Ok(Said::Told(left)) => *left,
        // It knows no versions, in either question.
        Ok(Said::NotKnown(_)) if versions == YesNoUnknown::Unknown => return,
        _ => count,
    };
    if left == 0 {
        return;
    }
    // The largest is nearly all of it.
    let tried = |name: &str| {
        let mut rows = found.rows.iter();
        rows.any(|row| row.name == name && row.state != RowState::Unknown)
    };
    let size = if tried("largest") {
        "32 MiB"
    } else {
        "a few KiB"
    };
    let what = match versions {
        YesNoUnknown::Unknown => format!("if versions are kept, {size} stay, of {left} objects"),
        _ => format!("versions of what was put and deleted here stay: {left} objects, {size}"),
    };
    found.row("versions", RowState::Unknown, what);
    found.remedy("they go when the bucket's rules delete what is not current");
}
