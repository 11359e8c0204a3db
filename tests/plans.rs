//! Plans by command: what is made, refused, run, and noted. Their times, and ten years of
//! runs, are played through without it.

mod at_once;
mod clocks;
mod drilled;
mod files;
mod follow;
mod golden;
mod looks;
mod lost;
mod owed;
mod refused;
mod runs;
mod status;
mod times;
mod told;
mod units;
mod whose;

use crate::cli::lab::{Disk, Lab, Run, finish, noise};
use crate::cli::schema::check;
use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A host with plans of its own.
struct Scene {
    lab: Lab,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let lab = Lab::with_vault(test)?;
        fs::create_dir_all(lab.path("etc/plans.d")).unwrap();
        Some(Self { lab })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        command.env("STILLPOINT_CONFIG_DIR", self.lab.path("etc"));
        // Whether a time service keeps this host's clock must not matter.
        command.env("STILLPOINT_DISTRUST_CLOCK", "true");
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        finish(&mut self.command(args))
    }

    /// Runs it with `--json`; the document is as the schema of `command` says.
    fn checked(&self, command: &str, args: &[&str], code: i32) -> Value {
        let document = self.run(&[args, &["--json"]].concat()).expect(code).json();
        check(&self.lab, command, &document);
        document
    }

    /// Writes a plan's file by hand, as it was so long ago.
    fn write(&self, name: &str, text: &str, ago: Duration) {
        let path = self.lab.path(&format!("etc/plans.d/{name}.toml"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.lab.path(&format!("etc/plans.d/{name}.toml"))).unwrap()
    }

    fn note(&self, name: &str) -> Value {
        let path = self.lab.path(&format!("plans/{name}.json"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    fn has_note(&self, name: &str) -> bool {
        self.lab.path(&format!("plans/{name}.json")).exists()
    }

    /// The label of the plan that the newest snapshot bears.
    fn newest_id(&self) -> String {
        let snapshots = self.snapshots();
        let newest = snapshots.iter().max_by_key(|one| one["snapshot"].as_str());
        newest.unwrap()["tags"]["plan-id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn snapshots(&self) -> Vec<Value> {
        let list = self.run(&["list", "--json"]).expect(0).json();
        list["snapshots"].as_array().unwrap().clone()
    }
}

/// A disk with a little on it.
fn disk(lab: &Lab) -> Disk {
    let disk = lab.disk("disk", 24 << 20);
    fs::write(&disk.device, noise(1 << 20, 1)).unwrap();
    disk
}

const HOUR: Duration = Duration::from_secs(3600);

/// A start so long ago, in UTC and to the second.
fn ago(time: Duration) -> String {
    let then = Timestamp::now() - SignedDuration::try_from(time).unwrap();
    let then: DateTime = then.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    then.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[test]
fn plans_are_made_shown_changed_and_deleted() {
    let Some(scene) = Scene::new("plans: by command") else {
        return;
    };
    let none = scene.checked("plan list", &["plan", "list"], 0);
    assert_eq!(none["plans"], json!([]));
    let create = [
        "plan",
        "create",
        "daily",
        "--start",
        "02:30",
        "--zone",
        "Europe/Berlin",
        "--every",
        "1d",
        "--retention",
        "30d",
        "--jitter",
        "20m",
        "--window",
        "01:00-05:00",
        "--verify",
        "5%",
        "--verify-every",
        "1w",
        "--gc-every",
        "1d",
        "--limit-read",
        "20MiB/s",
        "--partial",
    ];
    let made = scene.checked("plan create", &create, 0);
    assert_eq!(
        (&made["state"], &made["disks"]),
        (&json!("new"), &Value::Null)
    );
    assert_eq!(made["next"].as_array().unwrap().len(), 5);
    assert_eq!(
        made["vault"],
        scene.lab.at("vault"),
        "the environment of a timer names none"
    );
    let file = scene.lab.path("etc/plans.d/daily.toml");
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);

    // A name that exists, and one that is made up.
    let error = scene.checked("error", &create, 1);
    assert_eq!(error["error"]["kind"], "exists");
    let unnamed = [
        "plan",
        "create",
        "--start",
        "2020-01-01T00:00:00",
        "--every",
        "6h",
    ];
    let text = scene.run(&unnamed).expect(0).stdout;
    assert!(text.contains("plan every-6h is made"), "{text}");
    assert!(text.contains("its start has passed"), "{text}");
    assert!(text.contains("plan run --due"), "{text}");
    // The same times, and all disks: they are told of one another.
    let again = scene.checked("plan create", &unnamed, 3);
    assert_eq!(again["plan"], "every-6h-2");
    let warning = again["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("plan every-6h runs at the same time"),
        "{warning}"
    );

    let rules = ["plan", "modify", "every-6h", "--keep-last", "3"];
    scene.run(&rules).expect(0);
    let weekly = ["plan", "modify", "every-6h", "--keep-weekly", "8"];
    let both = scene.checked("plan modify", &weekly, 0);
    assert_eq!(
        both["retention"]["rules"]["last"], 3,
        "what is not named stays"
    );
    assert_eq!(both["retention"]["rules"]["weekly"], 8);
    // What goes although it was not named is told.
    for (args, told) in [
        (["--retention", "7d"], "the rules of [retention] are gone"),
        (["--keep-last", "3"], "retention = \"7d\" is gone"),
    ] {
        let modify = [&["plan", "modify", "every-6h"], &args[..]].concat();
        let changed = scene.checked("plan modify", &modify, 3);
        let warning = changed["warnings"][0].as_str().unwrap();
        assert!(warning.contains(told), "{warning}");
    }
    let modify = [
        "plan",
        "modify",
        "daily",
        "--every",
        "12h",
        "--retention",
        "none",
    ];
    let changed = scene.checked("plan modify", &modify, 0);
    assert_eq!(
        (&changed["every"], &changed["retention"]),
        (&json!("12h"), &Value::Null)
    );
    let steps: Vec<&Value> = changed["steps"].as_array().unwrap().iter().collect();
    assert_eq!(steps.len(), 2, "verify and gc stay");
    let held = scene.checked("plan suspend", &["plan", "suspend", "daily"], 0);
    assert_eq!(
        (&held["state"], &held["next"]),
        (&json!("suspended"), &json!([]))
    );
    let shown = scene.checked("plan show", &["plan", "show", "daily"], 0);
    assert_eq!(shown["waits"]["reason"], "suspended");
    let on = scene.checked("plan resume", &["plan", "resume", "daily"], 0);
    assert_eq!(on["state"], "new");
    let list = scene.checked("plan list", &["plan", "list"], 0);
    let names = list["plans"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|plan| plan["plan"].as_str().unwrap()).collect();
    assert_eq!(names, ["daily", "every-6h", "every-6h-2"]);
    scene.checked("plan delete", &["plan", "delete", "daily"], 0);
    assert!(!file.exists());
    scene.checked("error", &["plan", "show", "daily"], 1);
}

#[test]
fn a_plan_runs_as_if_its_commands_had_been_typed() {
    let Some(scene) = Scene::new("plans: run") else {
        return;
    };
    let disk = disk(&scene.lab);
    let start = ago(3 * HOUR + HOUR / 2);
    let plan = format!(
        "start = {start:?}\nevery = \"1h\"\ndisks = [{:?}]\nvault = {:?}\n[retention]\nlast = 2\n\
         [verify]\nsample = \"100%\"\nevery = \"1d\"\n",
        disk.device,
        scene.lab.at("vault"),
    );
    scene.write("hourly", &plan, 10 * HOUR);
    let list = scene.checked("plan list", &["plan", "list"], 0);
    assert_eq!(list["plans"][0]["state"], "overdue");
    // The plan goes before the environment.
    let mut due = scene.command(&["plan", "run", "--due", "--json"]);
    due.env("STILLPOINT_VAULT", "/no/such/vault");
    let ran = finish(&mut due).expect(0).json();
    check(&scene.lab, "plan run", &ran);
    let ran = &ran["plans"][0];
    assert_eq!((&ran["state"], &ran["try"]), (&json!("ran"), &json!(1)));
    let said = ran["said"].to_string();
    assert!(said.contains("3 earlier times have passed"), "{said}");
    let steps: Vec<&str> = ran["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["prune", "verify"]);
    let snapshots = scene.snapshots();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0]["tags"]["plan"], "hourly");
    let machine = snapshots[0]["tags"]["plan-machine"].as_str();
    assert_eq!(machine.map(str::len), Some(16));
    assert_eq!(ran["snapshot"]["snapshot"], snapshots[0]["snapshot"]);

    // Once: nothing is due, and nothing is said.
    let again = scene.run(&["plan", "run", "--due"]).expect(0);
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    let waits = scene.checked("plan run", &["plan", "run", "--due"], 0);
    assert_eq!(waits["plans"][0]["waits"]["reason"], "not_yet");
    assert_eq!(scene.snapshots().len(), 1);

    // Each is a job, in words that can be typed again.
    let jobs = scene.run(&["job", "list", "--json"]).expect(0).json();
    let jobs = jobs["jobs"].as_array().unwrap().clone();
    let commands: Vec<&str> = jobs
        .iter()
        .map(|job| job["command"].as_str().unwrap())
        .collect();
    // Nothing was noted before, and nobody says that the clock is right.
    assert_eq!(commands, ["snapshot", "verify"]);
    let said = ran["steps"][0]["outcome"]["said"].as_str().unwrap();
    assert!(said.starts_with("nothing is deleted yet"), "{said}");
    let record = scene.run(&["job", "status", jobs[0]["job"].as_str().unwrap(), "--json"]);
    let words: Vec<String> =
        serde_json::from_value(record.expect(0).json()["args"].clone()).unwrap();
    assert!(words.contains(&"--tag=plan=hourly".to_owned()), "{words:?}");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    scene.run(&words).expect(0);
    assert_eq!(scene.snapshots().len(), 2);

    // Whoever asks for it gets it, and it prunes; what follows at an interval waits for its own.
    let asked = ["plan", "run", "hourly", "--clock-is-right"];
    let asked = scene.checked("plan run", &asked, 0);
    let steps = asked["plans"][0]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert_eq!(scene.snapshots().len(), 2, "the oldest of three goes");
    let shown = scene.checked("plan show", &["plan", "show", "hourly"], 0);
    assert_eq!(shown["state"], "good");
    assert_eq!(shown["last_good"], shown["last"]);

    // A flag goes before the plan.
    let other = scene.lab.at("other");
    scene.run(&["init", &other]).expect(0);
    let noted = scene.note("hourly");
    scene
        .run(&["plan", "run", "hourly", "--vault", &other])
        .expect(0);
    assert_eq!(scene.note("hourly"), noted, "it is no run of the plan's");
    let there = scene
        .run(&["list", "--vault", &other, "--json"])
        .expect(0)
        .json();
    assert_eq!(there["snapshots"].as_array().unwrap().len(), 1);
    // By the clock five days have passed: nothing is deleted until somebody has looked at it.
    let mut note = scene.note("hourly");
    let before = (Timestamp::now() - SignedDuration::from_hours(120)).to_string();
    note["served"] = before.clone().into();
    note["last_good"]["began"] = before.clone().into();
    note["clock"]["wall"] = before.into();
    fs::write(scene.lab.path("plans/hourly.json"), note.to_string()).unwrap();
    let due = scene.checked("plan run", &["plan", "run", "--due"], 3);
    let prune = &due["plans"][0]["steps"][0]["outcome"];
    let said = prune["said"].as_str().unwrap();
    assert!(said.contains("nothing is deleted since"), "{due}");
    assert_eq!(scene.snapshots().len(), 3);
    let shown = scene.checked("plan show", &["plan", "show", "hourly"], 0);
    assert_eq!(shown["state"], "warned");
    // Whoever asks for a run has not looked at the clock yet.
    scene.run(&["plan", "run", "hourly"]).expect(3);
    assert_eq!(scene.snapshots().len(), 4);
    scene
        .run(&["plan", "run", "hourly", "--clock-is-right"])
        .expect(0);
    assert_eq!(scene.snapshots().len(), 2);
    let shown = scene.checked("plan show", &["plan", "show", "hourly"], 0);
    assert_eq!(shown["state"], "good");
    // The label of another machine, an image of which it may be, keeps its snapshots from this
    // one's rules.
    let id = format!("plan-id={}", scene.newest_id());
    let others = [
        "snapshot",
        &disk.device,
        "--tag",
        "plan=hourly",
        "--tag",
        "plan-machine=x",
        "--tag",
        &id,
    ];
    scene.run(&others).expect(0);
    scene.run(&["plan", "run", "hourly"]).expect(0);
    assert_eq!(scene.snapshots().len(), 3);
    // A disk that is gone keeps no other from being taken, where the plan goes on with the rest.
    let both = format!("disks = [{:?}, \"gone\"]\npartial = true\n", disk.device);
    let partial = plan.replace(&format!("disks = [{:?}]\n", disk.device), &both);
    scene.write("hourly", &partial, 10 * HOUR);
    let run = scene.run(&["plan", "run", "hourly"]).expect(3);
    assert!(
        run.stdout.contains("gone not here, and left out"),
        "{run:?}"
    );
    // A plan whose file is gone is missed.
    fs::rename(
        scene.lab.path("etc/plans.d/hourly.toml"),
        scene.lab.path("away"),
    )
    .unwrap();
    let list = scene.checked("plan list", &["plan", "list"], 3);
    assert!(list["unreadable"].to_string().contains("is gone"), "{list}");
    fs::rename(
        scene.lab.path("away"),
        scene.lab.path("etc/plans.d/hourly.toml"),
    )
    .unwrap();
    // Held back: whoever asks for it gets it all the same, and nothing is due.
    scene.run(&["plan", "suspend", "hourly"]).expect(0);
    assert_eq!(scene.note("hourly")["suspended"], true);
    let held = scene.checked("plan run", &["plan", "run", "--due"], 0);
    assert_eq!(held["plans"][0]["waits"]["reason"], "suspended");
}

#[test]
fn a_run_that_fails_is_noted_told_and_tried_again() {
    let Some(scene) = Scene::new("plans: failing") else {
        return;
    };
    let vault = scene.lab.at("vault");
    let start = ago(HOUR / 2);
    let plan = format!(
        "start = {start:?}\nevery = \"1d\"\ndisks = [\"gone\"]\nvault = {vault:?}\n\
         retention = \"1d\"\n"
    );
    scene.write("daily", &plan, 10 * HOUR);
    let run = scene.run(&["plan", "run", "--due"]).expect(1);
    assert!(run.stdout.contains("gone"), "{run:?}");
    assert!(
        run.stdout.contains("plan daily FAILED, exit code 1"),
        "{run:?}"
    );
    let shown = scene.checked("plan show", &["plan", "show", "daily"], 0);
    assert_eq!(
        (&shown["state"], &shown["waits"]["reason"]),
        (&json!("failed"), &json!("pauses"))
    );
    assert_eq!(
        shown["steps"][0]["outcome"],
        Value::Null,
        "nothing is pruned after it"
    );
    // It pauses.
    scene.run(&["plan", "run", "--due"]).expect(0);
    assert_eq!(scene.note("daily")["last"]["number"], 1);
    // The pause is over: an hour has passed.
    let mut note = scene.note("daily");
    let before = (Timestamp::now() - SignedDuration::from_hours(1)).to_string();
    note["last"]["began"] = before.clone().into();
    note["last"]["ended"] = before.into();
    let path = scene.lab.path("plans/daily.json");
    fs::write(&path, note.to_string()).unwrap();
    scene.run(&["plan", "run", "--due"]).expect(1);
    assert_eq!(scene.note("daily")["last"]["number"], 2);
    // One that was cut off has no end: it is tried at once.
    let mut note = scene.note("daily");
    note["last"]["ended"] = Value::Null;
    note["last"]["outcome"] = Value::Null;
    fs::write(&path, note.to_string()).unwrap();
    let shown = scene.run(&["plan", "show", "daily"]).expect(0).stdout;
    assert!(shown.contains("the last run was cut off"), "{shown}");
    scene.run(&["plan", "run", "--due"]).expect(1);
    assert_eq!(scene.note("daily")["last"]["number"], 3);
    // A note that cannot be understood means a run more.
    fs::write(&path, "{").unwrap();
    let shown = scene.checked("plan show", &["plan", "show", "daily"], 0);
    assert!(
        shown["note_problem"]
            .as_str()
            .unwrap()
            .contains("plan daily")
    );
    let run = scene.run(&["plan", "run", "--due"]).expect(1);
    assert!(run.stdout.contains("it is written anew"), "{run:?}");
    assert_eq!(scene.note("daily")["last"]["number"], 1);
    // Where nothing can be noted nothing is run, and that is told.
    fs::remove_dir_all(scene.lab.path("plans")).unwrap();
    fs::write(scene.lab.path("plans"), "").unwrap();
    let jobs = fs::read_dir(scene.lab.path("jobs")).unwrap().count();
    let run = scene.run(&["plan", "run", "--due"]);
    assert!(
        run.code == 1 && run.stdout.contains("plan daily was NOT RUN"),
        "{run:?}"
    );
    assert_eq!(fs::read_dir(scene.lab.path("jobs")).unwrap().count(), jobs);
}
