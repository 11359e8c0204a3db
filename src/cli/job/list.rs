//! `job list`: the jobs of this host.

use super::super::args::{Command, CommandLine, Common, JobListArgs};
use super::super::outcome::{Outcome, cells, counted, table_text};
use super::super::signals;
use super::folder_path;
use super::status::doing;
use crate::error::{ErrorKind, Result};
use crate::job::{JobFolder, JobRecord};
use crate::model::clip;
use crate::model::printable::one_line;
use clap::Parser;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;

/// Most jobs that are told of unless all are asked for: runners keep but the end of what is said.
const MOST: usize = 20;
/// Most disks of a job that are named.
const MOST_DISKS: usize = 4;
/// Most bytes of the name of a disk or snapshot.
const MOST_NAME: usize = 32;
/// Most bytes of what went wrong.
const MOST_WHY: usize = 100;

pub fn run(args: &JobListArgs, common: &Common) -> Result<Outcome> {
    let path = folder_path(common)?;
    let folder = match JobFolder::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        other => Some(other?),
    };
    let (mut shown, mut unreadable) = (Vec::new(), Vec::new());
    if let Some(folder) = &folder {
        for id in folder.jobs()? {
            signals::check()?;
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
    let shown: Vec<Told> = shown.into_iter().map(Told::of).collect();
    let mut text = String::new();
    for (id, what) in unreadable.iter().rev().take(10).rev() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "unreadable: {id}: {what}");
    }
    if !shown.is_empty() {
        let _ = writeln!(text, "{}", table_text(&table(&shown)));
    }
    let _ = write!(text, "{} in {}", counted(jobs, "job"), path.display());
    if jobs == 0 && !nix::unistd::geteuid().is_root() {
        text.push_str("; those of root are listed by root: sudo stillpoint job list");
    }
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

/// Without what is long: there may be many. Of the answer, what names the snapshot and its disks.
fn brief(record: JobRecord) -> JobRecord {
    let result = record.result.map(|result| {
        let disks = result["disks"].as_array().into_iter().flatten();
        let names = disks.filter_map(|disk| disk["disk"].as_str());
        let names = names.take(MOST_DISKS).map(|name| clip(name, MOST_NAME));
        json!({"snapshot": result["snapshot"], "disks": names.collect::<Vec<_>>()})
    });
    JobRecord {
        phase: clip(&one_line(&record.phase), 60),
        command: clip(&one_line(&record.command), 20),
        result,
        text: None,
        warnings: Vec::new(),
        ..record
    }
}

/// A job, what it was to do, and why it has failed.
struct Told {
    record: JobRecord,
    disks: Vec<String>,
    snapshot: Option<String>,
    why: Option<String>,
}

impl Told {
    fn of(record: JobRecord) -> Self {
        let answer = record.result.as_ref();
        let disks = answer.and_then(|answer| answer["disks"].as_array());
        let disks = disks.map(|all| all.iter().filter_map(Value::as_str).map(String::from));
        let snapshot = answer.and_then(|answer| answer["snapshot"].as_str());
        let message = record.error.as_ref().map(|error| &error["message"]);
        let why = message.and_then(Value::as_str);
        Self {
            disks: disks.map_or_else(|| asked_for(&record.args), Iterator::collect),
            snapshot: snapshot.map(|id| clip(id, MOST_NAME)),
            why: why.map(|why| clip(&one_line(why), MOST_WHY)),
            record,
        }
    }

    /// What is being done, what was done, or why not.
    fn what(&self) -> String {
        let disks = self.disks.join(",");
        let of = |what: &str| match (what.is_empty(), disks.is_empty()) {
            (true, _) => disks.clone(),
            (_, true) => what.to_owned(),
            _ => format!("{disks}: {what}"),
        };
        match &self.why {
            _ if !self.record.state.is_end() => of(&doing(&self.record)),
            Some(why) => of(why),
            None => of(self.snapshot.as_deref().unwrap_or_default()),
        }
    }
}

/// The disks that a job was told to take, as far as its arguments can be understood.
fn asked_for(args: &[String]) -> Vec<String> {
    let words = ["stillpoint"]
        .into_iter()
        .chain(args.iter().map(String::as_str));
    let disks = match CommandLine::try_parse_from(words).map(|line| line.command) {
        Ok(Command::Snapshot(args)) => args.disks,
        Ok(Command::Restore(args)) => args.disk.into_iter().collect(),
        _ => Vec::new(),
    };
    let disks = disks.into_iter().take(MOST_DISKS);
    disks.map(|disk| clip(&disk, MOST_NAME)).collect()
}

fn summary(told: &Told) -> Value {
    let record = &told.record;
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
        "disks": told.disks,
        "snapshot": told.snapshot,
        "why": told.why,
    })
}

fn table(all: &[Told]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "STARTED (UTC)", "COMMAND", "STATE", "EXIT", "WHAT"]);
    for told in all {
        let record = &told.record;
        table.add_row(cells([
            record.job.to_string(),
            record.started.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            record.command.clone(),
            record.state.to_string(),
            record
                .exit_code
                .map_or_else(String::new, |code| code.to_string()),
            clip(&told.what(), MOST_WHY),
        ]));
    }
    table
}
