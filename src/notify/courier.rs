//! Sends what waits, receiver by receiver, within a time that includes all of it. A receiver that
//! fails once is not tried again before the next occasion; what it refused goes behind what else
//! waits for it. Nothing is sent while anything is frozen.

use super::event::NotifyEvent;
use super::letter;
use super::note::{NotifyNote, PingKind, WaitingMessage};
use super::secret::{WebhookSecret, resolve};
use super::web::{WebRequest, ask};
use super::webhook::{self, WebhookCall};
use crate::config::{NotifySettings, PingSettings};
use crate::hooks::{TellerCall, run_teller};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So long one message may take.
pub const EACH: Duration = Duration::from_secs(10);
/// So long all may take that are sent at one occasion, but for the last one.
pub const ROUND: Duration = Duration::from_secs(30);
/// So long is waited for what is frozen: a window is shorter.
const THAWED_WITHIN: Duration = Duration::from_secs(5);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What comes later says nothing of how things stand.
const OLDEST_PING: SignedDuration = SignedDuration::from_hours(1);

/// To whom messages go.
const COMMAND: &str = "command";
const WEBHOOK: &str = "webhook";
const MAIL: &str = "mail";
const PING: &str = "ping";

/// Who sends.
pub struct Courier<'a> {
    /// To whom.
    pub settings: &'a NotifySettings,
    /// What plans have asked for, by their names.
    pub plans: &'a BTreeMap<String, PingSettings>,
    /// The webhook's secret from the environment.
    pub secret: Option<&'a WebhookSecret>,
    /// Whether anything may be frozen.
    pub frozen: &'a dyn Fn() -> bool,
    /// Whether to give up.
    pub cancelled: &'a dyn Fn() -> bool,
    /// How long one message may take.
    pub each: Duration,
}

impl Courier<'_> {
    /// The receivers of events.
    pub fn of_events(&self) -> Vec<String> {
        let settings = self.settings;
        let all = [
            (COMMAND, settings.command.is_some()),
            (WEBHOOK, settings.webhook.is_some()),
            (MAIL, settings.mail.is_some()),
        ];
        let there = all.into_iter().filter(|(_, there)| *there);
        there.map(|(name, _)| name.to_owned()).collect()
    }

    /// All receivers.
    pub fn receivers(&self) -> Vec<String> {
        let mut all = self.of_events();
        all.extend(self.settings.ping.as_ref().map(|_| PING.to_owned()));
        all.extend(self.plans.keys().map(|plan| ping_of(Some(plan))));
        all
    }

    /// Where a receiver is, as it may be shown.
    pub fn place(&self, receiver: &str) -> String {
        let settings = self.settings;
        match receiver {
            COMMAND => settings.command.as_ref().map(|path| path.display().to_string()),
            MAIL => settings.mail.as_ref().map(|mail| mail.to.join(", ")),
            WEBHOOK => settings.webhook.as_ref().map(|one| match resolve(&one.address) {
                Ok(url) => url.shown().to_owned(),
                Err(why) => why,
            }),
            ping => self.ping(ping).map(|one| match resolve(&one.address) {
                Ok(url) => url.shown().to_owned(),
                Err(why) => why,
            }),
        }
        .unwrap_or_default()
    }

    /// The name of the receiver that is asked for after runs of this plan, and of all of them.
    pub fn pings_of(&self, plan: &str) -> Vec<String> {
        let own = self.plans.contains_key(plan).then(|| ping_of(Some(plan)));
        let all = self.settings.ping.as_ref().map(|_| ping_of(None));
        own.into_iter().chain(all).collect()
    }

    /// Whether this receiver is asked for that.
    pub fn wants(&self, receiver: &str, kind: PingKind) -> bool {
        self.ping(receiver).is_some_and(|ping| match kind {
            PingKind::Start => ping.start,
            PingKind::Success => true,
            PingKind::Fail => ping.fail,
        })
    }

    /// Sends what waits, as far as that goes now.
    pub fn deliver(&self, note: &mut NotifyNote, now: Timestamp) {
        let until = Instant::now() + ROUND;
        note.keep_channels(&self.receivers());
        give_up_old_pings(note, now);
        for receiver in self.receivers() {
            while let Some(at) = position(note, &receiver) {
                if Instant::now() >= until || (self.cancelled)() || !self.is_thawed() {
                    return;
                }
                let Some(message) = note.waiting.get(at).cloned() else {
                    break;
                };
                match self.send(&message) {
                    Ok(()) => {
                        note.waiting.remove(at);
                        note.troubles.remove(&receiver);
                    }
                    Err(why) => {
                        note.trouble(&receiver, &why, now);
                        // What is refused for ever must not stand before what is not.
                        let refused = note.waiting.remove(at);
                        note.waiting.push(refused);
                        break;
                    }
                }
            }
        }
    }

    /// Asks for an address at once, and once: who is told later that a run begins is told nothing.
    pub fn ask_now(&self, receiver: &str, kind: PingKind, within: Duration) {
        if !(self.cancelled)() && !(self.frozen)() {
            // Nobody needs it: who misses the end of the run raises the alarm.
            let _ = self.send_ping(receiver, kind, within);
        }
    }

    fn is_thawed(&self) -> bool {
        let until = Instant::now() + THAWED_WITHIN;
        while (self.frozen)() {
            if Instant::now() >= until || (self.cancelled)() {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }

    fn send(&self, message: &WaitingMessage) -> Result<(), String> {
        match (&message.event, message.ping) {
            (Some(event), _) => self.send_event(&message.channel, event),
            (None, Some(kind)) => self.send_ping(&message.channel, kind, self.each),
            // Of another version.
            (None, None) => Ok(()),
        }
    }

    fn send_event(&self, receiver: &str, event: &NotifyEvent) -> Result<(), String> {
        let settings = self.settings;
        let document = event.document().map_err(|error| error.to_string())?;
        let call = TellerCall {
            message: document.as_bytes(),
            environment: &environment(event),
            timeout: self.each,
            cancelled: self.cancelled,
        };
        match receiver {
            COMMAND => settings.command.as_ref().map(|path| {
                run_teller(path, &call).map_err(|why| format!("{}: {why}", path.display()))
            }),
            MAIL => settings.mail.as_ref().map(|mail| letter::send(mail, event, &call)),
            WEBHOOK => settings.webhook.as_ref().map(|one| {
                webhook::send(&WebhookCall {
                    settings: one,
                    secret: self.secret,
                    event,
                    timeout: self.each,
                    cancelled: self.cancelled,
                })
            }),
            _ => None,
        }
        .unwrap_or(Ok(()))
    }

    fn ping(&self, receiver: &str) -> Option<&PingSettings> {
        match receiver.strip_prefix("ping ") {
            Some(plan) => self.plans.get(plan),
            None => self.settings.ping.as_ref().filter(|_| receiver == PING),
        }
    }

    fn send_ping(&self, receiver: &str, kind: PingKind, within: Duration) -> Result<(), String> {
        let Some(ping) = self.ping(receiver) else {
            return Ok(());
        };
        let url = resolve(&ping.address)?;
        let url = match kind {
            PingKind::Success => url,
            PingKind::Start => url.with_path("/start"),
            PingKind::Fail => url.with_path("/fail"),
        };
        ask(WebRequest {
            url: &url,
            method: "GET",
            headers: vec![("user-agent", super::AGENT.to_owned())],
            body: Vec::new(),
            ca_file: ping.ca_file.as_deref(),
            timeout: within,
            cancelled: self.cancelled,
        })
    }
}

fn ping_of(plan: Option<&str>) -> String {
    plan.map_or_else(|| PING.to_owned(), |plan| format!("{PING} {plan}"))
}

fn position(note: &NotifyNote, receiver: &str) -> Option<usize> {
    note.waiting
        .iter()
        .position(|message| message.channel == receiver)
}

fn give_up_old_pings(note: &mut NotifyNote, now: Timestamp) {
    let is_old = |one: &WaitingMessage| {
        let age = now.duration_since(one.since);
        one.ping.is_some() && (age > OLDEST_PING || age < SignedDuration::ZERO)
    };
    while let Some(at) = note.waiting.iter().position(is_old) {
        note.give_up(at, now);
    }
}

/// The same as the document, for scripts that read no JSON.
fn environment(event: &NotifyEvent) -> Vec<(String, String)> {
    let all = [
        ("EVENT", Some(event.event.name().to_owned())),
        ("EVENT_ID", Some(event.id.clone())),
        ("HEADLINE", Some(event.headline())),
        ("HOST", Some(event.host.clone())),
        ("PLAN", event.plan.clone()),
        ("STEP", event.step.clone()),
        ("STATE", Some(event.state.name().to_owned())),
        ("SINCE", Some(format!("{:.0}", event.since))),
        ("SAID", Some(event.said.clone())),
        ("EXIT_CODE", event.exit_code.map(|code| code.to_string())),
        ("SNAPSHOT", event.snapshot.clone()),
    ];
    let there = all.into_iter();
    let there = there.filter_map(|(name, value)| Some((format!("STILLPOINT_{name}"), value?)));
    // A NUL would end a variable.
    there
        .map(|(name, value)| (name, value.replace('\0', "?")))
        .collect()
}
