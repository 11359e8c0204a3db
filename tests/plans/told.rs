//! Plans that tell when it did not go well, by the real program: each change once, whatever becomes
//! of who is told.

use super::{HOUR, Scene, ago, disk};
use crate::cli::lab::finish;
use crate::cli::schema::check_named;
use crate::notify::figures;
use crate::notify::receiver::{Answer, Receiver};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

/// Stands in each address, and must be shown nowhere.
const TOKEN: &str = "t0ken-in-the-path";

/// A host that tells a receiver.
struct Telling {
    start: String,
    scene: Scene,
    receiver: Receiver,
}

impl Telling {
    fn new(test: &str) -> Option<Self> {
        let scene = Scene::new(test)?;
        let receiver = Receiver::start(Answer::Status(200));
        let telling = Self {
            start: ago(3 * HOUR),
            scene,
            receiver,
        };
        telling.configure("");
        Some(telling)
    }

    /// Writes the configuration, with more keys of `[notify]`.
    fn configure(&self, more: &str) {
        let key = self.scene.lab.path("etc/key");
        fs::write(&key, "a secret of some length\n").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[notify]\nafter_boot = \"0s\"\nmetrics = {:?}\n{more}\n\
             [notify.webhook]\nurl = {:?}\nsecret_file = {key:?}\n\
             [notify.ping]\nurl = {:?}\nstart = true\nfail = true\n",
            self.metrics(),
            self.receiver.url(&format!("/{TOKEN}/hook")),
            self.receiver.url(&format!("/{TOKEN}/all")),
        );
        self.config(&text);
    }

    fn config(&self, text: &str) {
        let path = self.scene.lab.path("etc/config.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }

    fn metrics(&self) -> String {
        let folder = self.scene.lab.path("metrics");
        fs::create_dir_all(&folder).unwrap();
        folder.canonicalize().unwrap().to_str().unwrap().to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.scene.command(args);
        let journal = self.scene.lab.path("journal");
        command.env("STILLPOINT_JOURNAL_SOCKET", journal);
        command
    }

    /// Runs it, and nothing of an address is shown.
    fn run(&self, args: &[&str], code: i32) -> String {
        let run = finish(&mut self.command(args)).expect(code);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(!said.contains(TOKEN), "{said}");
        said
    }

    fn status(&self, args: &[&str]) -> Value {
        let all = [&["status", "--json"], args].concat();
        let run = finish(&mut self.command(&all));
        assert!(!run.stdout.contains(TOKEN), "{run:?}");
        let document = run.json();
        crate::cli::schema::check(&self.scene.lab, "status", &document);
        document
    }

    /// What the receiver was told: events of plans and their steps, and what was asked for.
    fn told(&self) -> Vec<String> {
        let asked = self.receiver.asked().into_iter();
        let words = asked.map(|one| {
            if one.line.starts_with("POST") {
                let document: Value = serde_json::from_str(&one.body).unwrap();
                check_named("notification", &document);
                let step = document["step"].as_str().unwrap_or("");
                let (event, plan) = (&document["event"], &document["plan"]);
                let words = format!("{} {} {step}", event.as_str().unwrap(), plan);
                return words.replace('"', "").trim_end().to_owned();
            }
            let path = one.line.split(' ').nth(1).unwrap();
            path.replace(&format!("/{TOKEN}"), "")
        });
        words.collect()
    }

    fn note(&self) -> Value {
        let path = self.scene.lab.path("plans/.notify.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The pauses of receivers are over.
    fn later(&self) {
        let mut note = self.note();
        for trouble in note["troubles"].as_object_mut().unwrap().values_mut() {
            trouble["tries"] = json!(0);
        }
        self.write_note(".notify", &note);
    }

    fn write_note(&self, name: &str, note: &Value) {
        let path = self.scene.lab.path(&format!("plans/{name}.json"));
        fs::write(&path, note.to_string()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    fn plan(&self, disk: &str, more: &str) {
        let text = format!(
            "start = {:?}\nevery = \"1d\"\ndisks = [{disk:?}]\nvault = {:?}\n{more}",
            self.start,
            self.scene.lab.at("vault"),
        );
        self.scene.write("daily", &text, 10 * HOUR);
    }
}

#[test]
fn each_change_is_told_once_over_ten_looks() {
    let Some(host) = Telling::new("plans: told once") else {
        return;
    };
    let journal = UnixDatagram::bind(host.scene.lab.path("journal")).unwrap();
    journal.set_nonblocking(true).unwrap();
    let disk = disk(&host.scene.lab);
    let due = ["plan", "run", "--due"];
    let now = ["plan", "run", "daily"];
    // Late before it ever ran: seen by who only asks.
    host.plan("gone", "");
    host.status(&["--notify"]);
    assert_eq!(host.told(), ["overdue daily"]);
    host.status(&["--notify"]);
    host.status(&[]);
    assert!(host.told().is_empty());
    // It fails, and is no less overdue.
    host.run(&due, 1);
    assert_eq!(host.told(), ["/all/start", "/all/fail"]);
    host.run(&due, 0);
    assert!(host.told().is_empty(), "it pauses");
    let mut bytes = vec![0; 64 << 10];
    let length = journal.recv(&mut bytes).unwrap();
    let entry = String::from_utf8_lossy(&bytes[..length]).into_owned();
    assert!(
        entry.contains("STILLPOINT_EVENT=overdue\nSTILLPOINT_EVENT_ID="),
        "{entry}"
    );
    assert!(entry.contains("\nSTILLPOINT_PLAN=daily\n"), "{entry}");
    assert!(journal.recv(&mut bytes).is_err(), "once");
    // It is good again.
    host.plan(&disk.device, "");
    host.run(&now, 0);
    assert_eq!(host.told(), ["/all/start", "recovered daily", "/all"]);
    // A step of it fails, and another plan is wrong.
    host.plan(&disk.device, "[mirror]\nto = \"/nowhere/at/all\"\n");
    host.run(&now, 3);
    assert_eq!(
        host.told(),
        ["/all/start", "failed daily mirror", "/all/fail"]
    );
    host.scene.write("wrong", "every = \"1d\"\n", HOUR);
    host.run(&due, 2);
    assert_eq!(host.told(), ["failed wrong", "/all/fail"]);
    // Of the host's address: not all is well, so it is not asked for.
    host.plan(&disk.device, "");
    host.run(&now, 0);
    assert_eq!(host.told(), ["/all/start"]);
    fs::remove_file(host.scene.lab.path("etc/plans.d/wrong.toml")).unwrap();
    host.run(&now, 0);
    assert_eq!(host.told(), ["/all/start", "/all"]);
    // The note is lost: what is good is not told.
    fs::remove_file(host.scene.lab.path("plans/.notify.json")).unwrap();
    host.run(&due, 0);
    assert!(host.told().is_empty());
    // To see whether it arrives at all.
    host.status(&["--notify-test"]);
    assert_eq!(host.told(), ["test null"]);
}

#[test]
fn what_cannot_be_sent_waits_and_hurts_nothing() {
    let Some(host) = Telling::new("plans: not told") else {
        return;
    };
    let disk = disk(&host.scene.lab);
    let now = ["plan", "run", "daily"];
    host.plan("gone", "");
    host.receiver.becomes(Answer::Close);
    host.run(&now, 1);
    let waiting = host.status(&[]);
    let of = |status: &Value, name: &str| -> Value {
        let all = status["notifications"]["receivers"].as_array().unwrap();
        let mut found = all.iter().filter(|one| one["receiver"] == name);
        found.next().unwrap().clone()
    };
    let webhook = of(&waiting, "webhook");
    assert_eq!(webhook["waiting"], 1, "{waiting}");
    assert!(webhook["failing_since"].is_string(), "{waiting}");
    assert!(
        webhook["place"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:")
    );
    let problems = waiting["problems"].to_string();
    assert!(
        problems.contains("notifications by webhook COULD NOT BE SENT since"),
        "{problems}"
    );
    let said = host.run(&["status"], 3);
    assert!(
        said.contains("notifications by webhook COULD NOT BE SENT"),
        "{said}"
    );
    assert!(!host.note().to_string().contains(TOKEN));
    // A snapshot ends as it does, and says so beside.
    host.plan(&disk.device, "");
    let said = host.run(&now, 0);
    assert!(
        said.contains("notifications: webhook: http://127.0.0.1:"),
        "{said}"
    );
    assert_eq!(host.note()["waiting"].as_array().unwrap().len(), 3);
    // The next occasion: all that waits, in its order.
    host.receiver.becomes(Answer::Status(200));
    host.run(&["plan", "run", "--due"], 0);
    assert!(host.told().is_empty(), "it pauses");
    host.later();
    host.run(&["plan", "run", "--due"], 0);
    assert_eq!(host.told(), ["overdue daily", "recovered daily", "/all"]);
    let fine = host.status(&[]);
    assert_eq!(of(&fine, "webhook")["failing_since"], Value::Null);
    assert_eq!(fine["problems"], json!([]));

    // Where it cannot be noted, it is noted elsewhere: told once all the same.
    let notes = host.scene.lab.path("plans");
    let aside = host.scene.lab.path("aside");
    fs::rename(&notes, &aside).unwrap();
    fs::write(&notes, "").unwrap();
    host.status(&["--notify"]);
    let first = host.told();
    host.status(&["--notify"]);
    assert!(host.told().is_empty(), "after {first:?}");
    fs::remove_file(&notes).unwrap();
    fs::rename(&aside, &notes).unwrap();
}

#[test]
fn a_table_that_is_wrong_keeps_no_snapshot_from_being_taken() {
    let Some(host) = Telling::new("plans: told wrongly") else {
        return;
    };
    let disk = disk(&host.scene.lab);
    host.plan(&disk.device, "");
    for table in [
        format!("[notify]\nurl = \"https://h/{TOKEN}\"\n"),
        format!("[notify.webhook]\nurl = \"ftp://h/{TOKEN}\"\n"),
        format!("[notify.ping]\nurl = [\"https://h/{TOKEN}\"]\n"),
        format!("notify = \"https://h/{TOKEN}\"\n"),
    ] {
        host.config(&table);
        let said = host.run(&["plan", "run", "daily"], 0);
        assert!(said.contains("plan daily is done"), "{said}");
        assert!(said.contains("notifications: the configuration"), "{said}");
        let status = host.status(&[]);
        let problems = &status["notifications"]["problems"];
        assert!(problems[0].as_str().unwrap().contains("notify"), "{status}");
    }
    assert_eq!(host.scene.snapshots().len(), 4);
    // What happens meanwhile is told once it is right.
    host.plan("gone", "");
    host.run(&["plan", "run", "daily"], 1);
    assert!(host.told().is_empty());
    host.configure("");
    host.status(&["--notify"]);
    assert_eq!(host.told(), ["failed daily"]);
    // Nor does what waits go.
    host.receiver.becomes(Answer::Status(500));
    host.plan(&disk.device, "");
    host.run(&["plan", "run", "daily"], 0);
    let waiting = host.note()["waiting"].as_array().unwrap().len();
    assert_eq!(waiting, 2, "the recovery, and the host's ping");
    host.config("notify = 1\n");
    host.status(&["--notify"]);
    assert_eq!(host.note()["waiting"].as_array().unwrap().len(), waiting);
    host.receiver.becomes(Answer::Status(200));
    host.configure("");
    host.later();
    host.receiver.asked();
    host.status(&["--notify"]);
    assert_eq!(host.told(), ["recovered daily", "/all"]);
    // A plan that is wrong runs nothing, as ever, and shows no address.
    host.configure("");
    host.plan(
        &disk.device,
        &format!("[notify]\nping = \"x://{TOKEN}\"\npong = true\n"),
    );
    let said = host.run(&["plan", "run", "daily"], 2);
    assert!(
        said.contains("notify.ping:") && said.contains("notify.pong:"),
        "{said}"
    );
    assert_eq!(host.told(), ["failed daily", "/all/fail"]);
}

/// What was killed leaves no outcome, and is no success.
#[test]
fn what_was_cut_off_or_is_not_known_is_never_called_good() {
    let Some(host) = Telling::new("plans: cut off, and told") else {
        return;
    };
    let disk = disk(&host.scene.lab);
    let one = host.receiver.url(&format!("/{TOKEN}/one"));
    let more = format!("[gc]\nevery = \"1d\"\n[notify]\nping = {one:?}\n");
    host.plan(&disk.device, &more);
    host.run(&["plan", "run", "daily"], 0);
    assert_eq!(host.told(), ["/all/start", "/all", "/one"]);
    // Killed in its step: what was to follow the snapshot never ended.
    let whole = host.scene.note("daily");
    let mut killed = whole.clone();
    killed["steps"] = json!({});
    host.write_note("daily", &killed);
    host.status(&["--notify"]);
    assert_eq!(host.told(), ["failed daily gc"]);
    host.run(&["plan", "run", "daily"], 0);
    assert_eq!(
        host.told(),
        ["/all/start", "recovered daily gc", "/all", "/one"]
    );
    // Killed in a run that somebody had asked for: nobody tries it again.
    let mut killed = host.scene.note("daily");
    for key in ["ended", "outcome", "time"] {
        killed["last"][key] = Value::Null;
    }
    host.write_note("daily", &killed);
    host.status(&["--notify"]);
    assert_eq!(host.told(), ["failed daily"]);
    // Nothing is known any more: that is no recovery.
    fs::remove_file(host.scene.lab.path("plans/daily.json")).unwrap();
    host.status(&["--notify"]);
    // It is owed then, and late.
    assert_eq!(host.told(), ["overdue daily"]);
    host.write_note("daily", &json!([]));
    host.status(&["--notify"]);
    assert!(host.told().is_empty());
    host.run(&["plan", "run", "daily"], 0);
    let told = host.told();
    assert_eq!(told, ["/all/start", "recovered daily", "/all", "/one"]);
}

/// A success that could not be told is none any more once a run has failed.
#[test]
fn a_success_of_before_feeds_no_switch_after_a_failure() {
    let Some(host) = Telling::new("plans: stale pings") else {
        return;
    };
    let disk = disk(&host.scene.lab);
    let one = host.receiver.url(&format!("/{TOKEN}/one"));
    let more = format!("[notify]\nping = {one:?}\n");
    host.plan(&disk.device, &more);
    host.receiver.becomes(Answer::Close);
    host.run(&["plan", "run", "daily"], 0);
    assert_eq!(host.note()["waiting"].as_array().unwrap().len(), 2);
    host.plan("gone", &more);
    host.run(&["plan", "run", "daily"], 1);
    host.receiver.becomes(Answer::Status(200));
    host.receiver.asked();
    host.later();
    host.status(&["--notify"]);
    assert_eq!(host.told(), ["failed daily", "/all/fail"]);
}

#[test]
fn figures_of_real_runs_are_there_for_node_exporter() {
    let Some(host) = Telling::new("plans: figures") else {
        return;
    };
    let disk = disk(&host.scene.lab);
    host.plan(
        &disk.device,
        &format!(
            "[notify]\nsilent = true\nping = {:?}\n",
            host.receiver.url(&format!("/{TOKEN}/one"))
        ),
    );
    host.run(&["plan", "run", "daily"], 0);
    let asked = host.told();
    assert_eq!(asked, ["/all/start", "/all", "/one"]);
    let path = host.scene.lab.path("metrics/stillpoint.prom");
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o644);
    let samples = figures::read(&fs::read_to_string(&path).unwrap());
    let daily = ("plan", "daily");
    let of = |name: &str, labels: &[(&str, &str)]| figures::value(&samples, name, labels);
    assert_eq!(
        of("stillpoint_plan_state", &[daily, ("state", "good")]),
        Some(1.0)
    );
    assert_eq!(
        of("stillpoint_plan_last_try_exit_code", &[daily]),
        Some(0.0)
    );
    assert_eq!(
        of("stillpoint_plan_interval_seconds", &[daily]),
        Some(86_400.0)
    );
    assert!(of("stillpoint_plan_last_good_timestamp_seconds", &[daily]).is_some());
    assert!(!fs::read_to_string(&path).unwrap().contains(TOKEN));
    // Nobody is told of this one, but figures say it.
    host.plan("gone", "[notify]\nsilent = true\n");
    host.run(&["plan", "run", "daily"], 1);
    assert_eq!(host.told(), ["/all/start", "/all/fail"]);
    let samples = figures::read(&fs::read_to_string(&path).unwrap());
    let failed = [daily, ("state", "failed")];
    assert_eq!(
        figures::value(&samples, "stillpoint_plan_state", &failed),
        Some(1.0)
    );
    // A folder that is gone is told of, and nothing else comes of it.
    fs::remove_dir_all(host.scene.lab.path("metrics")).unwrap();
    let said = host.run(&["plan", "run", "--due", "-v"], 0);
    assert!(said.contains("notifications: metrics:"), "{said}");
}

/// `plan show` says who is told, and of an address no more than its scheme and host.
#[test]
fn a_plan_shows_who_is_told_and_no_secret() {
    let Some(host) = Telling::new("plans: who is told") else {
        return;
    };
    let one = host.receiver.url(&format!("/{TOKEN}/daily"));
    let shown = one.split(&format!("/{TOKEN}")).next().unwrap();
    let more = format!("[notify]\nping = {one:?}\nping_fail = true\nsilent = true\n");
    host.plan("gone", &more);
    let said = host.run(&["plan", "show", "daily"], 0);
    let line = format!("pings {shown} after a good run, after one that failed (/fail)\n");
    assert!(said.contains(&line), "{said}");
    assert!(said.contains("nobody is told of it (silent)"), "{said}");
    let said = host.run(&["plan", "show", "daily", "--json"], 0);
    let document: Value = serde_json::from_str(&said).unwrap();
    crate::cli::schema::check(&host.scene.lab, "plan show", &document);
    let ping = json!({"place": shown, "start": false, "fail": true});
    assert_eq!(document["notify"], json!({"silent": true, "ping": ping}));
    let file = host.scene.lab.at("url");
    host.plan("gone", &format!("[notify]\nping_file = {file:?}\n"));
    let said = host.run(&["plan", "show", "daily"], 0);
    assert!(
        said.contains(&format!("pings what stands in {file} after")),
        "{said}"
    );
}
