//! Moves this process to a transient scope of systemd, so that it outlives the service that started
//! it. Best effort, in bounded time: the job has a control group of its own without it, too.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Exists where systemd runs: sd_booted(3).
const RUNS: &str = "/run/systemd/system";
/// Where its command may be; `PATH` is never searched.
const PROGRAMS: [&str; 2] = ["/usr/bin/busctl", "/bin/busctl"];
/// How long systemd may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Whether systemd manages this host.
pub fn is_managed() -> bool {
    Path::new(RUNS).is_dir()
}

/// Moves this process to a scope of that name. The error says why it could not.
pub fn enter(name: &str) -> Result<(), String> {
    let program = PROGRAMS.iter().find(|path| Path::new(path).exists());
    let program = program.ok_or("there is no busctl")?;
    ask(Command::new(program).args(call(name, std::process::id())))?;
    // The call returns when systemd's job is queued, not when it is done.
    let until = Instant::now() + WITHIN;
    while !is_in(name) {
        if Instant::now() > until {
            return Err("systemd did not move it".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn is_in(name: &str) -> bool {
    // Names of control groups need not be UTF-8.
    let groups = std::fs::read("/proc/self/cgroup").unwrap_or_default();
    let end = format!("/{name}");
    let mut lines = groups.split(|byte| *byte == b'\n');
    lines.any(|line| line.ends_with(end.as_bytes()))
}

fn ask(command: &mut Command) -> Result<(), String> {
    let null = || Stdio::null();
    let child = command.stdin(null()).stdout(null()).stderr(null()).spawn();
    let mut child = child.map_err(|error| format!("busctl does not start: {error}"))?;
    let until = Instant::now() + WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("busctl: {status}")),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            other => {
                // If it cannot be killed, it is gone already.
                let _ = child.kill();
                let _ = child.wait();
                return Err(other.map_or_else(
                    |error| format!("busctl: {error}"),
                    |_| "systemd does not answer".into(),
                ));
            }
        }
    }
}

/// `StartTransientUnit(in s name, in s mode, in a(sv) properties, in a(sa(sv)) aux)`:
/// org.freedesktop.systemd1(5).
fn call(name: &str, pid: u32) -> Vec<String> {
    let pid = pid.to_string();
    [
        "--system",
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        name,
        "fail",
        "2",
        "PIDs",
        "au",
        "1",
        &pid,
        "Description",
        "s",
        "stillpoint job",
        "0",
    ]
    .map(String::from)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_has_as_many_words_as_its_signature_wants() {
        let words = call("stillpoint-job-X.scope", 17).join(" ");
        assert!(words.ends_with(
            "ssa(sv)a(sa(sv)) stillpoint-job-X.scope fail \
             2 PIDs au 1 17 Description s stillpoint job 0"
        ));
    }

    #[test]
    fn a_systemd_that_fails_or_does_not_answer_holds_nobody_up() {
        assert!(ask(&mut Command::new("/bin/true")).is_ok());
        assert!(
            ask(&mut Command::new("/bin/false"))
                .unwrap_err()
                .contains("exit status")
        );
        assert!(
            ask(&mut Command::new("/no/such"))
                .unwrap_err()
                .contains("does not start")
        );
        let hung = ask(Command::new("/bin/sleep").arg("1000")).unwrap_err();
        assert!(hung.contains("does not answer"), "{hung}");
        assert!(!is_in("stillpoint-job-X.scope"));
    }
}
