//! Plans that nothing runs by itself, or that go elsewhere: a host with them is never called fine.

use super::{Host, PLAN};
use crate::cli::lab::{Run, finish};
use crate::support::host::skipped;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Runs it where systemd answers as this program does.
fn with_systemctl(host: &Host, program: &str, args: &[&str]) -> Run {
    let mut command = host.command_with(&[], &[args, &["--json"]].concat());
    finish(command.env("STILLPOINT_SYSTEMCTL", program))
}

fn problems(state: &Value) -> String {
    state["problems"].to_string()
}

#[test]
fn a_timer_that_does_not_run_is_a_problem_and_is_not_left_behind() {
    let Some(host) = Host::new("client: no timer") else {
        return;
    };
    let token = host.usual_token("token");
    let activate = ["client", "activate", "--token-file", &token];
    let done = with_systemctl(&host, "/bin/false", &activate)
        .expect(3)
        .json();
    let warnings = done["warnings"].to_string();
    assert!(warnings.contains("no timer runs plan daily"), "{done}");
    assert!(warnings.contains("is not known to run"), "{done}");
    let mut text = host.command_with(&[], &activate);
    let text = finish(text.env("STILLPOINT_SYSTEMCTL", "/bin/false")).expect(3);
    let last = text.stdout.trim_end().lines().last().unwrap();
    assert!(last.contains("PLAN daily IS NOT KNOWN TO RUN"), "{text:?}");
    let state = with_systemctl(&host, "/bin/false", &["client", "status"])
        .expect(3)
        .json();
    assert!(problems(&state).contains("is not known to run"), "{state}");
    host.checked("client status", &["client", "status"], 0);
    host.run(&activate).expect(0);

    // It would start what is gone, for ever: nothing is called done, and the same goes on.
    for _ in 0..2 {
        let error = with_systemctl(&host, "/bin/false", &["client", "deactivate"]).expect(1);
        assert!(
            error.stdout.contains("not all of the plan is gone"),
            "{error:?}"
        );
        assert!(host.lab.path("units/stillpoint-plan-daily.timer").exists());
        let state = host.state();
        assert_eq!(state["state"], "failed", "{state}");
    }
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}

#[test]
fn without_systemd_the_line_for_cron_is_told_until_something_looks() {
    let Some(host) = Host::new("client: cron") else {
        return;
    };
    if Path::new("/run/systemd/system").is_dir() {
        return skipped("client: cron", "systemd runs this host");
    }
    let bare = |args: &[&str]| {
        let mut command = host.command_with(&[], args);
        command
            .env_remove("STILLPOINT_UNIT_DIR")
            .env_remove("STILLPOINT_SYSTEMCTL");
        finish(&mut command)
    };
    let token = host.usual_token("token");
    let run = bare(&["client", "activate", "--token-file", &token]).expect(3);
    assert!(run.stdout.contains("plan run --due"), "{run:?}");
    assert!(
        run.stdout.contains("PLAN daily IS NOT KNOWN TO RUN"),
        "{run:?}"
    );
    let state = bare(&["client", "status", "--json"]).expect(3).json();
    assert!(
        problems(&state).contains("/etc/cron.d/stillpoint"),
        "{state}"
    );
    bare(&["plan", "run", "--due"]).expect(0);
    let state = bare(&["client", "status", "--json"]).expect(0).json();
    assert_eq!(state["state"], "activated");
    bare(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}

#[test]
fn a_plan_that_is_held_back_or_goes_elsewhere_is_a_problem() {
    let Some(host) = Host::new("client: plans elsewhere") else {
        return;
    };
    host.run(&["init", &host.lab.at("other")]).expect(0);
    let token = host.usual_token("token");
    host.activated(&token);
    host.run(&["plan", "suspend", "daily"]).expect(0);
    let state = host.checked("client status", &["client", "status"], 3);
    assert!(problems(&state).contains("plan resume daily"), "{state}");
    host.run(&["plan", "resume", "daily"]).expect(0);
    host.checked("client status", &["client", "status"], 0);
    let path = host.lab.path("etc/plans.d/daily.toml");
    let text = fs::read_to_string(&path).unwrap();
    let other = format!("vault = {:?}", host.lab.at("other"));
    fs::write(&path, text.replace("vault = \"main\"", &other)).unwrap();
    let state = host.checked("client status", &["client", "status"], 3);
    assert!(
        problems(&state).contains("no plan of this host goes to main"),
        "{state}"
    );
    // Its second place is the vault: it cannot go on without.
    let mirrors = text.replace(
        "vault = \"main\"",
        &format!("{other}\n[mirror]\nto = \"main\""),
    );
    fs::write(&path, mirrors).unwrap();
    let down = host.checked("client deactivate", &["client", "deactivate"], 3);
    assert_eq!(down["steps"][0]["outcome"], "left", "{down}");
    let plan = host
        .run(&["plan", "show", "daily", "--json"])
        .expect(0)
        .json();
    assert_eq!(plan["suspended"], json!(true));
}

#[test]
fn another_plan_in_a_token_changes_none_and_is_told() {
    let Some(host) = Host::new("client: other plans") else {
        return;
    };
    host.activated(&host.usual_token("token"));
    let plan = || fs::read_to_string(host.lab.path("etc/plans.d/daily.toml")).unwrap();
    let before = plan();
    let more = host.token("more", &["--plan", &format!("{PLAN} --retention 30d")]);
    let done = host.activated(&more);
    assert_eq!(done["already"], false);
    assert!(
        done["warnings"]
            .to_string()
            .contains("the token says otherwise"),
        "{done}"
    );
    assert_eq!(plan(), before);
    let weekly = "weekly --start 2199-01-01T02:30:00 --every 1w";
    let done = host.activated(&host.token("weekly", &["--plan", weekly]));
    let warnings = done["warnings"].to_string();
    assert!(
        warnings.contains("plan daily, of an earlier token, stays"),
        "{done}"
    );
    // Both are its own.
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}
