//! The units by which systemd runs a plan. systemd-analyze is the oracle where it is there: systemd
//! itself need not run.

use super::times::{CASES, at, edited};
use super::{Scene, ago};
use crate::cli::lab::try_tool;
use crate::support::host::skipped;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase, db};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stillpoint::plan::{
    HostClock, PlanEdit, SnapshotPlan, UnitContext, calendar, service_text, timer_text,
};

/// The seconds of an hour at which `*-*-* *:07/15:09 UTC` fires.
fn seconds_of(calendar: &str) -> Vec<i64> {
    let rest = calendar.strip_prefix("*-*-* *:").unwrap();
    let rest = rest.strip_suffix(" UTC").unwrap();
    let (minutes, second) = rest.split_once(':').unwrap();
    let (first, step) = minutes.split_once('/').unwrap();
    let number = |text: &str| text.parse::<i64>().unwrap();
    let minutes = (number(first)..60).step_by(usize::try_from(number(step)).unwrap());
    minutes.map(|minute| minute * 60 + number(second)).collect()
}

/// At each of the plan's times in ten years the timer fires, and between them no more than a
/// quarter of an hour goes by without a look.
fn holds_all(plan: &SnapshotPlan, shown: &str) {
    for host in ["a", "b"] {
        let clock = HostClock::of(plan, host);
        let calendar = calendar(plan, &clock);
        let seconds = seconds_of(&calendar);
        assert!(seconds.len() >= 4, "{shown}: {calendar}");
        for time in clock.following(at(1_790_000_000)).take(3000) {
            let second = time.as_second().rem_euclid(3600);
            assert!(seconds.contains(&second), "{shown}: {calendar}: {time}");
        }
    }
}

#[test]
fn the_timer_fires_at_each_time_of_the_plan() {
    for case in &CASES {
        holds_all(&case.plan(), case.every);
    }
    for every in [
        "1m", "7m", "15m", "20m", "45m", "59m", "1h", "5h", "23h", "1d", "6d", "4w",
    ] {
        let plan = edited(|edit| {
            edit.set_text("every", every);
            edit.set_text("jitter", "1h");
        });
        holds_all(&plan, every);
    }
}

#[test]
fn in_no_time_zone_of_this_host_is_a_time_missed() {
    let zones: &TimeZoneDatabase = db();
    let mut count = 0;
    for zone in zones.available() {
        // Those with leap seconds are no zones of clocks.
        if zone.as_str().starts_with("right/") || TimeZone::get(zone.as_str()).is_err() {
            continue;
        }
        let mut edit = PlanEdit::new("p".parse().unwrap(), Path::new("/x"));
        edit.set_text("start", "2026-12-01T02:37:05");
        edit.set_text("every", "1d");
        edit.set_text("zone", zone.as_str());
        let plan = edit.plan(Timestamp::UNIX_EPOCH).unwrap();
        let clock = HostClock::of(&plan, "host");
        let seconds = seconds_of(&calendar(&plan, &clock));
        for time in clock.following(at(1_790_000_000)).take(800) {
            let second = time.as_second().rem_euclid(3600);
            assert!(seconds.contains(&second), "{}: {time}", zone.as_str());
        }
        count += 1;
    }
    assert!(count > 0, "this host knows no time zone");
}

/// Whether systemd-analyze is here, which is said where it is not.
fn has_oracle(test: &str) -> bool {
    let here = Command::new("systemd-analyze").arg("--version").output();
    let here = here.is_ok_and(|output| output.status.success());
    if !here {
        skipped(test, "no systemd-analyze");
    }
    here
}

/// When systemd fires next after an instant.
fn next_by_systemd(calendar: &str, after: Timestamp) -> String {
    let base = after.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut command = Command::new("systemd-analyze");
    command
        .args(["calendar", "--base-time", &base, calendar])
        .env("TZ", "UTC");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Next elapse: "));
    let line = line.unwrap_or_else(|| panic!("{calendar}: {text}"));
    line.split_once(' ').unwrap().1.to_owned()
}

#[test]
fn systemd_fires_when_the_plan_is_due() {
    if !has_oracle("plans: calendar") {
        return;
    }
    for case in &CASES {
        let plan = case.plan();
        let clock = HostClock::of(&plan, "host");
        let calendar = calendar(&plan, &clock);
        // Around both changes of clocks of a year, too.
        for from in [
            "2026-12-01T00:00:00Z",
            "2027-03-13T12:00:00Z",
            "2027-10-30T12:00:00Z",
        ] {
            let from: Timestamp = from.parse().unwrap();
            for time in clock.following(from).take(3) {
                let before = at(time.as_second() - 1);
                let fires = next_by_systemd(&calendar, before);
                let expected = time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
                assert_eq!(fires, expected, "{}: {calendar}", case.every);
            }
        }
    }
}

/// systemd has no complaint about the units.
fn verify(folder: &Path) {
    let units = ["service", "timer"].map(|kind| folder.join(format!("stillpoint-plan-p.{kind}")));
    let mut command = Command::new("systemd-analyze");
    let output = command
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("stillpoint-plan-p"))
        .collect();
    assert!(ours.is_empty() && output.status.success(), "{said}");
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    if !has_oracle("plans: units") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a b%h$HOME");
    fs::create_dir(&odd).unwrap();
    let program = odd.join("stillpoint");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let context = UnitContext {
        program: program.clone(),
        environment: vec![("STILLPOINT_RUN_DIR".into(), odd.clone().into())],
    };
    let plan = edited(|edit| edit.set_text("jitter", "1h"));
    let clock = HostClock::of(&plan, "host");
    let (service, timer) = (service_text(&plan, &context), timer_text(&plan, &clock));
    let path = |kind: &str| dir.path().join(format!("stillpoint-plan-p.{kind}"));
    fs::write(path("service"), &service).unwrap();
    fs::write(path("timer"), &timer).unwrap();
    verify(dir.path());
    // What it would not take is found: the test can fail.
    fs::write(
        path("service"),
        service.replace("KillMode=mixed", "KilMode=mixed"),
    )
    .unwrap();
    assert!(std::panic::catch_unwind(|| verify(dir.path())).is_err());
    for hides in [
        "PrivateTmp",
        "ProtectSystem",
        "ProtectHome",
        "PrivateDevices",
        "ProtectClock",
        "NoNewPrivileges",
        "DeviceAllow",
        // Its filter cannot look into openat2(2), and refuses it.
        "RestrictSUIDSGID",
    ] {
        let set = service.lines().find(|line| line.starts_with(hides));
        assert_eq!(
            set, None,
            "hooks, disks, a vault or what is mounted would be out of reach"
        );
    }
}

/// A program that notes what it was asked, and ends with a code.
fn fake_systemctl(scene: &Scene, code: i32) -> String {
    let path = scene.lab.path("systemctl");
    let asked = scene.lab.at("asked");
    fs::write(
        &path,
        format!("#!/bin/sh\necho \"$*\" >>{asked}\nexit {code}\n"),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn units_are_written_started_shown_and_removed() {
    let Some(scene) = Scene::new("plans: units by command") else {
        return;
    };
    let (units, systemctl) = (scene.lab.at("units"), fake_systemctl(&scene, 0));
    fs::create_dir(&units).unwrap();
    let systemd = ["--unit-dir", &units, "--systemctl", &systemctl];
    let with = |args: &[&'static str]| [args, &systemd[..]].concat();
    let asked = || {
        let text = fs::read_to_string(scene.lab.path("asked")).unwrap_or_default();
        let _ = fs::remove_file(scene.lab.path("asked"));
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let create = [
        "plan", "create", "daily", "--start", "02:30:07", "--every", "1d",
    ];
    let made = scene.checked("plan create", &with(&create), 0);
    assert_eq!(made["timer"]["state"], "written");
    assert_eq!(
        (&made["timer"]["active"], &made["cron"]),
        (&true.into(), &().into())
    );
    let timer = "stillpoint-plan-daily.timer";
    let expected = [
        "daemon-reload".to_owned(),
        format!("enable --quiet {timer}"),
        format!("restart {timer}"),
        format!("is-active --quiet {timer}"),
    ];
    assert_eq!(asked(), expected);
    let text = |kind: &str| {
        let path = format!("{units}/stillpoint-plan-daily.{kind}");
        fs::read_to_string(path).unwrap()
    };
    assert!(text("timer").contains("OnCalendar=*-*-* *:00/15:07 UTC\n"));
    assert!(text("service").contains(" plan run daily --due\n"));
    // What the page promises of a time off, of warnings, of a stop, and of the host's resources.
    for (kind, line) in [
        ("timer", "Persistent=true"),
        ("timer", "AccuracySec=1s"),
        ("service", "SuccessExitStatus=3"),
        ("service", "KillMode=mixed"),
        ("service", "MemoryMax=50%"),
        ("service", "CPUWeight=50"),
        ("service", "IOWeight=50"),
    ] {
        let text = text(kind);
        assert!(text.lines().any(|one| one == line), "{line}: {text}");
    }
    let environment = format!(
        "Environment=\"STILLPOINT_PLAN_NOTES={}\"",
        scene.lab.at("plans")
    );
    assert!(
        text("service").contains(&environment),
        "{}",
        text("service")
    );
    if has_oracle("plans: written units") {
        let name = |kind: &str| format!("{units}/stillpoint-plan-daily.{kind}");
        let (service, timer) = (name("service"), name("timer"));
        assert!(try_tool(
            "systemd-analyze",
            &["verify", "--man=no", &service, &timer]
        ));
    }

    // Other times, another timer.
    let changed = scene.checked(
        "plan modify",
        &with(&["plan", "modify", "daily", "--start", "02:37"]),
        0,
    );
    assert_eq!(changed["timer"]["state"], "written");
    assert!(text("timer").contains("OnCalendar=*-*-* *:07/15:00 UTC\n"));
    asked();
    // Edited by hand: it is told.
    let plan = scene.text("daily").replace("02:37:00", "02:41:00");
    scene.write("daily", &plan, Duration::from_secs(60));
    let shown = scene.checked("plan show", &with(&["plan", "show", "daily"]), 0);
    assert_eq!(shown["timer"]["state"], "stale");

    scene.checked("plan delete", &with(&["plan", "delete", "daily"]), 0);
    let words = asked();
    assert!(
        words.contains(&format!("disable --quiet --now {timer}")),
        "{words:?}"
    );
    assert_eq!(fs::read_dir(&units).unwrap().count(), 0);
}

#[test]
fn what_is_not_ours_is_left_alone_and_told() {
    let Some(scene) = Scene::new("plans: foreign units") else {
        return;
    };
    let units = scene.lab.at("units");
    fs::create_dir(&units).unwrap();
    let (timer, service) = (
        scene.lab.path("units/stillpoint-plan-daily.timer"),
        scene.lab.path("units/stillpoint-plan-daily.service"),
    );
    let start = ago(super::HOUR);
    let create = [
        "plan",
        "create",
        "daily",
        "--start",
        &start,
        "--every",
        "1d",
        "--unit-dir",
        &units,
    ];
    let delete = ["plan", "delete", "daily", "--unit-dir", &units];
    // Somebody else's, and a unit that was masked.
    fs::write(&timer, "[Timer]\nOnCalendar=daily\n").unwrap();
    let made = scene.checked("plan create", &create, 3);
    let warning = made["warnings"][0].as_str().unwrap();
    assert!(warning.contains("is not stillpoint's"), "{warning}");
    assert!(
        warning.contains("plan run --due"),
        "how it can be run all the same: {warning}"
    );
    assert_eq!(made["timer"]["state"], "foreign");
    assert!(!service.exists(), "half of the units is none");
    let asked = fake_systemctl(&scene, 0);
    let with = [&delete[..], &["--systemctl", &asked]].concat();
    scene.checked("plan delete", &with, 3);
    assert!(
        !scene.lab.path("asked").exists(),
        "a foreign timer is not stopped"
    );
    assert_eq!(
        fs::read_to_string(&timer).unwrap(),
        "[Timer]\nOnCalendar=daily\n"
    );
    fs::remove_file(&timer).unwrap();
    symlink("/dev/null", &service).unwrap();
    let made = scene.checked("plan create", &create, 3);
    assert_eq!(made["timer"]["state"], "foreign");
    scene.checked("plan delete", &delete, 3);
    assert!(service.is_symlink());
    fs::remove_file(&service).unwrap();

    // A folder that is not there, and a systemd that refuses: the plan is made, and that is told.
    let nowhere = scene.lab.at("nowhere");
    let base = [
        "plan", "create", "daily", "--start", &start, "--every", "1d",
    ];
    scene.checked(
        "plan create",
        &[&base[..], &["--unit-dir", &nowhere]].concat(),
        3,
    );
    scene.run(&["plan", "delete", "daily"]).expect(0);
    let refuses = fake_systemctl(&scene, 3);
    let refused = [&base[..], &["--unit-dir", &units, "--systemctl", &refuses]].concat();
    let made = scene.checked("plan create", &refused, 3);
    assert_eq!(
        (&made["timer"]["state"], &made["timer"]["active"]),
        (&"written".into(), &false.into())
    );
    let show = [
        "plan",
        "show",
        "daily",
        "--unit-dir",
        &units,
        "--systemctl",
        &refuses,
    ];
    let shown = scene.run(&show).expect(0).stdout;
    assert!(shown.contains("NO TIMER RUNS IT"), "{shown}");
    // Nobody looks at each plan: `status` tells of it.
    let status = [&["status"], &show[3..], &["--json"]].concat();
    let document = scene.run(&status).expect(3).json();
    let problems = document["problems"].to_string();
    assert!(
        problems.contains("plan daily: NO TIMER RUNS IT"),
        "{document}"
    );
}
