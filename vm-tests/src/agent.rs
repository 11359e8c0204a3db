//! qemu-guest-agent: commands run in the guest exactly as a cloud's assistant runs them, as root by
//! `sh -c`, with no terminal. It must never take silence for success.

use crate::channel::Channel;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one answer of the agent may take; the guest has no hardware to run on.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command in the guest left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; a signal's number plus 128.
    pub code: i64,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Output {
    /// It ended with this code.
    pub fn expect(self, code: i64) -> Result<Self> {
        ensure!(
            self.code == code,
            "exit code {} instead of {code}\n{}\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// The document it printed.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("not JSON: {}\n{}", self.stdout, self.stderr))
    }
}

/// A command that runs in the guest.
#[derive(Clone, Copy, Debug)]
pub struct Job(i64);

/// The agent of one guest.
pub struct Agent {
    path: PathBuf,
    channel: Option<Channel>,
    count: u64,
}

impl Agent {
    /// Knows where to find it; nothing is said yet.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.into(),
            channel: None,
            count: u64::from(std::process::id()) << 16,
        }
    }

    /// Waits until it answers; `alive` tells whether there is any hope.
    pub fn wait(
        &mut self,
        patience: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            alive()?;
            if self.greet().is_ok() {
                return Ok(());
            }
            self.channel = None;
            ensure!(
                Instant::now() < end,
                "the guest's agent is silent for {patience:?}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn greet(&mut self) -> Result<()> {
        self.count += 1;
        let id = self.count;
        let mut channel = Channel::open(&self.path, Duration::from_secs(1))?;
        let hello = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
        channel.send(&[0xff], &hello)?;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            // Answers to what an earlier connection asked come first.
            if channel.receive(Duration::from_secs(2))?["return"] == id {
                self.channel = Some(channel);
                return Ok(());
            }
        }
        bail!("no answer to hello")
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let channel = self
            .channel
            .as_mut()
            .context("the agent has not answered yet")?;
        let document = json!({"execute": command, "arguments": arguments});
        channel.send(b"", &document)?;
        let mut answer = channel.receive(PATIENCE)?;
        if let Some(error) = answer.get("error") {
            bail!("{document}: {error}");
        }
        Ok(answer["return"].take())
    }

    /// Starts a script and does not wait.
    pub fn start(&mut self, script: &str) -> Result<Job> {
        let arguments = json!({
            "path": "/bin/sh", "arg": ["-c", script], "capture-output": true,
            "env": ["PATH=/opt/stillpoint:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                    "HOME=/root"],
        });
        let answer = self.ask("guest-exec", arguments)?;
        Ok(Job(answer["pid"].as_i64().context("no pid")?))
    }

    /// What a script left behind, if it has ended.
    pub fn poll(&mut self, job: Job) -> Result<Option<Output>> {
        let state = self.ask("guest-exec-status", json!({"pid": job.0}))?;
        if state["exited"] != true {
            return Ok(None);
        }
        let text = |key: &str| {
            let bytes = BASE64_STANDARD
                .decode(state[key].as_str().unwrap_or_default())
                .unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let signal = state["signal"].as_i64().map(|signal| 128 + signal);
        let code = signal.or(state["exitcode"].as_i64());
        Ok(Some(Output {
            code: code.context("ended with neither a code nor a signal")?,
            stdout: text("out-data"),
            stderr: text("err-data"),
        }))
    }

    /// Waits for a script.
    pub fn wait_for(&mut self, job: Job, patience: Duration) -> Result<Output> {
        let end = Instant::now() + patience;
        let mut pause = Duration::from_millis(20);
        loop {
            if let Some(output) = self.poll(job)? {
                return Ok(output);
            }
            ensure!(Instant::now() < end, "it still runs after {patience:?}");
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    }

    /// Sets the guest's clock to the host's: a saved state's stands still.
    pub fn set_time(&mut self) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let nanoseconds = i64::try_from(now.as_nanos())?;
        self.ask("guest-set-time", json!({"time": nanoseconds}))?;
        Ok(())
    }
}
