//! `--detach`: the work goes on in a process that nothing which hits the starter hits too. The
//! starter answers within a second, whatever the disks do: it is the job's own process alone that
//! asks the vault and the job folder anything, and it is left behind where they do not answer.

use super::super::args::{Command, Common};
use super::super::context;
use super::super::dispatch;
use super::super::output::write_patiently;
use super::recorder::record_of_this;
use super::scope;
use super::starter::{Heard, Line, Word, as_error, nobody_waits};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::job::{JobFolder, JobId, State};
use crate::report::Report;
use crate::sys::cgroup::{OwnGroup, sweep};
use crate::sys::process::{close_from, in_own_session};
use jiff::Timestamp;
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a job waits for its vault, and for what else can be told soon, before it says that it
/// is there.
const STEP: Duration = Duration::from_millis(300);
/// When the answer is given at the latest, even if the job has not said yet that it runs.
const ANSWER: Duration = Duration::from_millis(900);
/// The program, also when its file has been replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";
/// How its control group and scope begin.
const GROUP: &str = "stillpoint-job-";

/// Starts the command as a job of its own.
pub fn detach(word: &str, command: &Command, common: &Common) -> Result<Report> {
    let until = Instant::now() + ANSWER;
    dispatch::check(command, common)?;
    if word == "snapshot" {
        context::need_root()?;
    }
    let path = super::folder_path(common)?;
    let id = JobId::generate(Timestamp::now())?;
    let mut line = spawn(id)?;
    let ended = || {
        let what = format!("job {id} ended before it began");
        let hint = format!("its log may say why: stillpoint job logs {id}");
        Error::new(ErrorKind::Failed, what).with_hint(hint)
    };
    match line.hear(until) {
        Heard::Word(Word::Known) => {}
        Heard::Word(Word::Refused {
            kind,
            message,
            hint,
        }) => return Err(as_error(&kind, message, hint)),
        // It takes back what it has begun when it finds that nobody waits for it.
        Heard::Nothing => return Err(refused(silent(&path))),
        Heard::Gone | Heard::Word(Word::Runs { .. }) => return Err(ended()),
    }
    line.go();
    let warnings = match line.hear(until) {
        Heard::Word(Word::Runs { warnings }) => warnings,
        // Its record is there: it tells the rest.
        Heard::Nothing => Vec::new(),
        Heard::Gone | Heard::Word(_) => return Err(ended()),
    };
    let text = format!("job {id} started; ask with: stillpoint job status {id}");
    let mut outcome = Report::done(json!({"job": id.to_string()}), text);
    warnings.iter().for_each(|warning| outcome.warn(warning));
    Ok(outcome)
}

fn spawn(id: JobId) -> Result<Line> {
    let program = Path::new(PROGRAM);
    let (line, theirs) = Line::pair().io_context("speak to", program)?;
    let mut command = std::process::Command::new(program);
    command
        .arg0("stillpoint")
        .arg(format!("--as-job={id}"))
        .args(without_detach(std::env::args_os().skip(1)))
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    in_own_session(&mut command);
    command.spawn().io_context("start", program)?;
    Ok(line)
}

/// The same arguments, to be worked on by whoever is started with them.
fn without_detach(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut only_names = false;
    args.filter(|arg| {
        // Behind `--` it is a name like any other.
        only_names |= arg == "--";
        only_names || arg != "--detach"
    })
    .collect()
}

fn silent(path: &Path) -> Error {
    let what = format!("the job folder {} does not answer", path.display());
    Error::new(ErrorKind::Io, what).with_hint("name another with --job-dir")
}

fn refused(error: Error) -> Error {
    error.context("cannot start a job of its own; nothing was done")
}

/// The answer, if there is one within this time.
fn within<T: Send + 'static>(
    time: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answers) = crossbeam_channel::bounded(1);
    let thread = std::thread::Builder::new().spawn(move || {
        // Whoever asked may have gone on.
        let _ = answer.send(ask());
    });
    thread.ok()?;
    answers.recv_timeout(time).ok()
}

/// What a detached process holds until its end.
pub struct Settled {
    groups: OwnGroup,
    /// What the user should know of it.
    pub warnings: Vec<String>,
}

impl Settled {
    /// Leaves its control group and removes it.
    pub fn leave(&self) {
        self.groups.leave();
    }
}

/// The first steps of a process started by [`detach`]: nothing inherited is kept, it makes its log
/// and its record, waits until its starter knows that, and moves out of the starter's control
/// group.
pub fn settle(id: JobId, command: &Command, common: &Common) -> Result<Settled> {
    close_from(3).io_context("close what was inherited", Path::new("/proc/self/fd"))?;
    // Only for those who look at the list of processes.
    let _ = nix::sys::prctl::set_name(c"stillpoint-job");
    let mut line = Line::of_stdin()?;
    let folder = match make_known(id, command, common) {
        Ok(folder) => folder,
        Err(error) => {
            line.say(&Word::refused(&error));
            return Err(error);
        }
    };
    line.say(&Word::Known);
    if !line.wait_for_go() {
        folder.remove(id);
        return Err(nobody_waits());
    }
    let settled = move_out(id);
    line.say(&Word::Runs {
        warnings: settled.warnings.clone(),
    });
    Ok(settled)
}

/// Makes the log and the record, and speaks to the log from here on.
fn make_known(id: JobId, command: &Command, common: &Common) -> Result<JobFolder> {
    let (vault, foresee) = (common.vault.clone(), dispatch::foresight(command));
    // What does not answer is waited for later.
    within(STEP, move || {
        let vault = context::open_named(vault.as_deref())?;
        foresee(&vault)
    })
    .unwrap_or(Ok(()))?;
    let word = command.job().map_or("", |(word, _)| word);
    let record = record_of_this(id, word, common, State::Starting)?;
    let begin = || {
        let folder = JobFolder::make(&super::folder_path(common)?)?;
        let begun = folder
            .create_log(id)
            .and_then(|log| speak_to(&log))
            .and_then(|()| folder.write(&record, false));
        match begun {
            Ok(()) => Ok(folder),
            Err(error) => {
                folder.remove(id);
                Err(error)
            }
        }
    };
    begin().map_err(refused)
}

fn speak_to(log: &File) -> Result<()> {
    nix::unistd::dup2_stdout(log)
        .and_then(|()| nix::unistd::dup2_stderr(log))
        .io_context("write to", Path::new("the log"))
}

/// Out of the control group of the starter, which may be ended with all that is in it.
fn move_out(id: JobId) -> Settled {
    sweep(GROUP);
    let (groups, moved) = OwnGroup::join(&format!("{GROUP}{id}"));
    let mut stays = moved.err();
    say(&match &stays {
        None => format!("job {id}: in a control group of its own"),
        Some(error) => format!("job {id}: in the control group of its starter: {error}"),
    });
    if scope::is_managed() {
        let name = format!("{GROUP}{id}.scope");
        say(&match scope::enter(&name) {
            Ok(()) => {
                stays = None;
                format!("job {id}: in the scope {name}")
            }
            Err(why) => format!("job {id}: in no scope of systemd: {why}"),
        });
    }
    let warnings = stays.map(|error| {
        format!(
            "the job could not leave the control group of its starter ({error}): whatever ends \
             that group ends the job too, with all that would thaw and let applications go"
        )
    });
    Settled {
        groups,
        warnings: warnings.into_iter().collect(),
    }
}

fn say(line: &str) {
    let patience = Duration::from_millis(500);
    let _ = write_patiently(std::io::stderr().as_fd(), &format!("{line}\n"), patience);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flag_goes() {
        let kept = |args: &[&str]| without_detach(args.iter().map(OsString::from));
        assert_eq!(kept(&["snapshot", "--detach", "vda"]), ["snapshot", "vda"]);
        assert_eq!(
            kept(&["snapshot", "--detach", "--", "--detach"]),
            ["snapshot", "--", "--detach"]
        );
    }

    #[test]
    fn what_does_not_answer_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (_keep, never) = crossbeam_channel::bounded::<()>(0);
        assert_eq!(within(Duration::from_millis(1), move || never.recv()), None);
    }
}
