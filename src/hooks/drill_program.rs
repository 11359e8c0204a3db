//! Programs that a drill runs: those that check a filesystem, and the operator's script, which
//! must qualify as a hook does. Each is alone: no network, no processes but its own, a clean
//! environment, nothing to read and a time limit. What it has started ends with it.

use super::execute::{
    ExecuteOptions, HookEnd, HookRun, RunningProgram, Surroundings, execute, surround,
};
use super::script::{Script, Unfit};
use crate::error::{Error, ErrorKind, Result};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a program may run.
pub struct ProgramLimits<'a> {
    /// So long at most.
    pub timeout: Duration,
    /// Whether the run was given up.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramEnd {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// How it ended, in words: `it exited with 4`.
    pub how: String,
    /// The end of what it said.
    pub output: String,
    /// How long it ran.
    pub took: Duration,
}

impl ProgramEnd {
    fn of(run: HookRun, limits: &ProgramLimits<'_>) -> Self {
        let (code, how) = match run.end {
            HookEnd::Exited(code) => (Some(code), format!("it exited with {code}")),
            HookEnd::Signalled(signal) => (None, format!("it was ended by signal {signal}")),
            HookEnd::TimedOut(_) => (
                None,
                format!(
                    "it took longer than the {:.1} s that were left",
                    limits.timeout.as_secs_f64()
                ),
            ),
            HookEnd::Cancelled => (None, "the drill was stopped".to_owned()),
            HookEnd::NotStarted(why) => (None, why),
        };
        Self {
            code,
            how,
            output: run.output,
            took: run.took,
        }
    }
}

/// Runs a program that is looked for where programs are. `None`: this host has none of that name.
pub fn run_program(name: &str, args: &[&str], limits: &ProgramLimits<'_>) -> Option<ProgramEnd> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    let path = paths.find(|path| path.exists())?;
    let begun = Instant::now();
    let mut command = Command::new(path);
    let started = surround(&mut command).and_then(|reader| {
        command.args(args);
        let child = Surroundings::Apart.spawn(&mut command)?;
        Ok(RunningProgram {
            child,
            reader,
            begun,
        })
    });
    let run = match started {
        Ok(running) => running.wait(limits.timeout, &mut || (limits.cancelled)()),
        Err(error) => HookRun::not_started(&format!("it cannot be started: {error}")),
    };
    Some(ProgramEnd::of(run, limits))
}

/// Refuses a script that [`run_check`] would not run.
///
/// # Errors
/// `Usage`: it does not qualify.
pub fn qualify_check(path: &Path) -> Result<()> {
    open_check(path).map(drop)
}

/// Runs the operator's script, with these in its environment.
///
/// # Errors
/// `Usage`: it does not qualify, and was not run.
pub fn run_check(
    path: &Path,
    environment: &[(String, String)],
    limits: &ProgramLimits<'_>,
) -> Result<ProgramEnd> {
    let script = open_check(path)?;
    let options = ExecuteOptions {
        environment,
        timeout: limits.timeout,
        // In surroundings of its own it does.
        dies_with_us: false,
        surroundings: Surroundings::Apart,
        input: None,
    };
    let run = execute(&script, &options, &mut |_| (), &mut || (limits.cancelled)());
    Ok(ProgramEnd::of(run, limits))
}

fn open_check(path: &Path) -> Result<Script> {
    Script::open(path).map_err(|unfit| {
        let why = match unfit {
            Unfit::Absent => "there is none".to_owned(),
            Unfit::Rejected(why) => why,
        };
        let what = format!("the check {} was not run: {why}", path.display());
        Error::new(ErrorKind::Usage, what).with_hint(
            "it must be a regular file of root's, mode 0700, that begins with #!, in folders where \
             root alone can rename it",
        )
    })
}
