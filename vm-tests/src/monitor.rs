//! QEMU's monitor (QMP): plug, unplug, save, load, kill. Events that come between answers are kept.

use crate::channel::Channel;
use crate::disk::Disk;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long QEMU may take to answer a command.
const PATIENCE: Duration = Duration::from_secs(60);

/// The monitor of one machine.
pub struct Monitor {
    channel: Channel,
    events: Vec<Value>,
}

impl Monitor {
    /// Connects and says hello.
    pub fn open(path: &Path) -> Result<Self> {
        let mut channel = Channel::open(path, PATIENCE)?;
        channel.receive(PATIENCE)?;
        let mut monitor = Self {
            channel,
            events: Vec::new(),
        };
        monitor.ask("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Executes a command and gives its answer.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let document = json!({"execute": command, "arguments": arguments});
        self.channel.send(b"", &document)?;
        loop {
            let mut answer = self.channel.receive(PATIENCE)?;
            if answer.get("event").is_some() {
                self.events.push(answer);
            } else if let Some(error) = answer.get("error") {
                bail!("{document}: {error}");
            } else {
                return Ok(answer["return"].take());
            }
        }
    }

    /// Waits for an event that has come or will; takes it.
    pub fn event(
        &mut self,
        name: &str,
        patience: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + patience;
        loop {
            let found = self
                .events
                .iter()
                .position(|event| event["event"] == name && fits(event));
            if let Some(at) = found {
                return Ok(self.events.remove(at));
            }
            let left = end.saturating_duration_since(Instant::now());
            let event = self.channel.receive(left)?;
            self.events.push(event);
        }
    }

    /// Moves a drive of a running machine onto a device, which may be larger, and goes on there: by
    /// the very lines that `stillpoint help rescue` tells a person to type.
    pub fn move_drive(&mut self, drive: &str, to: &str, patience: Duration) -> Result<()> {
        let shown = self.type_in(&format!("info block -v {drive}"))?;
        let size = shown.split_once("virtual size:").and_then(|(_, rest)| {
            let rest = rest.split_once('(')?.1;
            rest.split_once(" bytes)").map(|(size, _)| size)
        });
        let size = size.with_context(|| format!("no size: {shown}"))?;
        let target = format!(
            "json:{{\"driver\":\"raw\",\"size\":{size},\"file\":\
             {{\"driver\":\"host_device\",\"filename\":\"{to}\"}}}}"
        );
        for (line, is_done) in [
            (format!("drive_mirror -n -f {drive} {target} raw"), false),
            (format!("block_job_complete {drive}"), true),
        ] {
            let said = self.type_in(&line)?;
            ensure!(said.is_empty(), "{line}: {said}");
            match is_done {
                false => self.job_is_ready(drive, patience)?,
                true => self.job_has_completed(drive, patience)?,
            }
        }
        Ok(())
    }

    /// Moves a plugged disk onto another one while the machine runs, and goes on there.
    pub fn move_disk(&mut self, from: &Disk, to: &Disk, patience: Duration) -> Result<()> {
        let job = format!("move-{}", to.name);
        let (from, node) = (from.node(), to.node());
        self.ask("blockdev-add", node.clone())?;
        let arguments = json!({"job-id": job, "device": from["node-name"],
            "target": node["node-name"], "sync": "full"});
        self.ask("blockdev-mirror", arguments)?;
        self.job_is_ready(&job, patience)?;
        self.ask("block-job-complete", json!({"device": job}))?;
        self.job_has_completed(&job, patience)?;
        // It is not used any more, and still connected.
        self.ask("blockdev-del", json!({"node-name": from["node-name"]}))?;
        Ok(())
    }

    /// Types a line of the monitor that people use; what it says.
    fn type_in(&mut self, line: &str) -> Result<String> {
        let said = self.ask("human-monitor-command", json!({"command-line": line}))?;
        let said = said.as_str().context("no text")?;
        Ok(said.trim().to_owned())
    }

    fn job_is_ready(&mut self, job: &str, patience: Duration) -> Result<()> {
        self.event("BLOCK_JOB_READY", patience, |event| {
            event["data"]["device"] == job
        })?;
        Ok(())
    }

    fn job_has_completed(&mut self, job: &str, patience: Duration) -> Result<()> {
        let ended = self.event("BLOCK_JOB_COMPLETED", patience, |event| {
            event["data"]["device"] == job
        })?;
        match ended["data"].get("error") {
            Some(error) => bail!("{job} did not move: {error}"),
            None => Ok(()),
        }
    }

    /// Waits until the machine's state is saved or loaded.
    pub fn migrated(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let state = self.ask("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("the state did not move: {state}"),
                _ if Instant::now() > end => bail!("the state still moves: {state}"),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
