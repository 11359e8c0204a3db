//! The real binary, with a vault, a run directory and pins of its own.

use super::{pace, run_dirs};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// What a run of the binary left behind.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Most memory that was resident, in bytes.
    pub peak_memory: u64,
}

impl Run {
    /// It ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Its standard output is one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect(&self.stdout)
    }
}

/// A place to run the binary in, of which nothing stays.
pub struct Cli {
    folder: TempDir,
    vault: String,
    pins: String,
}

impl Cli {
    pub fn new() -> Self {
        pace::before_a_capacity_is_set();
        let folder = tempfile::Builder::new()
            .prefix("stillpoint-cli-")
            .tempdir()
            .unwrap();
        run_dirs::make(&folder.path().join("run"));
        let vault = folder.path().join("vault").to_str().unwrap().to_owned();
        let pins = format!("test_{}", stillpoint::model::ObjectId::generate());
        Self {
            folder,
            vault,
            pins,
        }
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The vault's path.
    pub fn vault(&self) -> &str {
        &self.vault
    }

    /// The command, ready to be changed and started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillpoint"));
        command
            .args(args)
            .env("STILLPOINT_VAULT", &self.vault)
            .env("STILLPOINT_PIN_NAME", &self.pins)
            .env("STILLPOINT_RUN_DIR", self.folder.path().join("run"))
            .env("STILLPOINT_JOB_DIR", self.folder.path().join("jobs"))
            .env("STILLPOINT_CACHE_DIR", self.folder.path().join("cache"))
            .env("STILLPOINT_PLAN_NOTES", self.folder.path().join("plans"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Run {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = collect(child.stderr.take().unwrap());
        let output = collect(child.stdout.take().unwrap());
        let mut peak_memory = 0;
        let status = loop {
            peak_memory = peak(child.id()).max(peak_memory);
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let (stdout, stderr) = (output.join().unwrap(), errors.join().unwrap());
        Run {
            code: status.code(),
            stdout,
            stderr,
            peak_memory,
        }
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        // What the test found matters more than whether this works.
        let _ = self.command(&["track", "stop"]).output();
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

/// `VmHWM` of a process: the most memory that was resident so far, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
