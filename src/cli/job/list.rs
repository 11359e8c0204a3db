//! `job list`: the jobs of this host.

use super::super::args::Common;
use super::super::outcome::{Outcome, cells};
use super::args::ListArgs;
use super::folder_path;
use super::status::doing;
use crate::error::{ErrorKind, Result};
use crate::job::{JobFolder, JobRecord, clip};
use crate::model::printable::one_line;
use comfy_table::{Table, presets};
use serde_json::json;
use std::fmt::Write;

/// Most jobs that are told of unless all are asked for: runners keep but the end of what is said.
const MOST: usize = 20;

pub fn run(args: &ListArgs, common: &Common) -> Result<Outcome> {
    let path = folder_path(common)?;
    let folder = match JobFolder::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        other => Some(other?),
    };
    let (mut shown, mut unreadable) = (Vec::new(), Vec::new());
    if let Some(folder) = &folder {
        for id in folder.jobs()? {
            super::super::signals::check()?;
            match folder.look(id) {
                Ok(record) => shown.push(brief(record)),
                // Removed while this was listing.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => unreadable.push((id, clip(&error.to_string(), 200))),
            }
        }
    }
    let (jobs, bad) = (shown.len(), unreadable.len());
    if !args.all {
        keep_newest(&mut shown);
        unreadable.drain(..bad.saturating_sub(MOST));
    }
    let left_out = jobs - shown.len();
    let mut text = String::new();
    for (id, what) in unreadable.iter().rev().take(10).rev() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "unreadable: {id}: {what}");
    }
    if !shown.is_empty() {
        let _ = writeln!(text, "{}", table(&shown));
    }
    let _ = write!(text, "{jobs} jobs in {}", path.display());
    if left_out > 0 {
        let _ = write!(text, ", {left_out} older ones not shown (--all shows them)");
    }
    if bad > 0 {
        let _ = write!(text, ", {bad} that cannot be read");
    }
    let json = json!({
        "jobs": shown.iter().map(summary).collect::<Vec<_>>(),
        "left_out": left_out,
        "unreadable": unreadable.iter().map(|(id, what)| json!({
            "job": id.to_string(), "what": what,
        })).collect::<Vec<_>>(),
        "unreadable_left_out": bad - unreadable.len(),
    });
    Ok(Outcome::done(json, text).below(bad > 0))
}

/// Those that still run, and the newest of the others. All are in the order of their age.
fn keep_newest(records: &mut Vec<JobRecord>) {
    let running = records.iter().filter(|record| !record.state.is_end());
    let running = running.count();
    let mut running_left_out = running.saturating_sub(MOST);
    let room = MOST.saturating_sub(running);
    let mut ended_left_out = (records.len() - running).saturating_sub(room);
    records.retain(|record| {
        let left_out = if record.state.is_end() {
            &mut ended_left_out
        } else {
            &mut running_left_out
        };
        let kept = *left_out == 0;
        *left_out = left_out.saturating_sub(1);
        kept
    });
}

/// Without what is long: there may be many.
fn brief(record: JobRecord) -> JobRecord {
    JobRecord {
        phase: clip(&one_line(&record.phase), 60),
        command: clip(&one_line(&record.command), 20),
        result: None,
        text: None,
        warnings: Vec::new(),
        ..record
    }
}

fn summary(record: &JobRecord) -> serde_json::Value {
    json!({
        "job": record.job.to_string(),
        "command": record.command,
        "detached": record.detached,
        "state": record.state,
        "phase": record.phase,
        "progress": record.progress,
        "started": record.started,
        "updated": record.updated,
        "ended": record.ended,
        "exit_code": record.exit_code,
    })
}

fn table(records: &[JobRecord]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "STARTED (UTC)", "COMMAND", "STATE", "EXIT", "DOING"]);
    for record in records {
        let doing = if record.state.is_end() {
            String::new()
        } else {
            doing(record)
        };
        table.add_row(cells([
            record.job.to_string(),
            record.started.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            record.command.clone(),
            record.state.to_string(),
            record
                .exit_code
                .map_or_else(String::new, |code| code.to_string()),
            clip(&doing, 60),
        ]));
    }
    table
}
