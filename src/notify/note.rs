//! What is noted of telling: how each part stood when that was told, and what waits to be sent. The
//! note may be lost: then what is bad is told once more. No address and no secret stands in it.

use super::event::NotifyEvent;
use super::part::PartState;
use crate::error::{Error, ErrorKind, Result};
use crate::format::from_json;
use crate::helper::{FileLock, open_run_dir, read_note, write_note};
use crate::model::Cancel;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The only version so far.
const VERSION: u32 = 1;
/// The note's name; no plan has it.
const NAME: &str = ".notify.json";
/// Its name in the run directory.
const OTHER_NAME: &str = "notify.json";
/// The lock's.
const LOCK: &str = "notify.lock";
/// The longest note, in bytes.
const MOST_BYTES: u64 = 4 << 20;
/// Most values in it.
const MOST_VALUES: usize = 128 << 10;
/// Most messages that wait for one receiver; the oldest are given up.
pub const MOST_WAITING: usize = 64;
/// Most messages that wait in all.
const MOST_IN_ALL: usize = 256;
/// Who tells is done within this, mostly; else the next look forgets.
const FORGETS_WITHIN: Duration = Duration::from_secs(5);
/// Most parts that are remembered.
const MOST_PARTS: usize = 2048;

/// What is noted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotifyNote {
    /// Version of the note.
    pub version: u32,
    /// When it was written.
    pub written: Timestamp,
    /// Each part, as it was last told.
    pub parts: BTreeMap<String, KnownPart>,
    /// What is to be sent, oldest first.
    pub waiting: Vec<WaitingMessage>,
    /// Receivers that could not be reached.
    pub troubles: BTreeMap<String, ChannelTrouble>,
}

/// A part, as it was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPart {
    /// How it stood.
    pub state: PartState,
    /// Since when.
    pub since: Timestamp,
    /// When that was told.
    pub told: Timestamp,
    /// How often it was told again.
    pub reminders: u32,
    /// Whether there was anybody to be told.
    pub heard: bool,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitingMessage {
    /// To whom: `command`, `webhook`, `mail`, `ping` or `ping PLAN`.
    pub channel: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// What is told.
    pub event: Option<NotifyEvent>,
    /// Or what is asked for.
    pub ping: Option<PingKind>,
    /// How often it was refused.
    pub refused: u32,
}

/// What an address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PingKind {
    /// A run begins.
    Start,
    /// It went well.
    Success,
    /// It failed.
    Fail,
}

/// A receiver that could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTrouble {
    /// Since when.
    pub since: Timestamp,
    /// When it was last tried.
    pub tried: Timestamp,
    /// Why not.
    pub reason: String,
    /// How often it was tried since then.
    pub tries: u32,
    /// How many messages were given up.
    pub dropped: u64,
}

impl ChannelTrouble {
    /// Whether it is not tried again yet: pauses of a minute, two, four and so on to an hour.
    pub fn pauses(&self, now: Timestamp) -> bool {
        let doubled = 1_i64 << self.tries.saturating_sub(1).min(6);
        let pause = SignedDuration::from_mins(doubled).min(SignedDuration::from_hours(1));
        let passed = now.duration_since(self.tried);
        // Of a clock that was ahead it says nothing.
        self.tries > 0 && passed >= SignedDuration::ZERO && passed < pause
    }
}

/// Where the note is, and where it goes when it cannot be written there.
#[derive(Clone, Debug)]
pub struct NotifyPlaces {
    /// The folder of the notes of plans.
    pub notes: PathBuf,
    /// The run directory.
    pub run_dir: PathBuf,
}

impl NotifyNote {
    /// One in which nothing is noted.
    pub fn new(now: Timestamp) -> Self {
        Self {
            version: VERSION,
            written: now,
            parts: BTreeMap::new(),
            waiting: Vec::new(),
            troubles: BTreeMap::new(),
        }
    }

    /// Has an event told to a receiver.
    pub fn tell(&mut self, channel: &str, event: &NotifyEvent) {
        self.waiting.push(WaitingMessage {
            channel: channel.to_owned(),
            since: event.time,
            event: Some(event.clone()),
            ping: None,
            refused: 0,
        });
        self.keep_within_bounds(event.time);
    }

    /// Has an address asked for. What waited for it is out of date by now.
    pub fn ping(&mut self, channel: &str, kind: PingKind, now: Timestamp) {
        self.forget(channel);
        self.waiting.push(WaitingMessage {
            channel: channel.to_owned(),
            since: now,
            event: None,
            ping: Some(kind),
            refused: 0,
        });
        self.keep_within_bounds(now);
    }

    /// Forgets what waits for a receiver.
    pub fn forget(&mut self, channel: &str) {
        self.waiting.retain(|one| one.channel != channel);
    }

    /// Forgets what was for receivers that are none any more.
    pub fn keep_channels(&mut self, channels: &[String]) {
        self.waiting.retain(|one| channels.contains(&one.channel));
        self.troubles.retain(|name, _| channels.contains(name));
    }

    /// Notes that a receiver could not be reached.
    pub fn trouble(&mut self, channel: &str, reason: &str, now: Timestamp) {
        let one = self.trouble_of(channel, now);
        one.tried = now;
        one.tries = one.tries.saturating_add(1);
        reason.clone_into(&mut one.reason);
    }

    /// Notes that a receiver was reached.
    pub fn reached(&mut self, channel: &str) {
        self.troubles.remove(channel);
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.waiting.is_empty() && self.troubles.is_empty()
    }

    /// Gives up a message for a receiver.
    pub(super) fn give_up(&mut self, at: usize, now: Timestamp) {
        if at < self.waiting.len() {
            let gone = self.waiting.remove(at);
            self.trouble_of(&gone.channel, now).dropped += 1;
        }
    }

    fn trouble_of(&mut self, channel: &str, now: Timestamp) -> &mut ChannelTrouble {
        let fresh = || ChannelTrouble {
            since: now,
            tried: now,
            reason: "not tried yet".into(),
            tries: 0,
            dropped: 0,
        };
        self.troubles
            .entry(channel.to_owned())
            .or_insert_with(fresh)
    }

    fn keep_within_bounds(&mut self, now: Timestamp) {
        while let Some(at) = self.one_too_many() {
            self.give_up(at, now);
        }
    }

    fn one_too_many(&self) -> Option<usize> {
        if self.waiting.len() > MOST_IN_ALL {
            return Some(0);
        }
        let last = &self.waiting.last()?.channel;
        let of_last = || {
            let all = self.waiting.iter().enumerate();
            all.filter(|(_, one)| one.channel == *last)
        };
        let too_many = of_last().count() > MOST_WAITING;
        of_last().map(|(at, _)| at).next().filter(|_| too_many)
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let wrong = |what: &str| {
            let what = format!("the note of what was told, {}, {what}", path.display());
            Error::new(ErrorKind::Failed, what)
        };
        let note: Self = from_json(bytes, MOST_VALUES)
            .map_err(|why| wrong("cannot be understood").with_source(why))?;
        match note.version {
            VERSION => Ok(note),
            _ => Err(wrong("is of another version")),
        }
    }
}

impl NotifyPlaces {
    fn usual(&self) -> PathBuf {
        self.notes.join(NAME)
    }

    fn other(&self) -> PathBuf {
        self.run_dir.join(OTHER_NAME)
    }

    /// The right to tell, until it is dropped; `None`: somebody else tells for longer than
    /// `within`.
    ///
    /// # Errors
    /// `cancel`'s; the run directory cannot be used.
    pub fn lock(&self, within: Duration, cancel: &dyn Cancel) -> Result<Option<FileLock>> {
        open_run_dir(&self.run_dir)?;
        FileLock::take(&self.run_dir.join(LOCK), within, cancel)
    }

    /// Forgets a plan that is deleted; the note goes with the last one.
    ///
    /// # Errors
    /// The note cannot be read or written.
    pub fn forget(&self, plan: &str, now: Timestamp) -> Result<()> {
        let _lock = self.lock(FORGETS_WITHIN, &|| Ok(()))?;
        let Some(mut note) = self.read()? else {
            return Ok(());
        };
        let of_plan = |key: &str| key == plan || key.starts_with(&format!("{plan}/"));
        note.parts.retain(|key, _| !of_plan(key));
        self.write(&mut note, now)
    }

    /// The newest note; `None`: there is none. What cannot be read is told, and counts as none.
    ///
    /// # Errors
    /// A note is there and cannot be read, and there is no other.
    pub fn read(&self) -> Result<Option<NotifyNote>> {
        let mut first = None;
        let mut found: Vec<NotifyNote> = Vec::new();
        for path in [self.usual(), self.other()] {
            match read_note(&path, MOST_BYTES).and_then(|bytes| NotifyNote::decode(&bytes, &path)) {
                Ok(note) => found.push(note),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        match (found.into_iter().max_by_key(|note| note.written), first) {
            (Some(note), _) => Ok(Some(note)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Writes it: where it belongs, or else into the run directory, which is lost with a boot.
    ///
    /// # Errors
    /// Neither can be written to: then what is bad is told at each look.
    pub fn write(&self, note: &mut NotifyNote, now: Timestamp) -> Result<()> {
        if note.is_empty() {
            for path in [self.usual(), self.other()] {
                match std::fs::remove_file(&path) {
                    Err(error) if !is_gone(&error) => {
                        return Err(Error::io("remove", &path, error));
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        // Of two notes the later one counts, whatever the clock did.
        note.written = now.max(note.written);
        while note.parts.len() > MOST_PARTS {
            note.parts.pop_last();
        }
        let usual = open_run_dir(&self.notes).and_then(|()| write_note(&self.usual(), note));
        match usual {
            Ok(()) => {
                // An older one.
                let _ = std::fs::remove_file(self.other());
                Ok(())
            }
            Err(error) => open_run_dir(&self.run_dir)
                .and_then(|()| write_note(&self.other(), note))
                .map_err(|_| {
                    error
                        .context("what was told cannot be noted")
                        .and_said("it is told again at the next look")
                        .with_hint("make room there")
                }),
        }
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn places(dir: &Path) -> NotifyPlaces {
        NotifyPlaces {
            notes: dir.join("notes"),
            run_dir: dir.join("run"),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn the_note_goes_elsewhere_where_it_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        assert_eq!(places.read().unwrap(), None);
        let mut note = NotifyNote::new(at(0));
        note.trouble("mail", "why", at(1));
        places.write(&mut note, at(2)).unwrap();
        assert_eq!(places.read().unwrap().as_ref(), Some(&note));
        // A file in the folder's place: root may write anywhere else.
        let notes = dir.path().join("notes");
        fs::rename(&notes, dir.path().join("aside")).unwrap();
        fs::write(&notes, "").unwrap();
        note.trouble("mail", "other", at(3));
        places.write(&mut note, at(3)).unwrap();
        assert_eq!(places.read().unwrap().as_ref(), Some(&note));
        fs::remove_file(&notes).unwrap();
        fs::rename(dir.path().join("aside"), &notes).unwrap();
        // The older one there is not believed, though the clock went back meanwhile.
        assert_eq!(places.read().unwrap().as_ref(), Some(&note));
        places.write(&mut note, at(1)).unwrap();
        assert!(!dir.path().join("run/notify.json").exists());
        // Neither.
        let aside = dir.path().join("run");
        fs::remove_dir_all(&aside).unwrap();
        fs::remove_dir_all(&notes).unwrap();
        fs::write(&notes, "").unwrap();
        fs::write(&aside, "").unwrap();
        assert!(places.write(&mut note, at(5)).is_err());
        fs::remove_file(&notes).unwrap();
        places.write(&mut note, at(6)).unwrap();
        note.reached("mail");
        places.write(&mut note, at(7)).unwrap();
        assert_eq!(
            fs::read_dir(&notes).unwrap().count(),
            0,
            "an empty one is none"
        );
    }

    #[test]
    fn a_note_that_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let mut note = NotifyNote::new(at(0));
        note.trouble("mail", "why", at(0));
        places.write(&mut note, at(0)).unwrap();
        let path = dir.path().join("notes/.notify.json");
        for text in ["", "[]", "{\"version\":2}"] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(places.read().is_err(), "{text}");
        }
        fs::write(&path, serde_json::to_string(&note).unwrap()).unwrap();
        assert!(places.read().is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(places.read().is_err());
    }

    #[test]
    fn what_waits_is_bounded_and_pings_replace_each_other() {
        let mut note = NotifyNote::new(at(0));
        for second in 0..100 {
            note.tell("mail", &NotifyEvent::test("h", at(second)));
            note.ping("ping", PingKind::Success, at(second));
        }
        let mail = note.waiting.iter().filter(|one| one.channel == "mail");
        assert_eq!(mail.clone().count(), MOST_WAITING);
        assert_eq!(mail.map(|one| one.since).next(), Some(at(36)));
        assert_eq!(note.troubles["mail"].dropped, 36);
        assert_eq!(note.waiting.len(), MOST_WAITING + 1);
        for channel in 0..20 {
            for second in 0..30 {
                let event = NotifyEvent::test("h", at(second));
                note.tell(&channel.to_string(), &event);
            }
        }
        assert_eq!(note.waiting.len(), MOST_IN_ALL);
        note.keep_channels(&["19".into()]);
        assert_eq!((note.waiting.len(), note.troubles.len()), (30, 0));
    }
}
