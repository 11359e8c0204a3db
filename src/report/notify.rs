//! Who is told how plans stand, and what could not be sent. No address is shown but its host.

use crate::model::printable::one_line;
use crate::notify::ChannelTrouble;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Who sends is done within this.
const SENT_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// Who is told, and what could not be sent.
#[derive(Debug, Default)]
pub struct NotifySeen {
    /// Each receiver.
    pub receivers: Vec<SeenReceiver>,
    /// What keeps all of them from being told.
    pub problems: Vec<String>,
}

/// A receiver.
#[derive(Debug)]
pub struct SeenReceiver {
    /// `command`, `webhook`, `mail`, `ping` or `ping PLAN`.
    pub receiver: String,
    /// Where it is, as it may be shown.
    pub place: String,
    /// How many messages wait for it.
    pub waiting: usize,
    /// Since when the oldest of them waits.
    pub waiting_since: Option<Timestamp>,
    /// Why it could not be reached; `None`: it could, or was never tried.
    pub trouble: Option<ChannelTrouble>,
}

impl NotifySeen {
    /// What must be looked at, a sentence each.
    pub(super) fn told(&self, now: Timestamp) -> Vec<String> {
        let wrong = self.problems.iter();
        let mut lines: Vec<String> = wrong.map(|why| format!("notifications: {why}")).collect();
        for one in &self.receivers {
            let Some(trouble) = &one.trouble else {
                // Another process may be sending just now.
                let long = |since: &Timestamp| now.duration_since(*since) > SENT_WITHIN;
                if let Some(since) = one.waiting_since.filter(long) {
                    lines.push(format!(
                        "notifications by {}: {} waiting since {since:.0}",
                        one.receiver, one.waiting
                    ));
                }
                continue;
            };
            let given_up = match trouble.dropped {
                0 => String::new(),
                count => format!(", {count} were given up"),
            };
            lines.push(format!(
                "notifications by {} COULD NOT BE SENT since {:.0}: {}; {} waiting{given_up}",
                one.receiver, trouble.since, trouble.reason, one.waiting
            ));
        }
        lines
    }

    /// The same for programs.
    pub(super) fn document(&self) -> Value {
        let receivers = self.receivers.iter().map(|one| {
            let trouble = one.trouble.as_ref();
            json!({
                "receiver": one.receiver,
                "place": one_line(&one.place),
                "waiting": one.waiting,
                "failing_since": trouble.map(|trouble| format!("{:.0}", trouble.since)),
                "last_tried": trouble.map(|trouble| format!("{:.0}", trouble.tried)),
                "reason": trouble.map(|trouble| one_line(&trouble.reason).into_owned()),
                "given_up": trouble.map(|trouble| trouble.dropped),
            })
        });
        json!({
            "receivers": receivers.collect::<Vec<_>>(),
            "problems": self.problems,
        })
    }
}
