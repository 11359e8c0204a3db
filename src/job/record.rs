//! The record of a job: what it does, how far it is, how it ended. It must never hold a secret, nor
//! grow without bound.

use super::{JobId, JobProcess};
use crate::error::{Error, ErrorKind, Result};
use crate::format::from_json;
use crate::model::printable::json;
use crate::model::{Bytes, RequestCounts, clip};
use crate::sys::machine::host_name;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The only version so far.
const VERSION: u32 = 1;
/// Longest record, in bytes.
pub(super) const MAX_RECORD: usize = 2 << 20;
/// Longest result, in bytes: half of the record. A longer one is left out.
const MAX_RESULT: usize = 1 << 20;
/// Most values in a record: a result of [`MAX_RESULT`] bytes holds fewer.
const MAX_VALUES: usize = 1 << 20;
/// Most warnings that a record keeps.
pub const MAX_WARNINGS: usize = 64;
/// Most bytes of one warning, phase or argument.
const MAX_LINE: usize = 1000;
/// Most arguments that are kept.
const MAX_ARGS: usize = 256;
/// Most bytes of what the command reported as text.
const MAX_TEXT: usize = 16 << 10;

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its process has not begun to work.
    Starting,
    /// It is being worked on.
    Running,
    /// It ended with a report: exit code 0, 3 or 4.
    Done,
    /// It ended with an error.
    Failed,
    /// It was stopped by a signal and has cleaned up.
    Cancelled,
    /// Its process is gone and has not recorded how it ended. A reader finds that out; it is never
    /// written.
    Died,
}

impl JobState {
    /// Whether the job has ended.
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Starting | Self::Running)
    }

    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Died => "died",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of the present phase is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Bytes done.
    pub done_bytes: Bytes,
    /// Bytes there are to do, as far as is known.
    pub total_bytes: Bytes,
}

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Version of the record.
    pub version: u32,
    /// Its name.
    pub job: JobId,
    /// The command's name: `snapshot`.
    pub command: String,
    /// What it was started with, without secrets.
    pub args: Vec<String>,
    /// The host's name.
    pub host: String,
    /// Whether it goes on without its starter.
    pub detached: bool,
    /// How far it is.
    pub state: JobState,
    /// What is being done now, or was last.
    pub phase: String,
    /// How much of that is done.
    pub progress: Option<JobProgress>,
    /// The process that works on it.
    #[serde(flatten)]
    pub process: JobProcess,
    /// When it began.
    pub started: Timestamp,
    /// When the record was written.
    pub updated: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The exit code of its process.
    pub exit_code: Option<u8>,
    /// The document that the command reported.
    pub result: Option<Value>,
    /// The same as text.
    pub text: Option<String>,
    /// Why it failed: `kind`, `message`, `hint`.
    pub error: Option<Value>,
    /// The warnings, at most [`MAX_WARNINGS`].
    pub warnings: Vec<String>,
    /// What was asked of the vault in all, also by a job that failed; absent while it runs, and
    /// where it came to no vault.
    #[serde(default)]
    pub requests: Option<RequestCounts>,
}

impl JobRecord {
    /// The first record of a job that `process` works on from now on. `args` are those after the
    /// program's name.
    pub fn new(job: JobId, process: JobProcess, command: &str, args: &[String]) -> Self {
        let now = Timestamp::now();
        Self {
            version: VERSION,
            job,
            command: command.into(),
            args: shown_all(&args[..args.len().min(MAX_ARGS)]),
            host: host_name(),
            detached: false,
            state: JobState::Starting,
            phase: String::new(),
            progress: None,
            process,
            started: now,
            updated: now,
            ended: None,
            exit_code: None,
            result: None,
            text: None,
            error: None,
            warnings: Vec::new(),
            requests: None,
        }
    }

    /// The bytes to write. What is too long is cut or left out, and a warning says so.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut record = self.clone();
        record.phase = clip(&record.phase, MAX_LINE);
        record.warnings.truncate(MAX_WARNINGS);
        for warning in &mut record.warnings {
            *warning = clip(warning, MAX_LINE);
        }
        record.text = record.text.map(|text| clip(&text, MAX_TEXT));
        for value in [&mut record.result, &mut record.error] {
            if value
                .as_ref()
                .is_some_and(|value| value.to_string().len() > MAX_RESULT)
            {
                *value = None;
                record
                    .warnings
                    .push("the answer was too long to be kept here".into());
            }
        }
        // Control characters are escaped: people open these files in a pager.
        json(&record).map(String::into_bytes).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot write a job's record").with_source(error)
        })
    }

    /// The record without all but how the job ended, in `room` bytes: where there is no space for
    /// more.
    pub(super) fn encode_short(&self, room: usize) -> Option<Vec<u8>> {
        let short = Self {
            args: Vec::new(),
            phase: clip(&self.phase, 40),
            text: None,
            warnings: Vec::new(),
            ..self.clone()
        };
        let bare = Self {
            result: None,
            error: None,
            ..short.clone()
        };
        [short, bare].iter().find_map(|record| {
            let mut bytes = json(record).ok()?.into_bytes();
            (bytes.len() <= room).then(|| {
                // Fill the room, so that nothing of the old record is left.
                bytes.resize(room, b' ');
                bytes
            })
        })
    }

    /// Decodes the record of `job`.
    pub(super) fn decode(bytes: &[u8], job: JobId) -> Result<Self> {
        let wrong = |what: &str| {
            let what = format!("the record of job {job} {what}");
            Error::new(ErrorKind::Failed, what).with_hint("its file can be removed")
        };
        let record: Self = from_json(bytes, MAX_VALUES)
            .map_err(|why| wrong("cannot be understood").with_source(why))?;
        if record.version != VERSION {
            return Err(wrong("is of another version"));
        }
        if record.job != job {
            return Err(wrong("is that of another job"));
        }
        Ok(record)
    }
}

/// Whether a flag's name sounds like that of a secret.
fn names_secret(name: &str) -> bool {
    let words = ["password", "passphrase", "secret", "token"];
    name.starts_with("--") && !name.ends_with("-file") && words.iter().any(|w| name.contains(w))
}

/// All of them so; what stands alone after such a flag is its value.
fn shown_all(args: &[String]) -> Vec<String> {
    let is_value = |at: usize| at > 0 && !args[at - 1].contains('=') && names_secret(&args[at - 1]);
    let each = args.iter().enumerate();
    each.map(|(at, arg)| match is_value(at) {
        true => "***".into(),
        false => shown(arg),
    })
    .collect()
}

/// The argument without what could be a secret: the user part of a URL, and the value of a flag
/// whose name sounds like one.
fn shown(arg: &str) -> String {
    let flag = arg.split_once('=').filter(|(name, _)| names_secret(name));
    if let Some((name, _)) = flag {
        return format!("{name}=***");
    }
    let hidden = arg.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find('/').unwrap_or(rest.len());
        let at = rest.get(..end)?.rfind('@')?;
        Some(format!("{scheme}://***{}", rest.get(at..)?))
    });
    clip(&hidden.unwrap_or_else(|| arg.into()), MAX_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> JobRecord {
        let id = JobId::generate(Timestamp::now()).unwrap();
        let me = JobProcess::of(std::process::id()).unwrap();
        JobRecord::new(id, me, "snapshot", &["snapshot".into(), "vda".into()])
    }

    #[test]
    fn a_record_comes_back_and_is_of_its_job_alone() {
        let record = record();
        let bytes = record.encode().unwrap();
        assert_eq!(JobRecord::decode(&bytes, record.job).unwrap(), record);
        let other = JobId::generate(Timestamp::now()).unwrap();
        assert!(JobRecord::decode(&bytes, other).is_err());
        let newer = JobRecord {
            version: VERSION + 1,
            ..record.clone()
        };
        assert!(JobRecord::decode(&newer.encode().unwrap(), record.job).is_err());
        assert!(JobRecord::decode(&bytes[..bytes.len() / 2], record.job).is_err());
    }

    #[test]
    fn whatever_it_is_given_it_stays_short_enough_to_be_read() {
        let long = "ä".repeat(MAX_RECORD);
        let mut record = record();
        record.args = vec![shown(&long); MAX_ARGS];
        record.command = record.args[0].clone();
        record.warnings = vec!["w".repeat(5000); 5000];
        record.phase = long.clone();
        record.text = Some(long.clone());
        record.result = Some(Value::String(long.clone()));
        record.error = Some(Value::String(long));
        let bytes = record.encode().unwrap();
        assert!(bytes.len() < MAX_RECORD, "{}", bytes.len());
        let back = JobRecord::decode(&bytes, record.job).unwrap();
        assert!(back.warnings.last().unwrap().contains("too long"));
        assert_eq!(back.result, None);
    }

    #[test]
    fn the_short_form_fits_and_says_how_it_ended() {
        let mut record = record();
        record.state = JobState::Failed;
        record.exit_code = Some(1);
        record.warnings = vec!["x".repeat(900); 60];
        record.result = Some(Value::String("y".repeat(3000)));
        let bytes = record.encode_short(1000).unwrap();
        assert_eq!(bytes.len(), 1000);
        let back = JobRecord::decode(&bytes, record.job).unwrap();
        assert_eq!((back.state, back.exit_code), (JobState::Failed, Some(1)));
        assert_eq!(record.encode_short(10), None);
    }

    #[test]
    fn secrets_are_not_written_down() {
        for (given, kept) in [
            ("vda", "vda"),
            ("s3://bucket/prefix", "s3://bucket/prefix"),
            ("s3://key:geheim@host/b@c", "s3://***@host/b@c"),
            ("--vault=s3://a:geheim@b", "--vault=s3://***@b"),
            ("--password=geheim", "--password=***"),
            ("--password-file=/etc/x", "--password-file=/etc/x"),
        ] {
            assert_eq!(shown(given), kept);
        }
        let line = ["list", "--password-command", "echo geheim", "--json"];
        let line = line.map(String::from);
        assert_eq!(shown_all(&line)[1..3], ["--password-command", "***"]);
        assert_eq!(
            (&*shown_all(&line)[0], &*shown_all(&line)[3]),
            ("list", "--json")
        );
    }
}
