//! Tells how plans stand: after a run, when somebody looks whether one is due, and when asked to.
//! Whatever goes wrong here is said, and changes neither a run nor how it ended.

mod watched;

use super::args::Common;
use super::plan::{PlansFound, look_without_timers};
use super::signals;
use crate::config::{Config, NotifySettings, PingSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::frozen_now;
use crate::model::printable::one_line;
use crate::notify::{
    Courier, EACH, METRICS, NotifyEvent, NotifyNote, NotifyPlaces, PartJudgement, PartState,
    PingKind, ROUND, WatchedPart, WebhookSecret, exposition, judge, put_metrics, tell_journal,
};
use crate::plan::{PlanName, SnapshotPlan};
use crate::report::Report;
use crate::report::notify::{NotifySeen, SeenReceiver};
use crate::sys::machine::{host_name, since_boot};
use jiff::{SignedDuration, Timestamp};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use watched::{figures, silent, unfit, watched};

/// The environment's secret for the webhook.
const SECRET: &str = "STILLPOINT_WEBHOOK_SECRET";
/// So long is waited for another process that tells; then it is left to the next look.
const TELLS_WITHIN: Duration = Duration::from_secs(15);
/// So long a run waits for who is told that it begins.
const BEGINS_WITHIN: Duration = Duration::from_secs(3);

/// How a run of a plan went, to those who miss it otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunWent {
    /// Its snapshot was taken, and nothing that follows has failed.
    Well,
    /// It failed.
    Wrong,
    /// It was stopped, or never began.
    Neither,
}

/// Who tells how the plans of this host stand.
pub struct Notifier<'a> {
    common: &'a Common,
    settings: NotifySettings,
    /// What is wrong with the settings.
    wrong: Option<Error>,
    secret: Option<WebhookSecret>,
    host: String,
    /// Receivers that could not be reached by this process: they are not tried again.
    tried: RefCell<BTreeSet<String>>,
    /// How long this process may still send.
    left: Cell<Duration>,
    /// Whether another process told for so long that it is not waited for again.
    left_to_other: Cell<bool>,
    /// What went wrong so far.
    untold: RefCell<BTreeSet<String>>,
}

/// What went wrong with telling, a sentence each.
#[derive(Debug, Default)]
pub struct Untold {
    /// What `status` does not know.
    pub problems: Vec<String>,
    /// Receivers that could not be reached.
    pub troubles: Vec<String>,
}

impl Untold {
    /// All of it.
    fn lines(self) -> impl Iterator<Item = String> {
        let all = self.problems.into_iter().chain(self.troubles);
        all.map(|line| format!("notifications: {}", one_line(&line)))
    }
}

/// What is found at an occasion.
struct Occasion {
    found: PlansFound,
    pings: BTreeMap<String, PingSettings>,
    now: Timestamp,
}

impl Occasion {
    fn knows(&self, plan: &str) -> bool {
        let PlansFound { seen, unread } = &self.found;
        let is_unread = || unread.iter().any(|one| one.name.as_deref() == Some(plan));
        seen.iter().any(|one| one.plan.name.as_str() == plan) || is_unread()
    }
}

impl<'a> Notifier<'a> {
    /// As the configuration says.
    pub fn of(common: &'a Common) -> Self {
        let settings = Config::read(&common.config_place()).and_then(|config| config.notify());
        let (settings, wrong) = match settings {
            Ok(settings) => (settings, None),
            Err(error) => (NotifySettings::default(), Some(error)),
        };
        // One that is too short is as none: the receiver says so.
        let secret = std::env::var_os(SECRET).map(|secret| secret.into_encoded_bytes());
        let secret = secret.and_then(|bytes| WebhookSecret::new(bytes).ok());
        Self {
            common,
            settings,
            wrong,
            secret,
            host: host_name(),
            tried: RefCell::default(),
            left: Cell::new(ROUND),
            left_to_other: Cell::new(false),
            untold: RefCell::default(),
        }
    }

    fn places(&self) -> NotifyPlaces {
        NotifyPlaces {
            notes: self.common.plan_notes.clone(),
            run_dir: self.common.run_dir.clone(),
        }
    }

    fn with_courier<T>(
        &self,
        pings: &BTreeMap<String, PingSettings>,
        work: impl FnOnce(&Courier<'_>) -> T,
    ) -> T {
        let run_dir = &self.common.run_dir;
        work(&Courier {
            settings: &self.settings,
            plans: pings,
            secret: self.secret.as_ref(),
            frozen: &|| frozen_now(run_dir),
            cancelled: &|| signals::check().is_err(),
            each: EACH,
            until: Instant::now() + self.left.get(),
        })
    }

    /// Says that a run of a plan begins, to those who want to know.
    pub fn begins(&self, plan: &SnapshotPlan) {
        let name = plan.name.to_string();
        let own = plan.notify.ping.iter();
        let pings = own.map(|ping| (name.clone(), ping.clone())).collect();
        self.with_courier(&pings, |courier| {
            for receiver in courier.pings_of(&name) {
                if courier.wants(&receiver, PingKind::Start) {
                    courier.ask_now(&receiver, PingKind::Start, BEGINS_WITHIN);
                }
            }
        });
    }

    /// Tells how a plan stands that was run, or could not be.
    pub fn ran(&self, name: &PlanName, went: RunWent, unrun: Option<&Error>) {
        let untold = self.occasion(|note, occasion, courier| {
            let parts = self.parts(occasion);
            let name = name.to_string();
            if !occasion.knows(&name) {
                // Somebody has named what is no plan.
                return Vec::new();
            }
            let is_own = |part: &&WatchedPart| part.plan == name;
            let mut own: Vec<WatchedPart> = parts.iter().filter(is_own).cloned().collect();
            if let Some(error) = unrun {
                // What it could not begin, its notes do not say.
                own.retain(|part| part.step.is_some());
                own.push(unfit(&name, error));
            }
            let is_bad = |part: &WatchedPart| {
                matches!(part.state, Some(PartState::Failed | PartState::Overdue))
            };
            let others_are_bad = parts.iter().any(is_bad);
            for receiver in courier.pings_of(&name) {
                // Whatever waits is of an earlier run.
                note.forget(&receiver);
                // That which speaks for the host is good when all plans are.
                let of_host = !receiver.contains(' ');
                let kind = match went {
                    RunWent::Well if of_host && others_are_bad => continue,
                    RunWent::Well => PingKind::Success,
                    RunWent::Wrong => PingKind::Fail,
                    RunWent::Neither => continue,
                };
                if courier.wants(&receiver, kind) {
                    note.ping(&receiver, kind, occasion.now);
                }
            }
            own.retain(|part| !silent(&occasion.found).contains(&part.plan));
            self.judged(note, &own, occasion.now, false)
        });
        self.untold.borrow_mut().extend(untold.lines());
    }

    /// Tells how those stand that were not run, one that did not begin among them. If `says`, the
    /// report says what went wrong with telling: it is no less than was asked for.
    pub fn conclude(&self, report: &mut Report, says: bool) {
        let mut untold = self.untold.borrow_mut();
        untold.extend(self.look().lines());
        let told = untold.iter().filter(|_| says);
        told.for_each(|problem| report.mention(problem));
    }

    /// Tells how all plans stand. Returns what went wrong with telling.
    pub fn look(&self) -> Untold {
        self.occasion(|note, occasion, _| {
            let silent = silent(&occasion.found);
            let mut parts = self.parts(occasion);
            parts.retain(|part| !silent.contains(&part.plan));
            self.judged(note, &parts, occasion.now, true)
        })
    }

    /// Tells everybody that this is a test.
    pub fn test(&self) -> Untold {
        let untold = self.occasion(|note, occasion, _| {
            // Who tries it does not want to wait.
            note.troubles.values_mut().for_each(|one| one.tries = 0);
            vec![NotifyEvent::test(&self.host, occasion.now)]
        });
        self.or_nobody(untold)
    }

    fn is_heard(&self) -> bool {
        let settings = &self.settings;
        settings.command.is_some() || settings.webhook.is_some() || settings.mail.is_some()
    }

    fn or_nobody(&self, mut untold: Untold) -> Untold {
        if !self.is_heard() && self.wrong.is_none() {
            let what = "the configuration names no command, webhook or mail: nobody is told";
            untold.problems.push(what.into());
        }
        untold
    }

    fn parts(&self, occasion: &Occasion) -> Vec<WatchedPart> {
        let up = since_boot().unwrap_or(Duration::MAX);
        watched(&occasion.found, up >= self.settings.after_boot)
    }

    fn judged(
        &self,
        note: &mut NotifyNote,
        parts: &[WatchedPart],
        now: Timestamp,
        is_whole: bool,
    ) -> Vec<NotifyEvent> {
        let reminder = self.settings.reminder;
        let judgement = PartJudgement {
            now,
            host: &self.host,
            reminder: reminder.and_then(|every| SignedDuration::try_from(every).ok()),
            warnings: self.settings.warnings,
            is_heard: self.is_heard(),
            is_whole,
        };
        judge(note, parts, &judgement)
    }

    fn look_around(&self) -> Result<Occasion> {
        let found = look_without_timers(self.common)?;
        let pings = found.seen.iter().filter_map(|seen| {
            let ping = seen.plan.notify.ping.clone()?;
            Some((seen.plan.name.to_string(), ping))
        });
        Ok(Occasion {
            pings: pings.collect(),
            found,
            now: Timestamp::now(),
        })
    }

    /// Finds out what is to be told, notes it, sends it, and notes what could not be sent.
    fn occasion(
        &self,
        judge: impl FnOnce(&mut NotifyNote, &Occasion, &Courier<'_>) -> Vec<NotifyEvent>,
    ) -> Untold {
        let mut untold = Untold::default();
        let wrong = self.wrong.iter().map(ToString::to_string);
        untold.troubles.extend(wrong);
        if let Err(error) = self.try_occasion(judge, &mut untold) {
            untold.problems.push(error.to_string());
        }
        untold
    }

    fn try_occasion(
        &self,
        judge: impl FnOnce(&mut NotifyNote, &Occasion, &Courier<'_>) -> Vec<NotifyEvent>,
        untold: &mut Untold,
    ) -> Result<()> {
        // Who is told to stop stops, and who does not know whom to tell tells nobody: what is to
        // be told is found out again, and what waits goes on waiting.
        if signals::check().is_err() || self.wrong.is_some() || self.left_to_other.get() {
            return Ok(());
        }
        let places = self.places();
        let _lock = match places.lock(TELLS_WITHIN, &signals::check) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => {
                self.left_to_other.set(true);
                let what = "another process tells for long: it is left to the next look";
                return Err(Error::new(ErrorKind::Busy, what));
            }
            Err(error) if signals::check().is_err() => return Err(error),
            // What keeps a lock from being made may be what is to be told.
            Err(_) => None,
        };
        let occasion = self.look_around()?;
        let before = places.read().unwrap_or_else(|error| {
            let again = "what is bad is told once more";
            untold.problems.push(format!("{error}: {again}"));
            None
        });
        let now = occasion.now;
        let mut note = before.clone().unwrap_or_else(|| NotifyNote::new(now));
        self.with_courier(&occasion.pings, |courier| {
            note.keep_channels(&courier.receivers());
            for event in judge(&mut note, &occasion, courier) {
                tell_journal(&self.common.journal_socket, &event);
                for receiver in courier.of_events() {
                    note.tell(&receiver, &event);
                }
            }
            // Who is killed while it sends sends again: nothing is lost.
            let mut noted = write_if_changed(&places, before.as_ref(), &mut note, now);
            let so_far = note.clone();
            let begun = Instant::now();
            courier.deliver(&mut note, &mut self.tried.borrow_mut(), now);
            self.left
                .set(self.left.get().saturating_sub(begun.elapsed()));
            self.write_metrics(&occasion, &mut note);
            if note != so_far {
                noted = places.write(&mut note, now);
            }
            untold
                .problems
                .extend(noted.err().map(|error| error.to_string()));
            for (receiver, trouble) in &note.troubles {
                untold
                    .troubles
                    .push(format!("{receiver}: {}", trouble.reason));
            }
        });
        Ok(())
    }

    fn write_metrics(&self, occasion: &Occasion, note: &mut NotifyNote) {
        let Some(folder) = &self.settings.metrics else {
            return;
        };
        let found = &occasion.found;
        let text = exposition(&figures(found), found.unread.len(), note, occasion.now);
        match put_metrics(folder, &text) {
            Ok(()) => note.reached(METRICS),
            Err(error) => note.trouble(METRICS, &error.to_string(), occasion.now),
        }
    }

    /// What could not be sent, and since when, beside what has gone wrong just now. Nothing is
    /// sent, and nothing changed.
    pub fn seen(&self, now: Untold) -> NotifySeen {
        let mut seen = NotifySeen {
            receivers: Vec::new(),
            problems: self.wrong.iter().map(ToString::to_string).collect(),
        };
        seen.problems.extend(now.problems);
        let note = match self.places().read() {
            Ok(note) => note,
            // Who is not root is told of no note.
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            Err(error) => {
                let what = error.to_string();
                if !seen.problems.iter().any(|told| told.starts_with(&what)) {
                    seen.problems.push(what);
                }
                None
            }
        };
        let occasion = match self.look_around() {
            Ok(occasion) => occasion,
            Err(error) => {
                seen.problems.push(error.to_string());
                return seen;
            }
        };
        self.with_courier(&occasion.pings, |courier| {
            for receiver in courier.receivers() {
                let waiting = note.iter().flat_map(|note| &note.waiting);
                let waiting = waiting.filter(|one| one.channel == receiver);
                let troubles = note.as_ref().map(|note| &note.troubles);
                seen.receivers.push(SeenReceiver {
                    place: courier.place(&receiver),
                    waiting: waiting.clone().count(),
                    waiting_since: waiting.map(|one| one.since).min(),
                    trouble: troubles.and_then(|all| all.get(&receiver).cloned()),
                    receiver,
                });
            }
        });
        seen
    }
}

/// What is as it was need not be written.
fn write_if_changed(
    places: &NotifyPlaces,
    before: Option<&NotifyNote>,
    note: &mut NotifyNote,
    now: Timestamp,
) -> Result<()> {
    match before {
        Some(before) if before == note => Ok(()),
        None if note.is_empty() => Ok(()),
        _ => places.write(note, now),
    }
}
