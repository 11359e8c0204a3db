//! QEMU's monitor (QMP): plug, unplug, save, load, kill. Events that come between answers are kept.

use crate::channel::Channel;
use anyhow::{Result, bail};
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
