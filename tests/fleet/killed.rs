//! A batch that is stopped or killed while a host hangs: what was known is kept, nothing goes on
//! behind its back, and the same command does the rest.

use super::place::Fleet;
use crate::cli::lab::{LONG, Lab, code_of};
use crate::cli::schema::check;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Waits for something, but not for ever.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

fn started(lab: &Lab, args: &[&str]) -> Child {
    let mut command = lab.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn results(list: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{list}.results")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A host that hangs in the middle, deaf to a kind word, and says who it is.
const HANGS: &str = r#"d=${0%/*}
case "$2" in *activate*) ;; *) exec "$d/../../enter-in" "$@" ;; esac
trap '' TERM
sleep 1000 &
echo $$ $! >"$d/pids.new"
mv "$d/pids.new" "$d/pids"
wait"#;

fn ended_by(signal: Signal, code: i32) {
    let Some(fleet) = Fleet::new("fleet: killed") else {
        return;
    };
    let hangs = fleet.host("hangs");
    hangs.goes(HANGS);
    for name in ["a", "b", "c"] {
        fleet.host(name);
    }
    let (list, runner) = (fleet.list(), fleet.runner());
    let (package, token) = (fleet.package(), fleet.token());
    let all = [
        "fleet",
        "apply",
        &list,
        "--runner",
        &runner,
        "--package",
        &package,
    ];
    let all = [&all[..], &["--token-file", &token, "--at-once", "2"]].concat();
    let mut batch = started(&fleet.lab, &all);
    // The others do not wait for the one that hangs.
    until("the others are done", || results(&list).len() == 3);
    until("it hangs", || hangs.folder.join("pids").exists());
    let busy = fleet.lab.run(&all).expect(6);
    assert!(busy.stderr.contains("another run is at work"), "{busy:?}");
    kill(Pid::from_raw(i32::try_from(batch.id()).unwrap()), signal).unwrap();
    assert_eq!(code_of(batch.wait().unwrap()), code);
    let mut said = String::new();
    let mut stdout = batch.stdout.take().unwrap();
    if signal != Signal::SIGKILL {
        // A process that it has started may have it open for as long as it lives.
        stdout.read_to_string(&mut said).unwrap();
        let rows = said.lines().filter(|line| line.contains(" activated "));
        assert_eq!(rows.count(), 3, "{said}");
        for part in [
            "cut_off",
            "3 activated, 1 CUT OFF",
            "the same command goes on",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let pids = fs::read_to_string(hangs.folder.join("pids")).unwrap();
    let pids: Vec<u32> = pids
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    // Who is killed by SIGKILL takes its runner along, and cannot reach further.
    let ours = if signal == Signal::SIGKILL { 1 } else { 2 };
    until("nothing goes on", || {
        !pids.iter().take(ours).any(|pid| is_alive(*pid))
    });
    for pid in pids.iter().skip(ours) {
        let _ = kill(Pid::from_raw(i32::try_from(*pid).unwrap()), Signal::SIGKILL);
    }
    assert_eq!(results(&list).len(), 3);

    fs::remove_file(hangs.folder.join("way")).unwrap();
    let document = fleet
        .lab
        .run(&[&all[..], &["--json"]].concat())
        .expect(0)
        .json();
    assert_eq!(document["activated"], 4);
    assert_eq!(results(&list).len(), 3 + 4);
    let activated = fleet.lines().matches("client activate").count();
    assert_eq!(activated, 4, "each once");
}

#[test]
fn a_batch_that_is_stopped_ends_what_it_has_started() {
    ended_by(Signal::SIGTERM, 143);
}

#[test]
fn a_batch_that_is_interrupted_ends_what_it_has_started() {
    ended_by(Signal::SIGINT, 130);
}

#[test]
fn a_batch_that_is_killed_loses_nothing() {
    ended_by(Signal::SIGKILL, -9);
}

#[test]
fn a_host_that_hangs_has_its_time_and_no_more() {
    let Some(fleet) = Fleet::new("fleet: hangs") else {
        return;
    };
    fleet.host("hangs").goes("exec sleep 1000");
    let list = fleet.list();
    for run in [
        fleet
            .apply(
                &list,
                &["--timeout", "300ms", "--token-file", &fleet.token()],
            )
            .expect(1),
        fleet.status(&list, &["--timeout", "300ms"]).expect(3),
    ] {
        assert!(run.stdout.contains("no answer within 0.3 s"), "{run:?}");
    }
}

/// What was not begun is told, what was done stays, and the same command does the rest.
#[test]
fn a_deadline_ends_a_batch_and_it_goes_on() {
    let Some(fleet) = Fleet::new("fleet: a deadline") else {
        return;
    };
    let slow = fleet.host("a-slow");
    // It is under way when the time is over, and ends well.
    slow.goes(
        "[ -e ${0%/*}/slept ] || sleep 4; : >${0%/*}/slept; exec ${0%/*}/../../enter-in \"$@\"",
    );
    for name in ["b", "c", "d"] {
        fleet.host(name);
    }
    let (list, package, token) = (fleet.list(), fleet.package(), fleet.token());
    let apply = [
        "--package",
        &package,
        "--token-file",
        &token,
        "--at-once",
        "1",
    ];
    let ended = [&apply[..], &["--deadline", "3s", "--json"]].concat();
    let ended = fleet.apply(&list, &ended).expect(3).json();
    check(&fleet.lab, "fleet apply", &ended);
    let left = ended["not_begun"].as_u64().unwrap();
    assert!((3..=4).contains(&left), "{ended:#}");
    assert_eq!(ended["activated"].as_u64().unwrap() + left, 4, "{ended:#}");
    assert_eq!(ended["hosts"][3]["state"], "not_begun");
    assert_eq!(results(&list).len(), usize::try_from(4 - left).unwrap());
    let again = fleet.apply(&list, &apply).expect(0);
    assert!(again.stdout.contains("4 activated; kept in"), "{again:?}");
    let activated = fleet.lines().matches("client activate").count();
    assert_eq!(activated, 4, "each once");
    let error = fleet.status(&list, &["--deadline", "0s"]).expect(2);
    assert!(error.stderr.contains("no time at all"), "{error:?}");
}

#[test]
fn ten_thousand_rows_are_told_of_whole_and_in_a_few_lines() {
    let Some(fleet) = Fleet::new("fleet: ten thousand rows") else {
        return;
    };
    let rows: String = (0..10_000).map(|n| format!("i-{n},,i-{n},,,\n")).collect();
    let list = fleet.list_of(&rows);
    let ask = |more: &[&str]| {
        let runner = "exec:false {instance} {command}";
        let args = [
            "fleet",
            "status",
            &list,
            "--runner",
            runner,
            "--deadline",
            "20ms",
        ];
        fleet.lab.run(&[&args[..], more].concat()).expect(3)
    };
    let document = ask(&["--json"]).json();
    check(&fleet.lab, "fleet status", &document);
    assert_eq!(document["hosts"].as_array().unwrap().len(), 10_000);
    assert_eq!(document["wrong"], 10_000);
    assert_eq!(document["hosts"][9999]["state"], "not_begun");
    let said = ask(&[]).stdout;
    assert!(said.len() < 16 << 10, "{}", said.len());
    let verdict = said.lines().last().unwrap();
    assert!(
        verdict.contains("NOT BEGUN; its deadline came"),
        "{verdict}"
    );
}
