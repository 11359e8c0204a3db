//! Programs that tell somebody how a run went: the operator's script, which must qualify as a hook
//! does, and what hands over mail. Each has a message to read, a clean environment, a process group
//! of its own and a time limit. No shell takes part, and no argument is made of a message.

use super::execute::{
    ExecuteOptions, HookEnd, HookRun, RunningProgram, Surroundings, execute, surround,
};
use super::script::{Script, Unfit};
use crate::sys::process::die_with_starter;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Most bytes of what a program said that are told.
const MOST_SAID: usize = 200;
/// The exit code of who wants to be asked again later.
const LATER: i32 = 75;

/// Why a program did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TellerFault {
    /// It was not run, or has asked to be run again later (75, `EX_TEMPFAIL` of sysexits.h).
    NotYet(String),
    /// It has run, and whatever it did is done.
    Ended(String),
}

/// What a program is given.
pub struct TellerCall<'a> {
    /// What it reads.
    pub message: &'a [u8],
    /// What it finds in its environment, beside what every hook does.
    pub environment: &'a [(String, String)],
    /// So long it may take.
    pub timeout: Duration,
    /// Whether to give it up.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// Runs the operator's script. The error says why it did not do what it was to do.
///
/// # Errors
/// It does not qualify, or did not end well.
pub fn run_teller(path: &Path, call: &TellerCall<'_>) -> std::result::Result<(), TellerFault> {
    let script = Script::open(path).map_err(|unfit| {
        TellerFault::NotYet(match unfit {
            Unfit::Absent => "there is none".to_owned(),
            Unfit::Rejected(why) => why,
        })
    })?;
    let options = ExecuteOptions {
        environment: call.environment,
        timeout: call.timeout,
        dies_with_us: true,
        surroundings: Surroundings::Host,
        input: Some(input(call.message).map_err(|error| not_started(&error))?),
    };
    let run = execute(&script, &options, &mut |_| (), &mut || (call.cancelled)());
    verdict(&run)
}

/// Runs a program with these arguments.
///
/// # Errors
/// It cannot be run, or did not end well.
pub fn hand_over(
    program: &Path,
    args: &[&str],
    call: &TellerCall<'_>,
) -> std::result::Result<(), TellerFault> {
    let begun = Instant::now();
    let mut command = Command::new(program);
    let started = surround(&mut command).and_then(|reader| {
        command.args(args).stdin(input(call.message)?);
        die_with_starter(&mut command);
        let child = Surroundings::Host.spawn(&mut command)?;
        Ok(RunningProgram {
            child,
            reader,
            begun,
        })
    });
    let running = started.map_err(|error| not_started(&error))?;
    verdict(&running.wait(call.timeout, &mut || (call.cancelled)()))
}

/// A message as a file in memory: nobody waits for who reads slowly.
fn input(message: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"stillpoint-told", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(message)?;
    file.rewind()?;
    Ok(file)
}

fn not_started(error: &std::io::Error) -> TellerFault {
    TellerFault::NotYet(format!("it cannot be started: {error}"))
}

fn verdict(run: &HookRun) -> std::result::Result<(), TellerFault> {
    let why = match &run.end {
        HookEnd::Exited(0) => return Ok(()),
        HookEnd::Exited(code) => format!("it exited with {code}"),
        HookEnd::Signalled(signal) => format!("it was ended by signal {signal}"),
        HookEnd::TimedOut(seconds) => format!("it took longer than {seconds} s, and was ended"),
        HookEnd::Cancelled => "it was stopped".into(),
        HookEnd::NotStarted(why) => why.clone(),
    };
    let said = run.output.trim().lines().last().unwrap_or_default();
    let said: String = said.chars().take(MOST_SAID).collect();
    let why = match said.is_empty() {
        true => why,
        false => format!("{why}; it said: {said}"),
    };
    Err(match run.end {
        HookEnd::Exited(LATER) | HookEnd::Cancelled | HookEnd::NotStarted(_) => {
            TellerFault::NotYet(why)
        }
        _ => TellerFault::Ended(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<'a>(message: &'a [u8], timeout: Duration) -> TellerCall<'a> {
        TellerCall {
            message,
            environment: &[],
            timeout,
            cancelled: &|| false,
        }
    }

    #[test]
    fn a_program_reads_the_message_and_its_end_is_told() {
        let long = Duration::from_secs(30);
        let cat = Path::new("/usr/bin/grep");
        let found = hand_over(cat, &["-q", "^word$"], &call(b"a\nword\n", long));
        assert_eq!(found, Ok(()));
        let other = hand_over(cat, &["-q", "^other$"], &call(b"a\nword\n", long));
        assert_eq!(other, Err(TellerFault::Ended("it exited with 1".into())));
        let gone = hand_over(Path::new("/nowhere/x"), &[], &call(b"", long)).unwrap_err();
        assert!(matches!(gone, TellerFault::NotYet(_)), "{gone:?}");
        let later = hand_over(Path::new("/bin/sh"), &["-c", "exit 75"], &call(b"", long));
        assert!(matches!(later, Err(TellerFault::NotYet(_))), "{later:?}");
    }

    /// What it has started ends with it, and what it says without end is not kept.
    #[test]
    fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let shell = Path::new("/bin/sh");
        let script = "trap '' TERM; yes & while :; do sleep 1; done";
        let late = hand_over(
            shell,
            &["-c", script],
            &call(b"", Duration::from_millis(200)),
        );
        let Err(TellerFault::Ended(late)) = late else {
            panic!("{late:?}");
        };
        assert!(late.starts_with("it took longer than 0 s"), "{late}");
        assert!(late.len() < 400, "{late}");
    }

    #[test]
    fn a_script_that_others_could_have_written_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tell.sh");
        std::fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        let told = call(b"", Duration::from_secs(30));
        assert!(run_teller(&path, &told).is_err(), "its mode is 0644");
        let absent = run_teller(&dir.path().join("none"), &told);
        assert_eq!(absent, Err(TellerFault::NotYet("there is none".into())));
    }
}
