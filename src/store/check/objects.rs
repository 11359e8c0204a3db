//! The tries that every store must pass: list, put, get, parts, sizes, the largest object, and
//! that what was put is seen at once.

use super::found::{CheckRow, RowState, StoreCheck};
use super::trial::Trial;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Bytes;
use crate::store::object_name::ObjectName;
use crate::store::object_store::{Blob, ObjectInfo};
use jiff::{SignedDuration, Timestamp};
use std::time::{Duration, Instant};

/// Length of a small object, in bytes.
const SMALL: usize = 1 << 10;
/// Length of the largest object that a writer puts, in bytes.
const LARGEST: usize = 32 << 20;
/// How often a small request is timed.
const ROUNDS: usize = 9;
/// More than this between two clocks is too much for those who read times.
const ODD: SignedDuration = SignedDuration::from_secs(30);
/// Requests that take longer make a run of many of them slow.
const FAR: Duration = Duration::from_millis(500);

/// Tries all of it. `large`: also the largest object. An error says that it was stopped; what
/// fails is a row.
pub(super) fn try_all(trial: &mut Trial, found: &mut StoreCheck, large: bool) -> Result<()> {
    try_list(trial, found)?;
    let (name, bytes) = (trial.fresh(), body(trial, SMALL));
    let small = trial.options().small;
    match passed(trial.put(&name, bytes.clone(), small))? {
        Ok(()) => found.good("put", "an object can be put"),
        Err(error) => {
            found.failed("put", RowState::Bad, &error);
            return Ok(());
        }
    }
    try_get(trial, found, &name, &bytes)?;
    try_parts(trial, found, &name, &bytes)?;
    if !found.is_bad("list") {
        try_listing(trial, found, &name, bytes.len() as u64)?;
    }
    try_missing(trial, found)?;
    if found.is_bad("get") {
        return try_delete(trial, found, &name);
    }
    time(trial, found, &name)?;
    if large {
        try_largest(trial, found)?;
    }
    try_delete(trial, found, &name)
}

/// Tells being stopped, which ends the check, from what failed, which is a row.
pub(super) fn passed<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted(_)) => Err(error),
        other => Ok(other),
    }
}

/// Bytes that do not pack, and are others for each name.
pub(super) fn body(trial: &mut Trial, length: usize) -> Blob {
    let seed = trial.fresh();
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_str().as_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn try_list(trial: &Trial, found: &mut StoreCheck) -> Result<()> {
    let listed = trial.ask(|store| store.list_some(&ObjectName::checks(), 1));
    match passed(listed)? {
        Ok(_) => found.good("list", "what is below it can be listed"),
        Err(error) => found.failed("list", RowState::Bad, &error),
    }
    Ok(())
}

/// Whether it can be got at once, and is what was put.
fn try_get(trial: &Trial, found: &mut StoreCheck, name: &ObjectName, bytes: &Blob) -> Result<()> {
    let seen = wait_for(trial, || {
        let at = name.clone();
        match trial.ask(move |store| store.get(&at, SMALL as u64)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    });
    match passed(seen)? {
        Err(error) => found.failed("get", RowState::Bad, &error),
        Ok(None) => {
            found.row("get", RowState::Bad, "what was put is not there");
        }
        Ok(Some(seen)) if seen.value != *bytes => {
            found.row("get", RowState::Bad, "other bytes came back than were put");
        }
        Ok(Some(seen)) if seen.after.is_zero() => {
            found.good("get", "what was put can be got, at once");
        }
        Ok(Some(seen)) => {
            let what = format!("what was put could be got {:.1} s later", seen.seconds());
            found.row("get", RowState::Bad, what);
            found.remedy("a run reads what it has put a moment before: another store is needed");
        }
    }
    Ok(())
}

/// Something that was seen, and how long after it was looked for first.
struct LateView<T> {
    value: T,
    after: Duration,
}

impl<T> LateView<T> {
    fn seconds(&self) -> f64 {
        self.after.as_secs_f64()
    }
}

/// Looks until something is there, but not for long; what is there at the first look is so at once.
fn wait_for<T>(trial: &Trial, look: impl Fn() -> Result<Option<T>>) -> Result<Option<LateView<T>>> {
    let begun = Instant::now();
    let mut after = Duration::ZERO;
    loop {
        if let Some(value) = look()? {
            return Ok(Some(LateView { value, after }));
        }
        if begun.elapsed() >= trial.options().late {
            return Ok(None);
        }
        trial.pause(Duration::from_millis(100))?;
        after = begun.elapsed();
    }
}

fn try_parts(trial: &Trial, found: &mut StoreCheck, name: &ObjectName, bytes: &Blob) -> Result<()> {
    let (at, whole) = (name.clone(), bytes.clone());
    let ranged = trial.ask(move |store| {
        let middle = store.get_range(&at, 100, 200)?;
        let (end, length) = store.get_tail(&at, 50)?;
        let is_right =
            middle == whole[100..300] && end == whole[SMALL - 50..] && length == whole.len() as u64;
        Ok(is_right)
    });
    match passed(ranged)? {
        Ok(true) => found.good("range", "parts of an object can be got"),
        Ok(false) => found.row(
            "range",
            RowState::Bad,
            "another part came than was asked for",
        ),
        Err(error) => found.failed("range", RowState::Bad, &error),
    }
    let at = name.clone();
    match passed(trial.ask(move |store| store.size(&at)))? {
        Ok(size) if size == SMALL as u64 => found.good("size", "an object's size can be asked for"),
        Ok(size) => {
            let what = format!("an object of {SMALL} bytes is said to have {size}");
            found.row("size", RowState::Bad, what);
        }
        Err(error) => found.failed("size", RowState::Bad, &error),
    }
    Ok(())
}

/// Whether it is listed at once, with its size and time.
fn try_listing(trial: &Trial, found: &mut StoreCheck, name: &ObjectName, size: u64) -> Result<()> {
    let seen = wait_for(trial, || {
        let all = trial.ask(|store| store.list_all(&ObjectName::checks()))?;
        Ok(all.into_iter().find(|object| object.name == *name))
    });
    match passed(seen)? {
        Err(error) => found.failed("listed", RowState::Bad, &error),
        Ok(None) => {
            found.row("listed", RowState::Bad, "what was put is not listed");
            found.remedy("snapshots are found by listing them: another store is needed");
        }
        Ok(Some(seen)) if seen.value.size != size => {
            let what = format!(
                "an object of {size} bytes is listed with {}",
                seen.value.size
            );
            found.row("listed", RowState::Bad, what);
        }
        Ok(Some(seen)) if seen.after.is_zero() => {
            found.good("listed", "what was put is listed at once");
            clock(found, &seen.value);
        }
        Ok(Some(seen)) => {
            let what = format!("what was put was listed {:.1} s later", seen.seconds());
            found.row("listed", RowState::Warning, what);
            found.remedy("a snapshot is found that much later; a parent that is not is full again");
            clock(found, &seen.value);
        }
    }
    Ok(())
}

/// The store's clock, by the time that it gives to what was put just now.
fn clock(found: &mut StoreCheck, object: &ObjectInfo) {
    add_clock(found, object.modified.duration_since(Timestamp::now()));
}

/// Adds how far the store's clock is ahead of this host's, in the place of what was known of it.
pub(super) fn add_clock(found: &mut StoreCheck, ahead: SignedDuration) {
    found.rows.retain(|row| row.name != "clock");
    let seconds = ahead.abs().as_secs();
    let which = if ahead.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    match ahead.abs() <= ODD {
        true => found.good(
            "clock",
            "the store's clock is this host's, to half a minute",
        ),
        false => {
            let what = format!("the store's clock is {seconds} s {which} this host's");
            found.row("clock", RowState::Warning, what);
            found.remedy(
                "set this host's clock, by chrony or timedatectl; stores refuse a request \
                          that is 15 minutes off",
            );
        }
    }
}

/// Whether what is not there is told from what may not be seen.
fn try_missing(trial: &mut Trial, found: &mut StoreCheck) -> Result<()> {
    let name = trial.fresh();
    let got = trial.ask(move |store| store.get(&name, SMALL as u64));
    match passed(got)? {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            found.good("missing", "what is not there is said not to be there");
        }
        Err(error) => found.failed("missing", RowState::Warning, &error),
        Ok(_) => {
            let what = "something came for a name that was never used";
            found.row("missing", RowState::Bad, what);
        }
    }
    Ok(())
}

fn time(trial: &Trial, found: &mut StoreCheck, name: &ObjectName) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (at, begun) = (name.clone(), Instant::now());
        if passed(trial.ask(move |store| store.size(&at)))?.is_err() {
            return Ok(());
        }
        times.push(begun.elapsed());
    }
    times.sort();
    let median = times[ROUNDS / 2];
    found.round_trip = Some(median);
    let what = format!(
        "{:.1} ms for a small request",
        median.as_secs_f64() * 1000.0
    );
    let state = if median > FAR {
        RowState::Warning
    } else {
        RowState::Good
    };
    found.row("round_trip", state, what);
    if median > FAR {
        found.remedy("a run asks some twenty of them one after another; is there a nearer region?");
    }
    Ok(())
}

fn try_largest(trial: &mut Trial, found: &mut StoreCheck) -> Result<()> {
    let (name, bytes) = (trial.fresh(), body(trial, LARGEST));
    let most = trial.options().large;
    let begun = Instant::now();
    let put = passed(trial.put(&name, bytes.clone(), most))?;
    let up = begun.elapsed();
    let (store, at) = (trial.store().clone(), name.clone());
    let begun = Instant::now();
    let back = match put {
        Err(error) => Err(error),
        Ok(()) => passed(trial.within(most, move || store.get(&at, LARGEST as u64)))?,
    };
    let down = begun.elapsed();
    match back {
        Ok(back) if back == bytes => {
            let what = format!(
                "an object of {} can be put and got: {}/s up, {}/s down",
                Bytes(LARGEST as u64),
                rate(up),
                rate(down)
            );
            found.good("largest", what);
        }
        Ok(_) => found.row(
            "largest",
            RowState::Bad,
            "other bytes came back than were put",
        ),
        Err(error) => found.failed("largest", RowState::Bad, &error),
    }
    // It is the only one that takes room.
    passed(trial.delete(&name)).map(drop)
}

fn rate(time: Duration) -> Bytes {
    Bytes((LARGEST as f64 / time.as_secs_f64().max(1e-6)) as u64)
}

/// Whether what was put can be deleted, and is gone then.
fn try_delete(trial: &mut Trial, found: &mut StoreCheck, name: &ObjectName) -> Result<()> {
    let deleted = passed(trial.delete(name))?;
    // Some say "denied" of what is not there.
    let is_denied = |row: &CheckRow| row.name == "missing" && row.state != RowState::Good;
    let is_hidden = found.rows.iter().any(is_denied);
    let gone = deleted.and_then(|()| {
        let at = name.clone();
        match trial.ask(move |store| store.get(&at, SMALL as u64)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if is_hidden && error.kind() == ErrorKind::Unsupported => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(Error::new(
                ErrorKind::Failed,
                "what was deleted can still be got",
            )),
        }
    });
    match passed(gone)? {
        Ok(()) => found.good("delete", "what was put can be deleted"),
        Err(error) => {
            found.row("delete", RowState::Warning, error.to_string());
            found.remedy(
                "snapshots can be taken all the same: notes of runs at work stay, and what failed \
                 runs had put; `delete` and what reclaims space needs more",
            );
        }
    }
    Ok(())
}
