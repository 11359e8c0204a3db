//! Mail, as `sendmail -t` takes it: plain text, by who runs this host. Nothing that a vault or a
//! program has said can become a line of its head.

use super::event::NotifyEvent;
use super::web::Undelivered;
use crate::config::MailSettings;
use crate::hooks::{TellerCall, hand_over};
use crate::model::printable::one_line;
use jiff::Timestamp;
use std::fmt::Write;

/// Longest line of the body, in letters of up to four bytes.
const MOST_LINE: usize = 200;

/// Hands it over.
///
/// # Errors
/// Why it was not taken.
pub(super) fn send(
    settings: &MailSettings,
    event: &NotifyEvent,
    call: &TellerCall<'_>,
) -> Result<(), Undelivered> {
    let text = letter(settings, event);
    let call = TellerCall {
        message: text.as_bytes(),
        ..*call
    };
    let program = settings.sendmail.display();
    // A dot alone in a line ends no mail; whom it goes to stands in it.
    let handed = hand_over(&settings.sendmail, &["-oi", "-t"], &call);
    handed.map_err(|fault| Undelivered::from(fault).of(&program.to_string()))
}

/// The mail.
fn letter(settings: &MailSettings, event: &NotifyEvent) -> String {
    let mut text = String::new();
    let mut head = |name: &str, value: &str| {
        let plain: String = value
            .chars()
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .collect();
        // Writing to a string cannot fail.
        let _ = match name {
            "" => writeln!(text, " {plain}"),
            name => writeln!(text, "{name}: {plain}"),
        };
    };
    if let Some(from) = &settings.from {
        head("From", from);
    }
    for (at, one) in settings.to.iter().enumerate() {
        // No line of mail is longer than 998 bytes (RFC 5322, 2.1.1): the list goes on below.
        let more = if at + 1 < settings.to.len() { "," } else { "" };
        match at {
            0 => head("To", &format!("{one}{more}")),
            _ => head("", &format!("{one}{more}")),
        }
    }
    head("Subject", &format!("stillpoint: {}", event.headline()));
    let date = event.time.strftime("%a, %d %b %Y %H:%M:%S +0000");
    head("Date", &date.to_string());
    head("Message-ID", &format!("<{}@stillpoint.invalid>", event.id));
    head("Auto-Submitted", "auto-generated");
    head("MIME-Version", "1.0");
    head("Content-Type", "text/plain; charset=utf-8");
    head("Content-Transfer-Encoding", "8bit");
    text.push('\n');
    for (name, value) in lines(event) {
        let line = format!("{name}: {}", one_line(&value));
        let letters: Vec<char> = line.chars().collect();
        for part in letters.chunks(MOST_LINE) {
            let _ = writeln!(text, "{}", part.iter().collect::<String>());
        }
    }
    text.push_str("\nOn that host, `stillpoint status` says how all stands now.\n");
    text
}

fn lines(event: &NotifyEvent) -> Vec<(&'static str, String)> {
    let shown = |time: Timestamp| format!("{time:.0}");
    let mut lines = vec![
        ("what", event.headline()),
        ("since", shown(event.since)),
        ("said", event.said.clone()),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    let exit_code = event.exit_code.map(|code| code.to_string());
    let more = [
        ("hint", event.hint.clone()),
        ("exit code", exit_code),
        ("job", event.job.clone()),
        ("snapshot", event.snapshot.clone()),
        ("last good snapshot", event.last_good.map(shown)),
        ("next run", event.next.map(shown)),
    ];
    lines.extend(
        more.into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_said_becomes_a_line_of_the_head() {
        let mut event = NotifyEvent::test("host\r\nBcc: x@y", Timestamp::UNIX_EPOCH);
        event.said = "one\n\nBcc: x@y\u{202e}".into();
        let settings = MailSettings {
            to: vec!["root".into(), "ops@example.org".into()],
            from: Some("stillpoint@h".into()),
            sendmail: "/usr/sbin/sendmail".into(),
        };
        let text = letter(&settings, &event);
        let (head, body) = text.split_once("\n\n").unwrap();
        let names: Vec<&str> = head
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split_once(": ").unwrap().0)
            .collect();
        let expected = [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        assert_eq!(names, expected, "{text}");
        assert!(head.contains("\nTo: root,\n ops@example.org\n"), "{head}");
        assert!(
            head.contains("\nDate: Thu, 01 Jan 1970 00:00:00 +0000\n"),
            "{head}"
        );
        assert!(head.is_ascii(), "{head}");
        assert!(
            body.contains("said: one\\n\\nBcc: x@y\\u{202e}\n"),
            "{body}"
        );
    }
}
