//! JSON lines over a UNIX socket: how QEMU's monitor and its guest agent are spoken to. It must
//! never wait without an end.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// One connection.
pub struct Channel {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Channel {
    /// Connects, waiting for the socket to be there.
    pub fn open(path: &Path, patience: Duration) -> Result<Self> {
        let end = Instant::now() + patience;
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    return Ok(Self {
                        stream,
                        buffer: Vec::new(),
                    });
                }
                Err(error) if Instant::now() > end => {
                    return Err(error).with_context(|| format!("connect to {}", path.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Sends one document, `prefix` before it.
    pub fn send(&mut self, prefix: &[u8], document: &Value) -> Result<()> {
        let mut line = prefix.to_vec();
        line.extend(document.to_string().as_bytes());
        line.push(b'\n');
        self.stream.write_all(&line).context("send")
    }

    /// The next line, without what comes before the last 0xff: the agent's mark of a new start.
    pub fn line(&mut self, patience: Duration) -> Result<Vec<u8>> {
        let end = Instant::now() + patience;
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                line.pop();
                let start = line.iter().rposition(|byte| *byte == 0xff);
                return Ok(line.split_off(start.map_or(0, |at| at + 1)));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no answer within {patience:?}");
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut part = [0; 65536];
            match self.stream.read(&mut part) {
                Ok(0) => bail!("the other end is gone"),
                Ok(count) => self.buffer.extend(&part[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock
                            | std::io::ErrorKind::TimedOut
                            | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("receive"),
            }
        }
    }

    /// The next document.
    pub fn receive(&mut self, patience: Duration) -> Result<Value> {
        let line = self.line(patience)?;
        serde_json::from_slice(&line)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&line)))
    }
}
