//! QEMU's monitor: questions and answers in JSON, line by line, and events in between. Who runs a
//! hostile guest may have been taken over by it: what it says is bounded, and so is each wait.

use crate::error::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{ErrorKind as IoKind, Read, Write};
use std::os::unix::net::UnixStream;

/// The longest line.
const MOST_SAID: usize = 256 << 10;
/// Most events that wait to be looked at.
const MOST_EVENTS: usize = 100;
/// Those that are looked at.
const EVENTS: [&str; 3] = ["RESET", "SHUTDOWN", "STOP"];

/// Something that has happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QmpEvent {
    /// `RESET`, `SHUTDOWN` or `STOP`.
    pub name: &'static str,
    /// Whether the guest has done it.
    pub by_guest: bool,
}

/// A monitor that is talked to.
pub(super) struct QmpChannel {
    socket: UnixStream,
    said: Vec<u8>,
    answer: Option<Value>,
    events: VecDeque<QmpEvent>,
    /// The number of what was asked last.
    asked: u64,
    version: Option<String>,
    has_ended: bool,
}

impl QmpChannel {
    /// Of a socket, which is not waited for.
    pub(super) fn new(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            said: Vec::new(),
            answer: None,
            events: VecDeque::new(),
            asked: 0,
            version: None,
            has_ended: false,
        })
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// QEMU's version, once it has said it.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether nobody is at its other end any more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Asks. The answer comes by and by.
    pub(super) fn ask(&mut self, command: &str, arguments: &Value) -> Result<()> {
        self.answer = None;
        self.asked += 1;
        let line = json!({"execute": command, "arguments": arguments, "id": self.asked});
        // It is short, and nothing else waits in the socket.
        let written = self.socket.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| {
            Error::new(ErrorKind::Failed, "QEMU's monitor takes no question").with_source(error)
        })
    }

    /// The answer to what was asked last: what it returns, or why not.
    pub(super) fn take_answer(&mut self) -> Option<Result<Value, String>> {
        let mut answer = self.answer.take()?;
        Some(match answer.get("error") {
            Some(error) => Err(error["desc"].as_str().unwrap_or("no reason").to_owned()),
            None => Ok(answer["return"].take()),
        })
    }

    /// The next event.
    pub(super) fn take_event(&mut self) -> Option<QmpEvent> {
        self.events.pop_front()
    }

    /// Takes what was said meanwhile, without waiting.
    pub(super) fn listen(&mut self) {
        let mut buffer = [0; 16 << 10];
        // No more than that in one go: others speak, too.
        for _ in 0..64 {
            match self.socket.read(&mut buffer) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    self.said
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                    self.take_lines();
                    continue;
                }
                Err(error) if error.kind() == IoKind::WouldBlock => {}
                Err(error) if error.kind() == IoKind::Interrupted => continue,
                Err(_) => self.has_ended = true,
            }
            return;
        }
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.said.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            let Ok(said) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            if let Some(version) = said["QMP"]["version"]["qemu"].as_object() {
                let number = |part: &str| version.get(part).and_then(Value::as_u64).unwrap_or(0);
                let [major, minor, micro] = ["major", "minor", "micro"].map(number);
                self.version = Some(format!("{major}.{minor}.{micro}"));
            } else if let Some(event) = said["event"].as_str() {
                let name = EVENTS.into_iter().find(|known| *known == event);
                let by_guest = said["data"]["guest"] == true;
                if let Some(name) = name.filter(|_| self.events.len() < MOST_EVENTS) {
                    self.events.push_back(QmpEvent { name, by_guest });
                }
            } else if said["id"] == self.asked {
                // An answer that comes late is none to what was asked since.
                self.answer = Some(said);
            }
        }
        if self.said.len() > MOST_SAID {
            self.said.clear();
            self.has_ended = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_events_are_told_apart_and_rubbish_is_passed_over() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut qmp = QmpChannel::new(ours).unwrap();
        let said = "{\"QMP\":{\"version\":{\"qemu\":{\"major\":10,\"minor\":0,\"micro\":2}}}}\r\n\
            rubbish\n{\"event\":\"RESET\",\"data\":{\"guest\":true}}\n{\"event\":\"RTC\"}\n\
            {\"return\":{\"status\":\"old\"},\"id\":7}\n\
            {\"return\":{\"status\":\"running\"},\"id\":0}\n{\"ev";
        theirs.write_all(said.as_bytes()).unwrap();
        qmp.listen();
        assert_eq!(qmp.version(), Some("10.0.2"));
        let event = qmp.take_event().unwrap();
        assert!(event.name == "RESET" && event.by_guest);
        assert!(qmp.take_event().is_none() && !qmp.has_ended());
        assert_eq!(qmp.take_answer().unwrap().unwrap()["status"], "running");
        theirs
            .write_all(b"ent\":1}\n{\"error\":{\"desc\":\"no\"},\"id\":0}\n")
            .unwrap();
        qmp.listen();
        assert_eq!(qmp.take_answer().unwrap().unwrap_err(), "no");
        drop(theirs);
        qmp.listen();
        assert!(qmp.has_ended());
    }

    #[test]
    fn a_line_without_an_end_ends_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut qmp = QmpChannel::new(ours).unwrap();
        for _ in 0..1000 {
            let _ = theirs.write(&[b'x'; 16 << 10]);
            qmp.listen();
            assert!(qmp.said.len() <= MOST_SAID + (1 << 20));
        }
        assert!(qmp.has_ended());
    }
}
