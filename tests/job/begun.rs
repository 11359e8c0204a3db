//! How a job begins on a host that is busy.

use crate::cli::lab::{Lab, finish};

/// The job's process gets to its first instruction after the second in which a starter usually
/// returns.
#[test]
fn a_job_that_is_slow_to_begin_begins() {
    let Some(lab) = Lab::with_vault("job: slow to begin") else {
        return;
    };
    let slow = "inject=execve:delay_enter=2000000";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"];
    let strace = [&strace[..], &["trace=execve", "-e", slow]].concat();
    let args = ["verify", "--all", "--detach", "--json"];
    let started = finish(&mut lab.command_with(&strace, &args)).expect(0);
    let id = started.json()["job"].as_str().unwrap().to_owned();
    lab.run(&["job", "wait", &id]).expect(0);
}
