//! Sends what waits, receiver by receiver and in order, within a time that includes all of it. A
//! receiver that fails is not tried again before its pause is over. Nothing is sent while a run
//! holds anything frozen.

use super::event::NotifyEvent;
use super::letter;
use super::note::{ChannelTrouble, NotifyNote, PingKind, WaitingMessage};
use super::secret::{WebhookSecret, resolve};
use super::web::{Undelivered, WebRequest, ask};
use super::webhook::{self, WebhookCall};
use crate::config::{NotifySettings, PingSettings};
use crate::freeze::FrozenNow;
use crate::hooks::{TellerCall, run_teller};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// So long one message may take.
pub const EACH: Duration = Duration::from_secs(10);
/// So long one process may send, but for the last message.
pub const ROUND: Duration = Duration::from_secs(20);
/// So long is waited for what is frozen: a window is shorter.
const THAWED_WITHIN: Duration = Duration::from_secs(5);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What comes later says nothing of how things stand.
const OLDEST_PING: SignedDuration = SignedDuration::from_hours(1);

/// A message that is refused so often is given up.
const MOST_REFUSALS: u32 = 3;
/// Why a script and mail are held back.
const LEFT_FROZEN: &str = "what a dead run has left frozen may hang it: `stillpoint thaw`";

/// To whom messages go.
const COMMAND: &str = "command";
const WEBHOOK: &str = "webhook";
const MAIL: &str = "mail";
const PING: &str = "ping";
/// Not sent, and told of as if it were.
pub const METRICS: &str = "metrics";

/// Who sends.
pub struct Courier<'a> {
    /// To whom.
    pub settings: &'a NotifySettings,
    /// What plans have asked for, by their names.
    pub plans: &'a BTreeMap<String, PingSettings>,
    /// The webhook's secret from the environment.
    pub secret: Option<&'a WebhookSecret>,
    /// What may be frozen.
    pub frozen: &'a dyn Fn() -> FrozenNow,
    /// Whether to give up.
    pub cancelled: &'a dyn Fn() -> bool,
    /// How long one message may take.
    pub each: Duration,
    /// No message begins to be sent later.
    pub until: Instant,
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
        let settings = self.settings;
        let mut all = self.of_events();
        all.extend(settings.ping.as_ref().map(|_| PING.to_owned()));
        all.extend(self.plans.keys().map(|plan| ping_of(Some(plan))));
        all.extend(settings.metrics.as_ref().map(|_| METRICS.to_owned()));
        all
    }

    /// Where a receiver is, as it may be shown.
    pub fn place(&self, receiver: &str) -> String {
        let settings = self.settings;
        match receiver {
            COMMAND => settings
                .command
                .as_ref()
                .map(|path| path.display().to_string()),
            MAIL => settings.mail.as_ref().map(|mail| mail.to.join(", ")),
            WEBHOOK => settings
                .webhook
                .as_ref()
                .map(|one| match resolve(&one.address) {
                    Ok(url) => url.shown().to_owned(),
                    Err(why) => why,
                }),
            METRICS => settings
                .metrics
                .as_ref()
                .map(|path| path.display().to_string()),
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

    /// Sends what waits, as far as that goes now. Passes over receivers of `tried`, and adds to
    /// them those that fail.
    pub fn deliver(&self, note: &mut NotifyNote, tried: &mut BTreeSet<String>, now: Timestamp) {
        note.keep_channels(&self.receivers());
        give_up_old_pings(note, now);
        for receiver in self.receivers() {
            let pauses = |one: &ChannelTrouble| one.pauses(now);
            if tried.contains(&receiver) || note.troubles.get(&receiver).is_some_and(pauses) {
                continue;
            }
            while let Some(at) = position(note, &receiver) {
                if Instant::now() >= self.until || (self.cancelled)() {
                    return;
                }
                let frozen = self.frozen();
                if frozen == FrozenNow::ByARun {
                    return;
                }
                // What writes to the disks of this host may hang for ever then.
                if frozen == FrozenNow::LeftBehind && [COMMAND, MAIL].contains(&&*receiver) {
                    note.trouble(&receiver, LEFT_FROZEN, now);
                    break;
                }
                if let Err(why) = self.deliver_one(note, at) {
                    note.trouble(&receiver, &why, now);
                    tried.insert(receiver.clone());
                    break;
                }
            }
        }
    }

    /// Sends the message at `at`, which goes with a good end, or once it was refused often enough.
    fn deliver_one(&self, note: &mut NotifyNote, at: usize) -> Result<(), String> {
        let Some(message) = note.waiting.get(at).cloned() else {
            return Ok(());
        };
        match self.send(&message) {
            Ok(()) => {
                note.waiting.remove(at);
                note.reached(&message.channel);
                Ok(())
            }
            Err(Undelivered::Unreached(why)) => Err(why),
            Err(Undelivered::Refused(why)) => {
                let refused = message.refused.saturating_add(1);
                if let Some(one) = note.waiting.get_mut(at) {
                    one.refused = refused;
                }
                if refused >= MOST_REFUSALS {
                    note.give_up(at, Timestamp::now());
                }
                Err(why)
            }
        }
    }

    /// Asks for an address at once, and once: who is told later that a run begins is told nothing.
    pub fn ask_now(&self, receiver: &str, kind: PingKind, within: Duration) {
        if !(self.cancelled)() && (self.frozen)() != FrozenNow::ByARun {
            // Nobody needs it: who misses the end of the run raises the alarm.
            let _ = self.send_ping(receiver, kind, within);
        }
    }

    /// What is frozen, once a run has had the time to thaw it.
    fn frozen(&self) -> FrozenNow {
        let until = Instant::now() + THAWED_WITHIN;
        loop {
            let frozen = (self.frozen)();
            let is_over = Instant::now() >= until || (self.cancelled)();
            if frozen != FrozenNow::ByARun || is_over {
                return frozen;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn send(&self, message: &WaitingMessage) -> Result<(), Undelivered> {
        match (&message.event, message.ping) {
            (Some(event), _) => self.send_event(&message.channel, event),
            (None, Some(kind)) => self.send_ping(&message.channel, kind, self.each),
            // Of another version.
            (None, None) => Ok(()),
        }
    }

    fn send_event(&self, receiver: &str, event: &NotifyEvent) -> Result<(), Undelivered> {
        let settings = self.settings;
        let document = event.document();
        let document = document.map_err(|error| Undelivered::Refused(error.to_string()))?;
        let call = TellerCall {
            message: document.as_bytes(),
            environment: &environment(event),
            timeout: self.each,
            cancelled: self.cancelled,
        };
        match receiver {
            COMMAND => settings.command.as_ref().map(|path| {
                let run = run_teller(path, &call);
                run.map_err(|fault| Undelivered::from(fault).of(&path.display().to_string()))
            }),
            MAIL => settings
                .mail
                .as_ref()
                .map(|mail| letter::send(mail, event, &call)),
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

    fn send_ping(
        &self,
        receiver: &str,
        kind: PingKind,
        within: Duration,
    ) -> Result<(), Undelivered> {
        let Some(ping) = self.ping(receiver) else {
            return Ok(());
        };
        let url = resolve(&ping.address).map_err(Undelivered::Unreached)?;
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
