//! Telling that it did not go well: what receivers get, and what becomes of what they do not take.

pub mod figures;
pub mod receiver;

use jiff::{SignedDuration, Timestamp};
use receiver::{Answer, Receiver};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stillpoint::config::{
    MailSettings, NotifySettings, PingSettings, SecretUrl, WebAddress, WebhookSettings,
};
use stillpoint::freeze::FrozenNow;
use stillpoint::notify::{Courier, EACH, NotifyEvent, NotifyNote, PingKind, WebhookSecret};

const SECRET: &[u8] = b"a secret of some length";

fn address(url: &str) -> WebAddress {
    WebAddress::Url(SecretUrl::parse(url).unwrap())
}

fn webhook(url: &str) -> NotifySettings {
    NotifySettings {
        webhook: Some(WebhookSettings {
            address: address(url),
            secret_file: None,
            ca_file: None,
        }),
        ..NotifySettings::default()
    }
}

fn ping(url: &str) -> PingSettings {
    PingSettings {
        address: address(url),
        start: true,
        fail: true,
        ca_file: None,
    }
}

fn event() -> NotifyEvent {
    let mut event = NotifyEvent::test("host", Timestamp::now());
    event.plan = Some("daily".into());
    event
}

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}

/// A folder where root alone can rename what is in it.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/var/lib").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    dir
}

/// Has all that waits sent once, as a process would, so long after now.
struct Occasion {
    later: SignedDuration,
    each: Duration,
}

const LONG: Duration = Duration::from_secs(30);

impl Occasion {
    fn deliver(&self, settings: &NotifySettings, pings: &Pings, note: &mut NotifyNote) {
        let secret = WebhookSecret::new(SECRET.to_vec()).unwrap();
        let courier = Courier {
            settings,
            plans: pings,
            secret: Some(&secret),
            frozen: &|| FrozenNow::Nothing,
            cancelled: &|| false,
            each: self.each,
            until: Instant::now() + 4 * LONG,
        };
        courier.deliver(note, &mut BTreeSet::new(), Timestamp::now() + self.later);
    }
}

type Pings = BTreeMap<String, PingSettings>;

fn deliver(settings: &NotifySettings, pings: &Pings, note: &mut NotifyNote) {
    let now = Occasion {
        later: SignedDuration::ZERO,
        each: LONG,
    };
    now.deliver(settings, pings, note);
}

/// The same after so many minutes.
fn deliver_later(minutes: i64, settings: &NotifySettings, pings: &Pings, note: &mut NotifyNote) {
    let later = Occasion {
        later: SignedDuration::from_mins(minutes),
        each: LONG,
    };
    later.deliver(settings, pings, note);
}

fn told(events: usize) -> NotifyNote {
    let mut note = NotifyNote::new(Timestamp::now());
    for _ in 0..events {
        note.tell("webhook", &event());
    }
    note
}

#[test]
fn a_receiver_that_does_not_answer_well_keeps_nobody_for_long() {
    assert_eq!(EACH, Duration::from_secs(10));
    let other = Receiver::start(Answer::Status(200));
    let receiver = Receiver::start(Answer::Status(204));
    let settings = webhook(&receiver.url("/t0ken?key=t0ken"));
    for (answer, why) in [
        (Answer::Status(500), "it answered 500"),
        (Answer::Status(404), "it answered 404"),
        (
            Answer::Redirect(other.url("/stolen")),
            "redirects are not followed",
        ),
        (
            Answer::Redirect(receiver.url("/again")),
            "redirects are not followed",
        ),
        (Answer::Hang, "no answer within"),
        (Answer::Drip, "no answer within"),
        (Answer::Rubbish, "it cannot be reached"),
        (Answer::Close, "it cannot be reached"),
    ] {
        receiver.becomes(answer.clone());
        let mut note = told(3);
        let hangs = matches!(answer, Answer::Hang | Answer::Drip);
        let now = Occasion {
            later: SignedDuration::ZERO,
            each: if hangs {
                Duration::from_millis(500)
            } else {
                LONG
            },
        };
        now.deliver(&settings, &BTreeMap::new(), &mut note);
        assert_eq!(note.waiting.len(), 3, "{answer:?}: nothing is lost");
        let trouble = &note.troubles["webhook"];
        assert!(trouble.reason.contains(why), "{answer:?}: {trouble:?}");
        assert!(trouble.reason.contains("http://127.0.0.1:"), "{trouble:?}");
        let noted = serde_json::to_string(&note).unwrap();
        assert!(!noted.contains("t0ken"), "{noted}");
        let asked = receiver.asked();
        assert!(
            asked.len() <= 1,
            "{answer:?}: one that fails is not tried twice: {asked:?}"
        );
        // It pauses, and is tried again.
        receiver.becomes(Answer::Endless);
        deliver(&settings, &BTreeMap::new(), &mut note);
        assert_eq!(receiver.asked().len(), 0, "{answer:?}");
        deliver_later(1, &settings, &BTreeMap::new(), &mut note);
        assert!(
            note.waiting.is_empty() && note.troubles.is_empty(),
            "{note:?}"
        );
        assert_eq!(receiver.asked().len(), 3);
    }
    assert!(
        other.asked().is_empty(),
        "the document went to another host"
    );
    // Nobody there, and a name that nobody has.
    let gone = Receiver::start(Answer::Status(200)).url("/t0ken");
    for url in [gone.as_str(), "http://nowhere.invalid/t0ken"] {
        let mut note = told(1);
        deliver(&webhook(url), &BTreeMap::new(), &mut note);
        let reason = &note.troubles["webhook"].reason;
        assert!(!reason.contains("t0ken"), "{reason}");
    }
}

fn ids(note: &NotifyNote) -> Vec<String> {
    let events = note.waiting.iter();
    events.map(|one| one.event.clone().unwrap().id).collect()
}

/// The last that a receiver hears is the last that happened.
#[test]
fn messages_come_in_their_order_and_what_is_refused_for_ever_is_given_up() {
    let receiver = Receiver::start(Answer::Status(503));
    let settings = webhook(&receiver.url("/"));
    let mut note = told(3);
    let expected = ids(&note);
    for look in 0..4 {
        deliver_later(look * 120, &settings, &BTreeMap::new(), &mut note);
        assert_eq!(ids(&note), expected, "an outage changes nothing");
    }
    receiver.asked();
    receiver.becomes(Answer::Status(413));
    for (look, left) in [(600, 3), (720, 3), (840, 2)] {
        deliver_later(look, &settings, &BTreeMap::new(), &mut note);
        assert_eq!(ids(&note), expected[3 - left..]);
    }
    assert_eq!(note.troubles["webhook"].dropped, 1);
    assert_eq!(receiver.asked().len(), 3);
    receiver.becomes(Answer::Status(200));
    deliver_later(960, &settings, &BTreeMap::new(), &mut note);
    let asked = receiver.asked().into_iter();
    let came = asked.map(|one| {
        let document: serde_json::Value = serde_json::from_str(&one.body).unwrap();
        document["id"].as_str().unwrap().to_owned()
    });
    assert_eq!(came.collect::<Vec<_>>(), expected[1..]);
}

/// Pauses double, to an hour.
#[test]
fn a_receiver_that_is_dead_is_not_tried_at_each_look() {
    let receiver = Receiver::start(Answer::Status(500));
    let settings = webhook(&receiver.url("/"));
    let mut note = told(1);
    for minute in 0..=600 {
        deliver_later(minute, &settings, &BTreeMap::new(), &mut note);
    }
    // After 0, 1, 3, 7, 15, 31 and 63 minutes, then 60 each.
    assert_eq!(receiver.asked().len(), 7 + 8);
    // A clock that goes back silences nobody.
    deliver(&settings, &BTreeMap::new(), &mut note);
    assert_eq!(receiver.asked().len(), 1);
}

#[test]
fn a_document_is_as_its_schema_says_and_signed_as_the_page_says() {
    let receiver = Receiver::start(Answer::Status(200));
    let mut note = told(1);
    deliver(&webhook(&receiver.url("/in")), &BTreeMap::new(), &mut note);
    let asked = receiver.asked().remove(0);
    assert_eq!(asked.line, "POST /in HTTP/1.1");
    assert_eq!(asked.headers["content-type"], "application/json");
    assert!(asked.headers["user-agent"].starts_with("stillpoint/"));
    let document = serde_json::from_str(&asked.body).unwrap();
    crate::cli::schema::check_named("notification", &document);
    assert_eq!(document["plan"], "daily");

    // The receiver of the page, as it is printed there.
    let page = include_str!("../src/cli/pages/notify.md");
    let python = page.split("```python\n").nth(1).unwrap();
    let python = python.split("```").next().unwrap();
    assert!(python.lines().count() <= 12, "ten lines are promised");
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    fs::write(&key, [SECRET, b"\n"].concat()).unwrap();
    let python = python.replace("/etc/receiver.key", key.to_str().unwrap());
    let sent = &asked.headers["stillpoint-timestamp"];
    let right = &asked.headers["stillpoint-signature"];
    let program = format!(
        "import sys\n{python}\n\
         body = sys.stdin.buffer.read()\n\
         def tried(sent, signature, body):\n    \
             try:\n        \
                 event = check({{'Stillpoint-Timestamp': sent, \
                                'Stillpoint-Signature': signature}}, body)\n        \
                 if event: seen.add(event['id'])\n        \
                 return event['event'] if event else 'again'\n    \
             except ValueError: return 'refused'\n\
         print(tried({sent:?}, {right:?}, body + b' '))\n\
         print(tried({sent:?}, 'v1=' + '0' * 64, body))\n\
         print(tried({sent:?}, 'v1=\\u00e9', body))\n\
         print(tried(str(int({sent:?}) + 1), {right:?}, body))\n\
         print(tried({sent:?}, {right:?}, body))\n\
         print(tried({sent:?}, {right:?}, body))\n\
         import time\n\
         late = time.time() + 3600\n\
         time.time = lambda: late\n\
         seen.clear()\n\
         print(tried({sent:?}, {right:?}, body))\n"
    );
    let mut child = match Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => return crate::support::host::skipped("notify: python", &error.to_string()),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(asked.body.as_bytes()).unwrap();
    drop(stdin);
    let said = child.wait_with_output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let expected = [
        "refused", "refused", "refused", "refused", "test", "again", "refused",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn nothing_is_sent_without_a_secret_nor_by_one_that_others_can_read() {
    let receiver = Receiver::start(Answer::Status(200));
    let dir = folder();
    let key = dir.path().join("key");
    fs::write(&key, SECRET).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let mut settings = webhook(&receiver.url("/"));
    let deliver = |settings: &NotifySettings| {
        let mut note = told(1);
        Courier {
            settings,
            plans: &BTreeMap::new(),
            secret: None,
            frozen: &|| FrozenNow::Nothing,
            cancelled: &|| false,
            each: LONG,
            until: Instant::now() + LONG,
        }
        .deliver(&mut note, &mut BTreeSet::new(), Timestamp::now());
        note.troubles.get("webhook").map(|one| one.reason.clone())
    };
    let why = deliver(&settings).unwrap();
    assert!(why.contains("nothing is sent unsigned"), "{why}");
    settings.webhook.as_mut().unwrap().secret_file = Some(key.clone());
    let why = deliver(&settings).unwrap();
    assert!(why.contains("chmod 0600"), "{why}");
    assert!(receiver.asked().is_empty());
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(deliver(&settings), None);
    assert_eq!(receiver.asked().len(), 1);
}

#[test]
fn nothing_is_sent_while_a_run_holds_anything_frozen() {
    let receiver = Receiver::start(Answer::Status(200));
    let mut settings = webhook(&receiver.url("/"));
    settings.command = Some("/nowhere/tell.sh".into());
    let secret = WebhookSecret::new(SECRET.to_vec()).unwrap();
    let looks = Cell::new(0);
    let frozen = Cell::new(FrozenNow::ByARun);
    let deliver = |note: &mut NotifyNote| {
        let courier = Courier {
            settings: &settings,
            plans: &BTreeMap::new(),
            secret: Some(&secret),
            frozen: &|| frozen.get(),
            // Somebody stops it after some looks.
            cancelled: &|| {
                looks.set(looks.get() + 1);
                looks.get() == 5
            },
            each: LONG,
            until: Instant::now() + LONG,
        };
        courier.deliver(note, &mut BTreeSet::new(), Timestamp::now());
        courier.ask_now("ping", PingKind::Start, LONG);
    };
    let mut note = told(1);
    note.tell("command", &event());
    deliver(&mut note);
    assert_eq!(note.waiting.len(), 2);
    assert!(note.troubles.is_empty(), "it waits, and has not failed");
    assert!(receiver.asked().is_empty());
    // What a dead run has left keeps those from it that write to disks, and that is told.
    frozen.set(FrozenNow::LeftBehind);
    deliver(&mut note);
    assert_eq!(note.waiting.len(), 1);
    let why = &note.troubles["command"].reason;
    assert!(why.contains("stillpoint thaw"), "{why}");
    assert_eq!(receiver.asked().len(), 1);
}

#[test]
fn pings_say_how_it_went_and_replace_each_other() {
    let receiver = Receiver::start(Answer::Status(500));
    let settings = NotifySettings {
        ping: Some(ping(&receiver.url("/all?status=up"))),
        ..NotifySettings::default()
    };
    let pings = [("daily".to_owned(), ping(&receiver.url("/one/")))];
    let pings = BTreeMap::from(pings);
    let now = Timestamp::now();
    let mut note = NotifyNote::new(now);
    note.ping("ping", PingKind::Success, now);
    note.ping("ping daily", PingKind::Success, now);
    deliver(&settings, &pings, &mut note);
    assert_eq!(receiver.asked().len(), 2);
    // It failed meanwhile: the success of before is told no more.
    note.ping("ping daily", PingKind::Fail, now);
    receiver.becomes(Answer::Status(200));
    deliver_later(1, &settings, &pings, &mut note);
    let lines: Vec<String> = receiver.asked().into_iter().map(|one| one.line).collect();
    let expected = ["GET /all?status=up HTTP/1.1", "GET /one/fail HTTP/1.1"];
    assert_eq!(lines, expected);
    assert!(note.waiting.is_empty() && note.troubles.is_empty());
    // What comes hours later says nothing.
    let then = now - jiff::SignedDuration::from_hours(2);
    note.ping("ping daily", PingKind::Success, then);
    deliver(&settings, &pings, &mut note);
    assert!(receiver.asked().is_empty() && note.waiting.is_empty());
    assert_eq!(note.troubles["ping daily"].dropped, 1);
}

#[test]
fn scripts_and_mail_get_the_message_and_are_bounded() {
    let dir = folder();
    let out = dir.path().join("out");
    let at = out.display();
    let command = script(
        dir.path(),
        "tell.sh",
        &format!("#!/bin/sh\ncat > {at}\necho \"$STILLPOINT_EVENT $STILLPOINT_PLAN\" >> {at}\n"),
    );
    let sendmail = script(
        dir.path(),
        "sendmail",
        &format!("#!/bin/sh\necho \"$@\" > {at}.mail\ncat >> {at}.mail\n"),
    );
    let mut settings = NotifySettings {
        command: Some(command.clone()),
        mail: Some(MailSettings {
            to: vec!["root".into(), "ops@example.org".into()],
            from: None,
            sendmail: sendmail.clone(),
        }),
        ..NotifySettings::default()
    };
    let both = |note: &mut NotifyNote| {
        note.tell("command", &event());
        note.tell("mail", &event());
    };
    let mut note = NotifyNote::new(Timestamp::now());
    both(&mut note);
    deliver(&settings, &BTreeMap::new(), &mut note);
    assert!(
        note.waiting.is_empty() && note.troubles.is_empty(),
        "{note:?}"
    );
    let said = fs::read_to_string(&out).unwrap();
    let (document, words) = said.rsplit_once('}').unwrap();
    let document = serde_json::from_str(&format!("{document}}}")).unwrap();
    crate::cli::schema::check_named("notification", &document);
    assert_eq!(words.trim(), "test daily");
    let mail = fs::read_to_string(dir.path().join("out.mail")).unwrap();
    assert!(
        mail.starts_with("-oi -t\nTo: root,\n ops@example.org\n"),
        "{mail}"
    );

    // Both fail, hang, and are gone: what they say is bounded, and nothing is lost.
    script(
        dir.path(),
        "tell.sh",
        "#!/bin/sh\nyes loud | head -c 1000000\nexit 7\n",
    );
    script(dir.path(), "sendmail", "#!/bin/sh\necho busy\nexit 75\n");
    both(&mut note);
    deliver(&settings, &BTreeMap::new(), &mut note);
    assert_eq!(note.waiting.len(), 2);
    let reason = &note.troubles["command"].reason;
    assert!(
        reason.contains("it exited with 7; it said: loud"),
        "{reason}"
    );
    let reason = &note.troubles["mail"].reason;
    assert!(
        reason.contains("it exited with 75; it said: busy"),
        "{reason}"
    );
    fs::set_permissions(&command, Permissions::from_mode(0o755)).unwrap();
    settings.mail.as_mut().unwrap().sendmail = dir.path().join("none");
    deliver_later(1, &settings, &BTreeMap::new(), &mut note);
    assert_eq!(note.waiting.len(), 2);
    let reason = &note.troubles["command"].reason;
    assert!(reason.contains("0700"), "{reason}");
    let reason = &note.troubles["mail"].reason;
    assert!(reason.contains("cannot be started"), "{reason}");
    // What has run did what it did: it is not run for ever.
    fs::set_permissions(&command, Permissions::from_mode(0o700)).unwrap();
    for look in [10, 20, 40] {
        deliver_later(look, &settings, &BTreeMap::new(), &mut note);
    }
    let left: Vec<&str> = note.waiting.iter().map(|one| &*one.channel).collect();
    assert_eq!(left, ["mail"], "the command was tried three times");
    assert_eq!(note.troubles["command"].dropped, 1);
}
