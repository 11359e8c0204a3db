//! The product as a cloud's assistant meets it: `sh -c` as root with an empty input, what is said
//! merged into one pipe of which but the end is kept, and a time-out that kills the shell alone.
//! Whatever that does, exit code, verdict and reasons are right, and nothing stays held.

mod killed;

use crate::cli::lab::{LONG, Lab, code_of, is_frozen};
use crate::hooks::Stage;
use crate::job::detached::Group;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io::{PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What is kept of all that was said, in bytes.
const TAIL: usize = 12_000;

/// What of a command is killed when its time is up.
enum Victim {
    /// The shell alone: what it has started goes on, and speaks into a pipe that nobody reads.
    Shell,
    /// Its process group.
    Group,
    /// Its control group.
    Cgroup(Group),
}

/// A command of the assistant's, while it runs.
struct Runner {
    shell: Child,
    pipe: Option<PipeReader>,
    tail: Vec<u8>,
    victim: Victim,
}

/// What the assistant reports of it.
#[derive(Debug)]
struct Report {
    /// The shell's exit code; a death by a signal is its negative number.
    code: i32,
    tail: String,
}

impl Runner {
    /// Starts the program by a shell, which runs `script` with it as `"$@"`.
    fn start(lab: &Lab, script: &str, args: &[&str], victim: Victim) -> Self {
        // The shell stays: it does not become the program.
        let script =
            format!("[ -z \"$GROUP\" ] || echo $$ >\"$GROUP/cgroup.procs\"; {script}; exit $?");
        let mut command = lab.command_with(&["sh", "-c", &script, "sh"], args);
        let (pipe, writer) = std::io::pipe().unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL).unwrap());
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
        if let Victim::Cgroup(group) = &victim {
            command.env("GROUP", &group.0);
        }
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        Self {
            shell: command.spawn().unwrap(),
            pipe: Some(pipe),
            tail: Vec::new(),
            victim,
        }
    }

    fn usual(lab: &Lab, args: &[&str]) -> Report {
        Self::start(lab, "\"$@\"", args, Victim::Shell).report()
    }

    /// Takes in what was said since; but the end is kept.
    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(Ok(count @ 1..)) = self.pipe.as_mut().map(|pipe| pipe.read(&mut bytes)) {
            self.tail.extend(&bytes[..count]);
            let more = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..more);
        }
    }

    fn said(&mut self) -> String {
        self.listen();
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    /// Waits for something, but not for ever; the shell must not end before.
    fn until(&mut self, mut so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + LONG;
        while !so(self) {
            let said = self.said();
            let ended = self.shell.try_wait().unwrap();
            assert!(ended.is_none(), "ended before: {ended:?}: {said}");
            assert!(Instant::now() < until, "never comes to this: {said}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// To its end.
    fn report(mut self) -> Report {
        let until = Instant::now() + LONG;
        let status = loop {
            self.listen();
            if let Some(status) = self.shell.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "no end: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        };
        let (code, tail) = (code_of(status), self.said());
        Report { code, tail }
    }

    /// Its time is up.
    fn time_out(mut self) -> Report {
        let shell = Pid::from_raw(self.shell.id().cast_signed());
        match &self.victim {
            Victim::Shell => kill(shell, Signal::SIGKILL).unwrap(),
            Victim::Group => killpg(shell, Signal::SIGKILL).unwrap(),
            Victim::Cgroup(group) => std::fs::write(group.0.join("cgroup.kill"), "1").unwrap(),
        }
        let code = code_of(self.shell.wait().unwrap());
        let tail = self.said();
        // The assistant goes, and with it who could read.
        self.pipe = None;
        Report { code, tail }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // When a test has failed: what is in the group still is not to be met by others.
        if std::thread::panicking() {
            let _ = killpg(
                Pid::from_raw(self.shell.id().cast_signed()),
                Signal::SIGKILL,
            );
            let _ = self.shell.wait();
        }
    }
}

impl Report {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// The last line.
    fn verdict(&self) -> &str {
        assert!(self.tail.ends_with('\n'), "{self:?}");
        self.tail.lines().last().unwrap()
    }
}

/// The file that lets a prescript go on, and one that waits for it.
fn waiting(stage: &Stage) -> (std::path::PathBuf, String) {
    let go = stage.lab.path("go");
    let wait = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
    (go, format!("note pre; {wait}; note held"))
}

/// The arguments of a snapshot with hooks, for people.
fn with_hooks(stage: &Stage, more: &[&'static str]) -> Vec<String> {
    let mut args = stage.args(&[more, &["--hook-timeout", "100s"]].concat());
    args.retain(|arg| arg != "--json");
    args
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn what_was_done_as_asked_ends_well_and_says_so_last() {
    let Some(stage) = Stage::new("runner: success") else {
        return;
    };
    stage.scripts(
        "head -c 50000 /dev/urandom | base64",
        "head -c 20000 /dev/zero",
    );
    for args in [
        vec![
            "snapshot".to_owned(),
            stage.disk.device.clone(),
            "-v".into(),
        ],
        with_hooks(&stage, &[]),
        with_hooks(&stage, &["-q"]),
    ] {
        // What others have said before pushes nothing of it out.
        let script = "head -c 50000 /dev/zero | tr '\\0' x; echo; \"$@\"";
        let runner = Runner::start(&stage.lab, script, &words(&args), Victim::Shell);
        let report = runner.report().expect(0);
        assert!(report.verdict().starts_with("snapshot 01"), "{report:?}");
        assert!(!report.tail.contains(['\u{1b}', '\r']), "{report:?}");
    }
    let list = Runner::usual(&stage.lab, &["list"]).expect(0);
    assert!(!list.tail.is_empty());
    let mut args = with_hooks(&stage, &[]);
    args.push("--json".into());
    let report = Runner::usual(&stage.lab, &words(&args)).expect(0);
    // All of it is there, though two hooks have said as much as they could: before it, on stderr.
    let document: serde_json::Value = serde_json::from_str(report.verdict()).unwrap();
    assert_eq!(document["level"], "application");
    stage.assert_sound();
    assert_eq!(stage.snapshots(), 4);
}

#[test]
fn what_was_done_below_what_was_asked_says_why() {
    let Some(stage) = Stage::new("runner: downgrade") else {
        return;
    };
    let args = with_hooks(&stage, &[]);
    let report = Runner::usual(&stage.lab, &words(&args)).expect(3);
    assert!(report.verdict().starts_with("snapshot 01"), "{report:?}");
    assert!(report.verdict().contains("level filesystem"), "{report:?}");
    for hook in ["prescript", "postscript"] {
        let why = |line: &str| line.contains(hook) && line.ends_with(": not run");
        assert!(report.tail.lines().any(why), "{hook}: {report:?}");
    }
    stage.scripts("note pre; exit 7", "note post");
    let report = Runner::usual(&stage.lab, &words(&args)).expect(3);
    assert!(report.verdict().contains("level filesystem"), "{report:?}");
    assert!(report.tail.contains("exit code 7"), "{report:?}");
    assert_eq!(stage.noted(), ["pre", "post"]);
    stage.assert_sound();
}

#[test]
fn what_failed_says_why_last() {
    let Some(stage) = Stage::new("runner: failure") else {
        return;
    };
    let vault = stage.lab.at("no-vault");
    let hooks = with_hooks(&stage, &["--on-hook-failure", "fail"]);
    let failing: [(Vec<&str>, i32, &str); 5] = [
        (vec!["snapshot", "no-such-disk"], 1, "no-such-disk"),
        (
            vec!["snapshot", &stage.disk.device, "--vault", &vault],
            1,
            "no-vault",
        ),
        (vec!["snapshot", "--no-such-flag"], 2, "--no-such-flag"),
        (
            vec!["snapshot", &stage.disk.device, "--tag", "x"],
            2,
            "KEY=VALUE",
        ),
        (words(&hooks), 1, "prescript"),
    ];
    for (args, code, why) in failing {
        let report = Runner::usual(&stage.lab, &args).expect(code);
        let verdict = report.verdict();
        assert!(verdict.starts_with("stillpoint: "), "{report:?}");
        assert!(verdict.contains(why), "{report:?}");
        let mut args = args.clone();
        args.push("--json");
        let report = Runner::usual(&stage.lab, &args).expect(code);
        let document: serde_json::Value = serde_json::from_str(&report.tail).unwrap();
        let said = document["error"]["message"].as_str().unwrap();
        assert!(said.contains(why), "{report:?}");
    }
    assert_eq!(stage.snapshots(), 0);
    assert!(!is_frozen(&stage.place));
}
