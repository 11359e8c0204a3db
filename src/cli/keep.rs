//! `keep`: keeps a snapshot from being deleted, releases a hold, or tells what keeps it.

use super::args::{Common, KeepArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::signals;
use crate::engine::kept_now;
use crate::error::{Error, ErrorKind, Result};
use crate::report::keep::KeepReport;
use crate::report::{self, Report};
use crate::store::{KeepTerm, KeptBy};
use crate::sys::machine::host_name;
use jiff::{SignedDuration, Timestamp};

pub fn run(args: &KeepArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    let snapshot = find_snapshot(&vault, &args.id, &[], progress)?;
    let now = Timestamp::now();
    let term = match (&args.time, &args.until, &args.hold) {
        (Some(time), ..) => {
            let time = SignedDuration::try_from(*time).unwrap_or(SignedDuration::MAX);
            let until = now.checked_add(time).unwrap_or(Timestamp::MAX);
            Some(KeepTerm::Until(until))
        }
        (_, Some(until), _) => Some(KeepTerm::Until(*until)),
        (.., Some(hold)) => Some(KeepTerm::Hold(hold.clone())),
        _ => None,
    };
    if let Some(term) = term {
        vault.put_keep(&snapshot, term, &host_name())?;
    }
    let released = match &args.release {
        Some(hold) => vault.release(snapshot.id, hold, &signals::check)?,
        None => 0,
    };
    let kept = kept_now(&vault, &snapshot, now, &signals::check)?;
    if let Some(hold) = args.release.as_ref().filter(|_| released == 0) {
        return Err(no_such_hold(&snapshot.id.to_string(), hold, kept.as_ref()));
    }
    Ok(report::keep::report(&KeepReport {
        snapshot: snapshot.id,
        released: args.release.as_deref(),
        kept: kept.as_ref(),
    }))
}

fn no_such_hold(snapshot: &str, hold: &str, kept: Option<&KeptBy>) -> Error {
    let what = format!("snapshot {snapshot} has no hold {hold:?}: nothing was released");
    let there = kept.map_or("nothing keeps it".into(), |kept| {
        format!("it is kept {kept}")
    });
    Error::new(ErrorKind::NotFound, what).with_hint(there)
}
