//! Entries with fields in the system's journal, by its own protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram. It must never wait: who is not there or has no
//! room gets nothing.

use super::event::{EventKind, NotifyEvent};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where the journal listens.
pub const DEFAULT_SOCKET: &str = "/run/systemd/journal/socket";

/// What an event is to the journal: the number of its priority (syslog(3)), and the number by which
/// entries of this kind are found: never to be changed.
fn kind(event: EventKind) -> (u8, &'static str) {
    match event {
        EventKind::Failed => (3, "d2f0a6f15b3e4d2a9be6c1b7f3a80c11"),
        EventKind::Overdue => (3, "9a7c2b64e1f84a0d8d5c3e92b7d41f52"),
        EventKind::Warned => (4, "6e41c8d37f2b4b96a1c05d8e9f7a2b33"),
        EventKind::Recovered => (5, "3b9d5e7a20c64f18b7f2a6d41c8e5094"),
        EventKind::Test => (5, "c58a1f3e6d7b42e59c0b8f2d7a964ed5"),
    }
}

/// Tells the journal, if it listens at `socket`. Returns whether it took it.
pub fn tell_journal(socket: &Path, event: &NotifyEvent) -> bool {
    let sent = UnixDatagram::unbound().and_then(|from| {
        from.set_nonblocking(true)?;
        from.send_to(&entry(event), socket)
    });
    sent.is_ok()
}

fn entry(event: &NotifyEvent) -> Vec<u8> {
    let (priority, id) = kind(event.event);
    let message = match event.said.is_empty() {
        true => event.headline(),
        false => format!("{}: {}", event.headline(), event.said),
    };
    let fields = [
        ("MESSAGE", Some(message)),
        ("PRIORITY", Some(priority.to_string())),
        ("MESSAGE_ID", Some(id.to_owned())),
        ("SYSLOG_IDENTIFIER", Some("stillpoint".to_owned())),
        ("STILLPOINT_EVENT", Some(event.event.name().to_owned())),
        ("STILLPOINT_EVENT_ID", Some(event.id.clone())),
        ("STILLPOINT_PLAN", event.plan.clone()),
        ("STILLPOINT_STEP", event.step.clone()),
        ("STILLPOINT_STATE", Some(event.state.name().to_owned())),
        ("STILLPOINT_SINCE", Some(format!("{:.0}", event.since))),
        ("STILLPOINT_REMINDER", Some(event.reminder.to_string())),
        (
            "STILLPOINT_EXIT_CODE",
            event.exit_code.map(|code| code.to_string()),
        ),
        ("STILLPOINT_JOB", event.job.clone()),
        ("STILLPOINT_SNAPSHOT", event.snapshot.clone()),
        ("STILLPOINT_HINT", event.hint.clone()),
    ];
    let mut bytes = Vec::new();
    for (name, value) in fields {
        let Some(value) = value else { continue };
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // A value of several lines has its length before it.
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::collections::BTreeMap;

    /// The protocol, read by its description.
    fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        while !bytes.is_empty() {
            let at = bytes
                .iter()
                .position(|b| matches!(b, b'=' | b'\n'))
                .unwrap();
            let name = String::from_utf8(bytes[..at].to_vec()).unwrap();
            assert!(
                name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{name}"
            );
            let (value, rest) = if bytes[at] == b'=' {
                let rest = &bytes[at + 1..];
                rest.split_at(rest.iter().position(|b| *b == b'\n').unwrap())
            } else {
                let (length, rest) = bytes[at + 1..].split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap());
                rest.split_at(usize::try_from(length).unwrap())
            };
            found.insert(name, String::from_utf8(value.to_vec()).unwrap());
            bytes = &rest[1..];
        }
        found
    }

    #[test]
    fn the_journal_gets_fields_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let mut event = NotifyEvent::test("h", Timestamp::UNIX_EPOCH);
        event.event = EventKind::Failed;
        event.plan = Some("daily".into());
        event.said = "no\nroom\nPRIORITY=7".into();
        event.exit_code = Some(1);
        assert!(!tell_journal(&socket, &event), "nobody is there");
        let journal = UnixDatagram::bind(&socket).unwrap();
        assert!(tell_journal(&socket, &event));
        let mut bytes = vec![0; 64 << 10];
        let length = journal.recv(&mut bytes).unwrap();
        let found = fields(&bytes[..length]);
        assert_eq!(found["STILLPOINT_PLAN"], "daily");
        assert_eq!(found["STILLPOINT_EXIT_CODE"], "1");
        assert_eq!(found["PRIORITY"], "3");
        assert_eq!(
            found["MESSAGE"],
            "h: plan daily FAILED: no\nroom\nPRIORITY=7"
        );
        assert_eq!(found["MESSAGE_ID"].len(), 32);
        assert!(!found.contains_key("STILLPOINT_STEP"));
        // Nobody reads: it must end, and not wait for room.
        while tell_journal(&socket, &event) {}
    }
}
