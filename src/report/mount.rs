//! What `mount`, `mount list` and `unmount` report.

use super::Report;
use super::text::{cells, counted, table_text};
use crate::engine::{MountNote, MountState, MountsFound, NotShown, ShownMount, TREE, TakenDown};
use crate::export::RAW;
use crate::model::printable::one_line;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Why a part of the host's tree is not there, or not as a restored disk would have it.
pub fn warnings(note: &MountNote) -> Vec<String> {
    let missing = note.not_shown.iter().filter(|one| one.was_mounted);
    let missing = missing.map(|one| format!("{} is not shown: {}", one.what, one.why));
    let without_log = note.shown.iter().filter_map(|one| {
        let why = one.without_log.as_ref()?;
        Some(format!(
            "{}: {why}: what was changed last may be missing or half there",
            one.target
        ))
    });
    let noted = note.shown.iter().filter_map(|one| {
        let said = one.note.as_ref()?;
        Some(format!("{}: {said}", one.target))
    });
    missing.chain(without_log).chain(noted).collect()
}

/// One mount, as a document.
fn document(note: &MountNote) -> Value {
    let dir = note.dir();
    let path = |below: &str| dir.join(below).display().to_string();
    let shown = |one: &ShownMount| {
        let target = one.target.trim_start_matches('/');
        json!({
            "target": one.target,
            "path": Path::new(&path(TREE)).join(target).display().to_string().trim_end_matches('/'),
            "type": one.kind,
            "device": one.name,
            "log_replayed": one.without_log.is_none(),
        })
    };
    let not_shown = |one: &NotShown| json!({"what": one.what, "why": one.why});
    json!({
        "directory": dir.display().to_string(),
        "state": note.state.name(),
        "job": note.job,
        "pid": note.process.pid,
        "snapshot": note.snapshot.to_string(),
        "host": note.host,
        "time": note.time.to_string(),
        "since": note.since.to_string(),
        "raw": note.disks.iter().map(|disk| json!({
            "disk": disk.disk,
            "file": path(&format!("{RAW}/{}", disk.file)),
            "size_bytes": disk.size_bytes,
        })).collect::<Vec<_>>(),
        "filesystems": note.shown.iter().map(shown).collect::<Vec<_>>(),
        "not_shown": note.not_shown.iter().map(not_shown).collect::<Vec<_>>(),
    })
}

/// What `mount` reports when it is there.
pub fn mounted(note: &MountNote) -> Report {
    let dir = note.dir();
    let mut text = String::new();
    for one in &note.shown {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}: {} of {}",
            one_line(&one.target),
            one_line(&one.kind),
            one_line(&one.name)
        );
    }
    for one in note.not_shown.iter().filter(|one| !one.was_mounted) {
        let _ = writeln!(
            text,
            "not shown: {}: {}",
            one_line(&one.what),
            one_line(&one.why)
        );
    }
    let _ = write!(
        text,
        "snapshot {} of {} is mounted: {} in {}/{TREE}, {} in {}/{RAW}; unmount it: \
         stillpoint unmount {}",
        note.snapshot,
        one_line(&note.host),
        counted(note.shown.len(), "filesystem"),
        one_line(&dir.display().to_string()),
        counted(note.disks.len(), "disk"),
        one_line(&dir.display().to_string()),
        one_line(&dir.display().to_string()),
    );
    let mut json = document(note);
    if let Value::Object(document) = &mut json {
        document.insert("warnings".into(), json!([]));
    }
    let mut report = Report::done(json, text);
    warnings(note)
        .iter()
        .for_each(|warning| report.warn(warning));
    report
}

/// What the process that served a mount reports at its end.
pub fn ended(note: &MountNote) -> Report {
    let mut json = document(note);
    if let Value::Object(document) = &mut json {
        document.insert("state".into(), json!("unmounted"));
        document.insert("warnings".into(), json!([]));
    }
    let dir = note.dir();
    let text = format!(
        "snapshot {} was unmounted from {}",
        note.snapshot,
        one_line(&dir.display().to_string())
    );
    let mut report = Report::done(json, text);
    warnings(note)
        .iter()
        .for_each(|warning| report.warn(warning));
    report
}

/// What `mount list` reports.
pub fn list(found: &MountsFound) -> Report {
    let json = json!({"mounts": found.mounts.iter().map(document).collect::<Vec<_>>()});
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "DIRECTORY",
        "STATE",
        "SNAPSHOT",
        "HOST",
        "SINCE (UTC)",
        "JOB",
    ]);
    for note in &found.mounts {
        table.add_row(cells([
            note.dir().display().to_string(),
            note.state.name().to_owned(),
            note.snapshot.to_string(),
            note.host.clone(),
            format!("{:.0}", note.since),
            note.job.clone().unwrap_or_else(|| "-".into()),
        ]));
    }
    let verdict = match found.mounts.len() {
        0 => "no snapshot is mounted on this host".to_owned(),
        count => format!(
            "{}\n{} mounted",
            table_text(&table),
            counted(count, "snapshot")
        ),
    };
    let mut report = Report::done(json, verdict);
    let dead = found
        .mounts
        .iter()
        .filter(|note| note.state == MountState::Dead);
    for note in dead {
        let dir = note.dir().display().to_string();
        report.warn(&format!(
            "the process that served {dir} has died: stillpoint unmount {dir}"
        ));
    }
    for failure in &found.failures {
        let hint = failure
            .hint()
            .map(|hint| format!("; {hint}"))
            .unwrap_or_default();
        report.warn(&format!("{failure}{hint}"));
    }
    report
}

/// What `unmount` reports.
pub fn unmounted(done: &TakenDown) -> Report {
    let dir = done.dir.display().to_string();
    let snapshot = done.note.as_ref().map(|note| note.snapshot.to_string());
    let users: Vec<Value> = done
        .users
        .iter()
        .map(|user| json!({"pid": user.pid, "name": user.name, "how": user.how}))
        .collect();
    let json = json!({
        "directory": dir,
        "snapshot": snapshot,
        "was_dead": done.was_dead,
        "served_on": done.is_served,
        "users": users,
        "warnings": [],
    });
    let shown = one_line(&dir).into_owned();
    let text = match done.was_dead {
        true => format!("took down what a process that died had left on {shown}"),
        false => format!(
            "snapshot {} is unmounted from {shown}",
            snapshot.as_deref().unwrap_or("of which no note was left")
        ),
    };
    let mut report = Report::done(json, text);
    if done.is_served {
        let names: Vec<String> = done
            .users
            .iter()
            .map(|user| format!("{} (process {})", one_line(&user.name), user.pid))
            .collect();
        let who = match names.is_empty() {
            true => "somebody, perhaps in another mount namespace,".to_owned(),
            false => names.join(", "),
        };
        report.warn(&format!(
            "it is out of sight, and served on until {who} has let go of it"
        ));
    }
    report
}
