//! What was put right in a vault, what is lost, and what to do then.

use super::Report;
use super::text::{counted, first_warnings, listed};
use super::verify::{lines_of, of_broken};
use crate::engine::{Noted, Remedy, RepairDeed, RepairReport};
use crate::model::RequestCounts;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Most bytes of the list of what was wrong.
const MOST_LINES: usize = 9000;

/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists all";

/// A repair that has ended.
pub struct Repaired<'a> {
    /// What came of it.
    pub done: &'a RepairReport,
    /// Where good copies came from.
    pub from: Option<String>,
    /// What was asked there, if somebody counted.
    pub asked_there: Option<RequestCounts>,
    /// Nothing was done: what is told is what would be.
    pub dry_run: bool,
    /// All segments were read.
    pub read_all: bool,
    /// `vault.json` was put back first.
    pub info_was_put_back: bool,
}

/// What `repair` reports.
pub fn report(repaired: &Repaired<'_>) -> Report {
    let done = repaired.done;
    let after = &done.after;
    let warnings = warnings(repaired);
    let mut json = json!({
        "dry_run": repaired.dry_run,
        "from": repaired.from,
        "vault_json_put_back": repaired.info_was_put_back,
        "snapshots": after.snapshots,
        "repaired": done.done.iter().map(of_deed).collect::<Vec<_>>(),
        "left": done.left.iter().map(|left| json!({
            "object": left.object.to_string(),
            "what": left.what,
            "why": left.why,
        })).collect::<Vec<_>>(),
        "damage_noted": match after.noted {
            Noted::Nothing => "nothing",
            Noted::Done => "noted",
            Noted::Failed(_) => "failed",
        },
        "damaged": after.broken.iter().map(of_broken).collect::<Vec<_>>(),
        "only_in_second": done.only_in_second,
        "requests_there": repaired.asked_there,
    });
    if !warnings.is_empty() {
        json["warnings"] = first_warnings(&warnings, LISTS_ALL).into();
    }
    let below = !warnings.is_empty() || !done.left.is_empty();
    let mut report = Report::done(json, text(repaired, &warnings)).below(below);
    let would = repaired.dry_run && !done.done.is_empty();
    if !after.broken.is_empty() {
        report.code = DAMAGED;
    } else if would {
        report = report.below(true);
    }
    report
}

/// What `repair --dry-run` reports where nothing else can be looked at yet.
pub fn only_info(from: &str) -> Report {
    let json = json!({
        "dry_run": true,
        "from": from,
        "vault_json_put_back": false,
        "snapshots": 0,
        "repaired": [{"object": "vault.json", "what": "it cannot be read", "how": "from_second"}],
        "left": [],
        "damage_noted": "nothing",
        "damaged": [],
        "only_in_second": 0,
        "requests": null,
        "requests_there": null,
    });
    let text = format!(
        "vault.json cannot be read, and would be put back from {}; what else is wrong is seen when \
         that is done\nwould repair vault.json first",
        one_line(from)
    );
    let mut report = Report::done(json, text);
    report.code = DAMAGED;
    report
}

fn of_deed(deed: &RepairDeed) -> Value {
    json!({
        "object": deed.object.to_string(),
        "what": deed.what,
        "how": match deed.remedy {
            Remedy::Rebuild => "rebuilt",
            Remedy::FromSecond => "from_second",
        },
    })
}

fn warnings(repaired: &Repaired<'_>) -> Vec<String> {
    let after = &repaired.done.after;
    let told: BTreeSet<&String> = repaired.done.left.iter().map(|left| &left.what).collect();
    let harmless = after.harmless.iter().filter(|what| !told.contains(what));
    let mut warnings: Vec<String> = match repaired.dry_run {
        // What would be put right is told already.
        true => Vec::new(),
        false => harmless
            .map(|what| format!("{what}: no snapshot has lost anything by it"))
            .collect(),
    };
    if let Noted::Failed(error) = &after.noted {
        warnings.push(match repaired.dry_run {
            true => format!(
                "what an earlier verify has noted cannot be read, and was not looked at: {error}"
            ),
            false => {
                format!("what is damaged could not be noted in the vault for the next run: {error}")
            }
        });
    }
    warnings
}

fn text(repaired: &Repaired<'_>, warnings: &[String]) -> String {
    let done = repaired.done;
    let from = repaired.from.as_deref().map(one_line).unwrap_or_default();
    let info = repaired
        .info_was_put_back
        .then(|| format!("repaired: vault.json was put back from {from}"));
    let deeds = done.done.iter().map(|deed| {
        let RepairDeed { object, what, .. } = deed;
        let how = match deed.remedy {
            Remedy::Rebuild => "made anew from what is left of it, byte for byte".to_owned(),
            Remedy::FromSecond => format!("that of {from}"),
        };
        match repaired.dry_run {
            true => format!("would repair: {object} ({what}): {how}"),
            false => format!("repaired: {object} ({what}): {how}"),
        }
    });
    let left = done.left.iter().map(|left| {
        let (object, what, why) = (&left.object, &left.what, &left.why);
        format!("left as it is: {object} ({what}): {why}")
    });
    let broken = done.after.broken.iter().flat_map(lines_of);
    let warned = warnings.iter().map(|warning| format!("warning: {warning}"));
    let lines = info.into_iter().chain(deeds).chain(left).chain(broken);
    let mut text = listed(lines.chain(warned), MOST_LINES, LISTS_ALL);
    for line in advice(repaired, &from) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&verdict(repaired));
    text
}

/// What to do next.
fn advice(repaired: &Repaired<'_>, from: &str) -> Vec<String> {
    let (done, mut lines) = (repaired.done, Vec::new());
    let mut say = |line: String| lines.push(line);
    let is_lost = !done.after.broken.is_empty();
    if is_lost && repaired.from.is_none() {
        say(
            "is there a second copy? `stillpoint repair --from VAULT` takes from it what is lost"
                .into(),
        );
    }
    if is_lost && !repaired.dry_run {
        say(
            "of a damaged one `restore --keep-going` gets what is not lost; one that nobody needs \
             goes with `stillpoint delete ID`"
                .into(),
        );
        match done.after.noted {
            Noted::Done => say(
                "what is damaged is noted in the vault: the next snapshot of each \
                                disk stores it again"
                    .into(),
            ),
            Noted::Nothing => {
                say("the next snapshot of each disk stores again what it needs of it".into())
            }
            Noted::Failed(_) => say(
                "take the next of each disk with `snapshot --full`, as others \
                                     build on what is damaged"
                    .into(),
            ),
        }
    }
    if done.only_in_second > 0 {
        say(format!(
            "{} in {from} and not here: `stillpoint mirror --vault {from} --to VAULT` brings them \
             back, if they were not deleted on purpose",
            match done.only_in_second {
                1 => "1 snapshot is".to_owned(),
                many => format!("{many} snapshots are"),
            }
        ));
    }
    if !repaired.read_all {
        say(
            "looked at: what verify has noted, and the ends of all segments; `stillpoint verify \
             --all` reads everything"
                .into(),
        );
    }
    lines
}

fn verdict(repaired: &Repaired<'_>) -> String {
    let done = repaired.done;
    let count = done.done.len() + usize::from(repaired.info_was_put_back);
    let objects = counted(count, "object");
    let did = match (repaired.dry_run, count) {
        (true, 0) => "nothing would be repaired".to_owned(),
        (true, _) => format!("would repair {objects}"),
        (false, 0) => "nothing was to be repaired".to_owned(),
        (false, _) => format!("repaired {objects}"),
    };
    let damaged: BTreeSet<_> = done.after.broken.iter().map(|one| one.snapshot).collect();
    let snapshots = counted(done.after.snapshots, "snapshot");
    let state = match (damaged.len(), repaired.dry_run) {
        (0, _) => format!("nothing is lost of {snapshots}"),
        (some, true) => format!("{some} of {snapshots} damaged now"),
        (some, false) => format!("{some} of {snapshots} stay damaged"),
    };
    format!("{did}; {state}")
}
