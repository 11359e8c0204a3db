//! The jobs of this host.

use super::Report;
use super::job::doing;
use super::text::{cells, counted, table_text};
use crate::error::Error;
use crate::job::{JobId, JobRecord};
use crate::model::clip;
use crate::model::printable::one_line;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Most jobs that are shown unless all are asked for: runners keep only the end of what is printed.
const MOST: usize = 20;
/// Most disks of a job that are named.
const MOST_DISKS: usize = 4;
/// Most bytes of the name of a disk or snapshot.
const MOST_NAME: usize = 32;
/// Most bytes of why a job failed.
const MOST_WHY: usize = 100;

/// Finds the disks that are named among a job's arguments.
pub type AskedFor<'a> = &'a dyn Fn(&[String]) -> Vec<String>;

/// Which jobs are shown, and where they are from.
#[derive(Clone, Copy)]
pub struct JobListOptions<'a> {
    /// The directory of their records.
    pub directory: &'a Path,
    /// Shows all of them.
    pub all: bool,
    /// Finds the disks of a job that has not ended.
    pub asked_for: AskedFor<'a>,
}

/// What is kept of the records of jobs.
#[derive(Default)]
pub struct JobList {
    jobs: Vec<JobRecord>,
    unreadable: Vec<(JobId, String)>,
}

impl JobList {
    /// Adds a job, after those that began before it.
    pub fn add(&mut self, record: JobRecord) {
        self.jobs.push(brief(record));
    }

    /// Adds a job whose record cannot be read.
    pub fn add_unreadable(&mut self, job: JobId, why: &Error) {
        self.unreadable.push((job, clip(&why.to_string(), 200)));
    }

    /// What `job list` reports.
    pub fn report(self, options: JobListOptions<'_>) -> Report {
        let Self {
            mut jobs,
            mut unreadable,
        } = self;
        let (count, bad) = (jobs.len(), unreadable.len());
        if !options.all {
            keep_newest(&mut jobs);
            unreadable.drain(..bad.saturating_sub(MOST));
        }
        let left_out = count - jobs.len();
        let jobs = jobs.into_iter();
        let summaries = jobs.map(|job| JobSummary::of(job, options.asked_for));
        let shown: Vec<JobSummary> = summaries.collect();
        let mut text = String::new();
        for (id, what) in unreadable.iter().rev().take(10).rev() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "unreadable: {id}: {what}");
        }
        if !shown.is_empty() {
            let _ = writeln!(text, "{}", table_text(&table(&shown)));
        }
        let _ = write!(
            text,
            "{} in {}",
            counted(count, "job"),
            options.directory.display()
        );
        if count == 0 && !nix::unistd::geteuid().is_root() {
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
        Report::done(json, text).below(bad > 0)
    }
}

/// Keeps the jobs that still run, and the newest of the others. All are in the order of their age.
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

/// The record without what is long, as there may be many; of its result, the names of the snapshot
/// and its disks.
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

/// A job, its disks and snapshot, and why it failed.
struct JobSummary {
    record: JobRecord,
    disks: Vec<String>,
    snapshot: Option<String>,
    why: Option<String>,
}

impl JobSummary {
    fn of(record: JobRecord, asked_for: AskedFor<'_>) -> Self {
        let result = record.result.as_ref();
        let disks = result.and_then(|result| result["disks"].as_array());
        let disks = disks.map(|all| all.iter().filter_map(Value::as_str).map(String::from));
        let snapshot = result.and_then(|result| result["snapshot"].as_str());
        let message = record.error.as_ref().map(|error| &error["message"]);
        let why = message.and_then(Value::as_str);
        Self {
            disks: disks.map_or_else(|| named(asked_for(&record.args)), Iterator::collect),
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

fn named(disks: Vec<String>) -> Vec<String> {
    let disks = disks.into_iter().take(MOST_DISKS);
    disks.map(|disk| clip(&disk, MOST_NAME)).collect()
}

fn summary(job: &JobSummary) -> Value {
    let record = &job.record;
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
        "disks": job.disks,
        "snapshot": job.snapshot,
        "why": job.why,
    })
}

fn table(all: &[JobSummary]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "STARTED (UTC)", "COMMAND", "STATE", "EXIT", "WHAT"]);
    for job in all {
        let record = &job.record;
        table.add_row(cells([
            record.job.to_string(),
            record.started.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            record.command.clone(),
            record.state.to_string(),
            record
                .exit_code
                .map_or_else(String::new, |code| code.to_string()),
            clip(&job.what(), MOST_WHY),
        ]));
    }
    table
}
