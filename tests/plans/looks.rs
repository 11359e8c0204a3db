//! Looks at plans where something is amiss: another plan, systemd, the note, the boot.

use super::{HOUR, Scene, ago, disk};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn script(scene: &Scene, name: &str, body: &str) -> String {
    let path = scene.lab.path(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn text(scene: &Scene, disk: &str) -> String {
    format!(
        "start = {:?}\nevery = \"1h\"\ndisks = [{disk:?}]\nvault = {:?}\n",
        ago(3 * HOUR + HOUR / 2),
        scene.lab.at("vault"),
    )
}

#[test]
fn two_plans_in_one_look_are_both_run() {
    let Some(scene) = Scene::new("plans: two in one look") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.write("a-gone", &text(&scene, "gone"), 10 * HOUR);
    scene.write("b-good", &text(&scene, &disk.device), 10 * HOUR);
    scene.write("c-good", &text(&scene, &disk.device), 10 * HOUR);
    let ran = scene.checked("plan run", &["plan", "run", "--due"], 1);
    let plans = ran["plans"].as_array().unwrap();
    let codes: Vec<&Value> = plans.iter().map(|plan| &plan["exit_code"]).collect();
    assert_eq!(codes, [&json!(1), &json!(0), &json!(0)], "{ran}");
    assert_eq!(scene.snapshots().len(), 2);
    // Each at its own moment.
    let began = |name: &str| {
        scene.note(name)["last"]["began"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let time = |name: &str| began(name).parse::<Timestamp>().unwrap();
    let ended = scene.note("b-good")["last"]["ended"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(ended.parse::<Timestamp>().unwrap() <= time("c-good"));
}

#[test]
fn a_systemd_that_does_not_answer_is_asked_once() {
    let Some(scene) = Scene::new("plans: a silent systemd") else {
        return;
    };
    let disk = disk(&scene.lab);
    let units = scene.lab.at("units");
    fs::create_dir(&units).unwrap();
    let asked = scene.lab.at("asked");
    let answers = script(&scene, "answers", "exit 0");
    let silent = script(
        &scene,
        "silent",
        &format!("echo \"$*\" >>{asked}; exec sleep 1000"),
    );
    let with = |args: &[&str], program: &str| {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        [
            args,
            ["--unit-dir", &units, "--systemctl", program]
                .map(Into::into)
                .to_vec(),
        ]
        .concat()
    };
    for name in ["one", "two"] {
        let create = [
            "plan",
            "create",
            name,
            "--every",
            "1d",
            "--start",
            "2199-01-01T00:00:00",
        ];
        let create = [&create[..], &["--disk", &disk.device]].concat();
        let args = with(&create, &answers);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // The second one runs at the same time.
        assert!([0, 3].contains(&scene.run(&args).code));
    }
    let list = with(&["plan", "list"], &silent);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let list = scene.checked("plan list", &list, 0);
    for plan in list["plans"].as_array().unwrap() {
        assert_eq!(plan["timer"]["state"], "written");
        assert_eq!(
            plan["timer"]["active"],
            Value::Null,
            "who cannot ask does not know"
        );
    }
    let asked = fs::read_to_string(scene.lab.path("asked")).unwrap();
    assert_eq!(asked, "is-active --quiet stillpoint-plan-one.timer\n");
}

/// What was done is told, and nothing follows that nobody could note.
#[test]
fn a_note_that_cannot_be_written_any_more_lets_nothing_follow() {
    let Some(scene) = Scene::new("plans: a note that is lost in a run") else {
        return;
    };
    let mut disk = scene.lab.disk("disk", 24 << 20);
    disk.mount("ext4");
    let (notes, away) = (scene.lab.at("plans"), scene.lab.at("away"));
    let pre = script(
        &scene,
        "pre.sh",
        &format!("mv {notes} {away} && touch {notes}"),
    );
    let post = script(&scene, "post.sh", "true");
    let more = format!(
        "level = \"application\"\n[hooks]\nprescript = {pre:?}\npostscript = {post:?}\n\
         [verify]\nsample = \"100%\"\n[retention]\nlast = 1\n"
    );
    scene.write(
        "hourly",
        &format!("{}{more}", text(&scene, &disk.device)),
        10 * HOUR,
    );
    let ran = scene.checked("plan run", &["plan", "run", "--due"], 3);
    let ran = &ran["plans"][0];
    assert_eq!(
        (&ran["state"], &ran["steps"]),
        (&json!("ran"), &json!([])),
        "{ran}"
    );
    assert_eq!(ran["snapshot"]["exit_code"], 0, "{ran}");
    let error = ran["error"].to_string();
    assert!(
        error.contains("nothing can be noted of plan hourly"),
        "{ran}"
    );
    let jobs = scene.run(&["job", "list", "--json"]).expect(0).json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs}");
    // The note of before says that it was begun: it is run once more.
    fs::remove_file(&notes).unwrap();
    fs::rename(&away, &notes).unwrap();
    fs::write(&pre, "#!/bin/sh\ntrue\n").unwrap();
    scene.run(&["plan", "run", "--due"]).expect(0);
    assert_eq!(scene.note("hourly")["last"]["number"], 2);
}

#[test]
fn what_is_due_over_a_reboot_is_run_and_deletes_where_little_time_has_passed() {
    let Some(scene) = Scene::new("plans: over a reboot") else {
        return;
    };
    let disk = disk(&scene.lab);
    let plan = format!("{}[retention]\nlast = 1\n", text(&scene, &disk.device));
    scene.write("hourly", &plan, 10 * HOUR);
    scene.run(&["plan", "run", "--due"]).expect(0);
    // The clock is believed from here on.
    scene
        .run(&["plan", "run", "hourly", "--clock-is-right"])
        .expect(0);
    assert_eq!(scene.snapshots().len(), 1);
    let path = scene.lab.path("plans/hourly.json");
    let before = scene.note("hourly");
    for (hours, held) in [(2, false), (200, true)] {
        let mut note = before.clone();
        let earlier = |text: &Value| -> Value {
            let time: Timestamp = text.as_str().unwrap().parse().unwrap();
            (time - SignedDuration::from_hours(hours))
                .to_string()
                .into()
        };
        note["served"] = earlier(&note["served"]);
        for key in ["began", "ended"] {
            note["last_good"][key] = earlier(&note["last_good"][key]);
        }
        // The run of the other boot was cut off.
        note["last"] = json!({
            "time": earlier(&before["served"]), "number": 1, "began": note["last_good"]["began"],
            "ended": null, "outcome": null,
        });
        note["clock"]["boot"] = "another".into();
        note["clock"]["wall"] = earlier(&note["clock"]["wall"]);
        fs::write(&path, note.to_string()).unwrap();
        let ran = scene.checked(
            "plan run",
            &["plan", "run", "--due"],
            if held { 3 } else { 0 },
        );
        assert_eq!(ran["plans"][0]["state"], "ran", "{ran}");
        let said = ran["plans"][0]["steps"][0]["outcome"]["said"].to_string();
        assert_eq!(
            said.contains("the clock has jumped, or was off for long"),
            held,
            "{said}"
        );
        assert_eq!(scene.snapshots().len(), if held { 2 } else { 1 });
    }
}
