//! What has changed since it was last told. It asks no clock and no file.

use super::event::{EventFacts, NotifyEvent};
use super::note::{KnownPart, NotifyNote};
use super::part::{PartState, WatchedPart};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// How it is judged.
#[derive(Clone, Copy, Debug)]
pub struct PartJudgement<'a> {
    /// When.
    pub now: Timestamp,
    /// The host.
    pub host: &'a str,
    /// After how long it is told again; `None`: once.
    pub reminder: Option<SignedDuration>,
    /// Whether less than was asked is told.
    pub warnings: bool,
    /// Whether anybody is told.
    pub is_heard: bool,
    /// Whether these are all parts that there are: others are forgotten.
    pub is_whole: bool,
}

/// Compares the parts with what is noted of them; the note says afterwards that it was told.
pub fn judge(
    note: &mut NotifyNote,
    parts: &[WatchedPart],
    judgement: &PartJudgement<'_>,
) -> Vec<NotifyEvent> {
    let mut events = Vec::new();
    for part in parts {
        let Some(seen) = part.state else {
            continue;
        };
        let state = match seen {
            PartState::Warned if !judgement.warnings => PartState::Good,
            state => state,
        };
        let known = note.parts.get(&part.key()).copied();
        let (now_known, told) = compare(known, state, part, judgement);
        note.parts.insert(part.key(), now_known);
        if told {
            let facts = EventFacts {
                state: now_known.state,
                was: known.map(|known| known.state),
                since: now_known.since,
                reminder: now_known.reminders,
                now: judgement.now,
                host: judgement.host,
            };
            events.push(NotifyEvent::of(part, &facts));
        }
    }
    if judgement.is_whole {
        let there: BTreeSet<String> = parts.iter().map(WatchedPart::key).collect();
        note.parts.retain(|key, _| there.contains(key));
    }
    events
}

/// What is known from now on, and whether it is told.
fn compare(
    known: Option<KnownPart>,
    state: PartState,
    part: &WatchedPart,
    judgement: &PartJudgement<'_>,
) -> (KnownPart, bool) {
    let now = judgement.now;
    let fresh = KnownPart {
        state,
        since: part.since.unwrap_or(now),
        told: now,
        reminders: 0,
        heard: judgement.is_heard,
    };
    let Some(known) = known else {
        return (fresh, state != PartState::Good);
    };
    if known.state != state && !is_no_news(&known, state, part, now) {
        return (fresh, true);
    }
    if !known.heard && judgement.is_heard {
        // Nobody was there when it happened.
        let now_heard = KnownPart {
            told: now,
            heard: true,
            ..known
        };
        return (now_heard, known.state != PartState::Good);
    }
    // Told by a clock that was ahead: it counts from now on.
    let told = known.told.min(now);
    let known = KnownPart { told, ..known };
    let due = judgement
        .reminder
        .is_some_and(|every| now.duration_since(told) >= every);
    if known.state == PartState::Good || !due {
        return (known, false);
    }
    let again = KnownPart {
        told: now,
        reminders: known.reminders.saturating_add(1),
        ..known
    };
    (again, true)
}

/// Whether a state that looks better is none: what is late stays late until there is a snapshot,
/// and nothing is good again before it was tried again.
fn is_no_news(known: &KnownPart, state: PartState, part: &WatchedPart, now: Timestamp) -> bool {
    let since = known.told.min(now);
    match (known.state, state) {
        (PartState::Overdue, PartState::Failed) => true,
        (PartState::Good, _) | (_, PartState::Failed | PartState::Overdue) => false,
        _ => part.tried.is_none_or(|tried| tried <= since),
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::EventKind;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn part(plan: &str, state: Option<PartState>) -> WatchedPart {
        WatchedPart {
            plan: plan.into(),
            state,
            tried: Some(Timestamp::MAX),
            ..WatchedPart::default()
        }
    }

    fn by(seconds: i64) -> PartJudgement<'static> {
        PartJudgement {
            now: at(seconds),
            host: "h",
            reminder: None,
            warnings: true,
            is_heard: true,
            is_whole: true,
        }
    }

    #[test]
    fn each_change_is_told_once() {
        use EventKind as E;
        use PartState::{Failed, Good, Overdue, Warned};
        let mut note = NotifyNote::new(at(0));
        let runs = [
            (Some(Good), None),
            (Some(Failed), Some(E::Failed)),
            (Some(Failed), None),
            // It runs: nobody can say yet.
            (None, None),
            (Some(Failed), None),
            (Some(Overdue), Some(E::Overdue)),
            (Some(Overdue), None),
            // What is late stays late.
            (Some(Failed), None),
            (Some(Overdue), None),
            (Some(Warned), Some(E::Warned)),
            (Some(Good), Some(E::Recovered)),
            (Some(Good), None),
        ];
        for (at, (state, told)) in (0..).zip(runs) {
            let events = judge(&mut note, &[part("p", state)], &by(at * 60));
            let kinds: Vec<EventKind> = events.iter().map(|event| event.event).collect();
            assert_eq!(kinds, told.into_iter().collect::<Vec<_>>(), "look {at}");
        }
        // Nothing is good again before it was tried again.
        let mut stale = part("p", Some(Good));
        judge(&mut note, &[part("p", Some(Failed))], &by(1200));
        for (tried, told) in [(None, 0), (Some(at(1200)), 0), (Some(at(1201)), 1)] {
            stale.tried = tried;
            let events = judge(&mut note, &[stale.clone()], &by(1260));
            assert_eq!(events.len(), told, "{tried:?}");
        }
        // Where nobody is told, whoever comes later is.
        let deaf = PartJudgement {
            is_heard: false,
            ..by(1300)
        };
        let failed = [part("p", Some(Failed))];
        assert_eq!(judge(&mut note, &failed, &deaf).len(), 1);
        assert_eq!(judge(&mut note, &failed, &deaf).len(), 0);
        assert_eq!(judge(&mut note, &failed, &by(1400)).len(), 1);
        assert_eq!(judge(&mut note, &failed, &by(1500)).len(), 0);
        // A note that is lost: what is bad is told once more, and what is good is not.
        let mut lost = NotifyNote::new(at(0));
        let parts = [part("p", Some(Failed)), part("q", Some(Good))];
        assert_eq!(judge(&mut lost, &parts, &by(900)).len(), 1);
        assert_eq!(judge(&mut lost, &parts, &by(960)).len(), 0);
    }

    #[test]
    fn reminders_come_at_their_time_whatever_the_clock_did() {
        use PartState::Failed;
        let mut note = NotifyNote::new(at(0));
        let parts = [part("p", Some(Failed))];
        let look = |seconds| PartJudgement {
            reminder: Some(SignedDuration::from_hours(1)),
            ..by(seconds)
        };
        assert_eq!(judge(&mut note, &parts, &look(0)).len(), 1);
        assert_eq!(judge(&mut note, &parts, &look(3599)).len(), 0);
        let again = judge(&mut note, &parts, &look(3600));
        assert_eq!((again[0].reminder, again[0].since), (1, at(0)));
        // A clock that was ahead by years silences nobody for years.
        assert_eq!(judge(&mut note, &parts, &look(1_000_000_000)).len(), 1);
        assert_eq!(judge(&mut note, &parts, &look(7200)).len(), 0);
        assert_eq!(judge(&mut note, &parts, &look(10_800)).len(), 1);
    }

    #[test]
    fn parts_that_are_gone_are_forgotten_where_all_were_looked_at() {
        use PartState::{Failed, Warned};
        let mut note = NotifyNote::new(at(0));
        let step = WatchedPart {
            step: Some("prune".into()),
            ..part("p", Some(Failed))
        };
        let parts = [
            part("p", Some(Failed)),
            step.clone(),
            part("q", Some(Failed)),
        ];
        assert_eq!(judge(&mut note, &parts, &by(0)).len(), 3);
        let one = PartJudgement {
            is_whole: false,
            ..by(60)
        };
        assert_eq!(judge(&mut note, &parts[..1], &one).len(), 0);
        assert_eq!(note.parts.len(), 3);
        judge(&mut note, &parts[..1], &by(120));
        assert_eq!(note.parts.len(), 1);
        // Warnings that nobody wants are none.
        let quiet = PartJudgement {
            warnings: false,
            ..by(180)
        };
        let warned = [part("w", Some(Warned))];
        assert_eq!(judge(&mut note, &warned, &quiet).len(), 0);
    }
}
