//! Many instances from one machine: a dozen hosts in namespaces of their own, good ones and such as
//! refuse, hang, die, lie or never stop; lists that are wrong; runs that are killed and run again;
//! ssh with a real server.

mod golden;
mod killed;
mod place;
mod real;
mod refused;
mod ssh;

use crate::cli::lab::{PROGRAM, finish, tool};
use crate::cli::schema::check;
use place::Fleet;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

fn by_name<'a>(document: &'a Value, instance: &str) -> &'a Value {
    let hosts = document["hosts"].as_array().unwrap();
    hosts
        .iter()
        .find(|host| host["instance"] == instance)
        .unwrap()
}

/// A host of a kind, and what becomes of it: its state, the step that fails, and a part of why.
const BAD: [(&str, &str, &str, &str, &str); 6] = [
    (
        "refuses",
        "echo 'no route to it' >&2; exit 7",
        "unreachable",
        "look",
        "the runner ended with 7: no route to it",
    ),
    (
        "dies",
        "echo 'stillpoint-fleet: begin'; echo '{\"state\":'; kill -9 $$",
        "unreachable",
        "look",
        "it broke off in the middle of its answer: the runner was ended by signal 9",
    ),
    (
        "lies",
        "echo 'stillpoint-fleet: begin'; printf '\\033[2Jrubbish\\377\\n'; \
         echo 'stillpoint-fleet: end 0'",
        "unclear",
        "look",
        "its answer is no document: \\u{1b}[2Jrubbish",
    ),
    (
        "floods",
        "exec head -c 1073741824 /dev/zero",
        "unreachable",
        "look",
        "64 KiB",
    ),
    (
        "blind",
        "case \"$2\" in *sha256sum*) exec \"${0%/*}/../../enter-in\" \"$@\";; esac; \
         echo 'stillpoint-fleet: begin'; echo 'stillpoint-fleet: absent'; \
         echo 'stillpoint-fleet: end 0'",
        "not_installed",
        "status",
        "no stillpoint is found there",
    ),
    (
        "mute",
        "exit 0",
        "unreachable",
        "look",
        "the runner ended with 0",
    ),
];

#[test]
fn a_dozen_hosts_get_what_they_lack_whatever_becomes_of_others() {
    let Some(fleet) = Fleet::new("fleet: a dozen hosts") else {
        return;
    };
    for n in 1..=4 {
        fleet.host(&format!("good-{n}"));
    }
    let done = fleet.host("done-1");
    done.install();
    fs::write(done.state.join("activated"), "").unwrap();
    let wrong = fleet.host("wrong-1");
    fs::write(wrong.state.join("wants"), "another token\n").unwrap();
    for (name, way, ..) in BAD {
        fleet.host(name).goes(way);
    }
    // No program can be put there.
    fleet.full_host("stuck-1");
    let list = fleet.list();
    let apply = [
        "--package",
        &fleet.package(),
        "--token-file",
        &fleet.token(),
        "--at-once",
        "5",
    ];
    let run = fleet
        .apply(&list, &[&apply[..], &["--json"]].concat())
        .expect(3);
    let document = run.json();
    check(&fleet.lab, "fleet apply", &document);
    assert_eq!(document["activated"], 5, "{document:#}");
    assert_eq!(document["failed"], 8);
    assert_eq!(document["hosts"].as_array().unwrap().len(), 13);
    for n in 1..=4 {
        let host = by_name(&document, &format!("good-{n}"));
        assert_eq!(host["state"], "activated", "{host:#}");
        assert_eq!(host["done"], json!(["install", "activate"]));
        assert_eq!(host["version"], "0.1.0");
        assert_eq!(host["failure"], Value::Null);
    }
    assert_eq!(by_name(&document, "done-1")["done"], json!([]));
    for (name, _, state, step, why) in BAD {
        let host = by_name(&document, name);
        assert_eq!(host["state"], state, "{host:#}");
        assert_eq!(host["failure"]["step"], step, "{host:#}");
        let said = host["failure"]["message"].as_str().unwrap();
        assert!(said.contains(why), "{name}: {said}");
    }
    let stuck = by_name(&document, "stuck-1");
    assert_eq!(stuck["state"], "not_installed", "{stuck:#}");
    assert_eq!(stuck["failure"]["step"], "install");
    assert_eq!(stuck["done"], json!([]));
    // It says its token, and that is nowhere.
    let wrong = by_name(&document, "wrong-1");
    assert_eq!(wrong["failure"]["step"], "activate");
    assert_eq!(wrong["state"], "installed");
    let said = wrong["failure"]["message"].as_str().unwrap();
    assert!(said.starts_with("the token *****"), "{said}");

    // What was told as it went, and what is kept, name each once.
    let kept = fs::read_to_string(format!("{list}.results")).unwrap();
    assert_eq!(kept.lines().count(), 13);
    for line in kept.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            by_name(&document, line["instance"].as_str().unwrap()),
            &line
        );
    }
    assert_eq!(run.stderr.matches("good-3").count(), 1, "{}", run.stderr);
    for said in [
        &run.stdout,
        &run.stderr,
        &kept,
        &fleet.lines(),
        &fleet.argued(),
    ] {
        assert!(!said.contains(&fleet.secret), "{said}");
    }
    assert!(
        fleet
            .lines()
            .contains("client activate --token-file - --json")
    );
}

#[test]
fn what_is_done_is_only_looked_at() {
    let Some(fleet) = Fleet::new("fleet: run again") else {
        return;
    };
    let hosts = ["a", "b"].map(|name| fleet.host(name));
    let list = fleet.list();
    let package = fleet.package();
    // Without a token they are installed, and no more.
    let first = fleet.apply(&list, &["--package", &package]).expect(0);
    assert!(
        first.stdout.contains("2 installed and not activated"),
        "{first:?}"
    );
    let all = ["--package", &package, "--token-file", &fleet.token()];
    fleet.apply(&list, &all).expect(0);
    let looked = || fleet.lines().matches("client status").count();
    let (before, all_before) = (looked(), fleet.lines().lines().count());
    for _ in 0..2 {
        let run = fleet.apply(&list, &all).expect(0);
        let verdict = format!("of 2 instances: 2 activated; kept in {list}.results\n");
        assert!(run.stdout.ends_with(&verdict), "{run:?}");
    }
    assert_eq!(looked() - before, 4);
    assert_eq!(fleet.lines().lines().count() - all_before, 4);

    // One fails later: it is activated again, the other is left alone.
    fs::write(hosts[0].state.join("failed"), "").unwrap();
    let status = fleet.status(&list, &["--json"]).expect(3).json();
    check(&fleet.lab, "fleet status", &status);
    assert_eq!(
        (&status["activated"], &status["wrong"]),
        (&json!(1), &json!(1))
    );
    let failed = by_name(&status, "a");
    assert_eq!(failed["failure"]["message"], "no vault");
    assert_eq!(failed["failure"]["hint"], "mount it");
    fleet.apply(&list, &all).expect(0);
    let good = fleet.status(&list, &[]).expect(0);
    assert!(
        good.stdout.contains("of 2 instances: all activated"),
        "{good:?}"
    );
    // What it says of itself counts.
    fs::write(hosts[1].state.join("problem"), "").unwrap();
    let bad = fleet.status(&list, &[]).expect(3);
    assert!(bad.stdout.contains("! b: vda is overdue"), "{bad:?}");
}

#[test]
fn addresses_are_tried_in_order_and_a_package_is_checked_there() {
    let Some(fleet) = Fleet::new("fleet: addresses") else {
        return;
    };
    fleet.host("a");
    // The first address leads nowhere; what is sent by the second arrives changed, at first.
    let enter = fleet.script(
        "by-address",
        "case $2 in 10.*) exit 255;; esac\n\
         case \"$3\" in *sha256sum*) [ -e \"$0.whole\" ] || exec </dev/null;; esac\n\
         exec \"${0%/*}/enter\" \"$1\" \"$3\"",
    );
    let runner = format!("exec:{enter} {{instance}} {{address}} {{command}}");
    let list = fleet.list_of("a,,\"10.0.0.1, web-1\",internal,,\n");
    let all = [
        "fleet",
        "apply",
        &list,
        "--runner",
        &runner,
        "--package",
        &fleet.package(),
    ];
    let token = fleet.token();
    let all = [&all[..], &["--token-file", &token, "--json"]].concat();
    let document = fleet.lab.run(&all).expect(1).json();
    let host = by_name(&document, "a");
    assert_eq!(host["address"], "web-1");
    assert_eq!(host["state"], "not_installed", "{host:#}");
    let said = host["failure"]["message"].as_str().unwrap();
    assert!(said.contains("another SHA-256"), "{said}");
    fs::write(format!("{enter}.whole"), "").unwrap();
    let document = fleet.lab.run(&all).expect(0).json();
    assert_eq!(by_name(&document, "a")["state"], "activated");
    // Of no use is none.
    let nowhere = fleet.list_of("a,,\"10.0.0.1,10.0.0.2\",,,\n");
    let asked = ["fleet", "status", &nowhere, "--runner", &runner, "--json"];
    let document = fleet.lab.run(&asked).expect(3).json();
    let said = by_name(&document, "a")["failure"]["message"].clone();
    assert!(
        said.as_str().unwrap().starts_with("10.0.0.2 (2 of 2)"),
        "{said}"
    );
}

/// What activation says of itself is not enough: it is asked how it stands.
#[test]
fn who_says_that_it_was_activated_and_is_not_has_failed() {
    let Some(fleet) = Fleet::new("fleet: activated in words alone") else {
        return;
    };
    let host = fleet.host("a");
    host.install();
    host.goes(
        "case \"$2\" in *activate*) cat >/dev/null; echo 'stillpoint-fleet: begin'; \
         echo '{\"state\":\"activated\"}'; echo 'stillpoint-fleet: end 0'; exit 0;; esac; \
         exec \"${0%/*}/../../enter-in\" \"$@\"",
    );
    let all = ["--token-file", &fleet.token(), "--json"];
    let document = fleet.apply(&fleet.list(), &all).expect(1).json();
    let host = by_name(&document, "a");
    assert_eq!(host["state"], "installed", "{host:#}");
    assert_eq!(host["failure"]["step"], "status", "{host:#}");
    let said = host["failure"]["message"].as_str().unwrap();
    assert!(said.contains("and yet its state is installed"), "{said}");
}

/// Its shell was reached: what it has done by then nobody knows, and another way in tells nothing.
#[test]
fn who_breaks_off_is_asked_by_no_other_address() {
    let Some(fleet) = Fleet::new("fleet: broken off") else {
        return;
    };
    fleet.host("a");
    let enter = fleet.script(
        "by-address",
        "case $2 in 10.*) echo 'stillpoint-fleet: begin'; exit 1;; esac\n\
         exec \"${0%/*}/enter\" \"$1\" \"$3\"",
    );
    let runner = format!("exec:{enter} {{instance}} {{address}} {{command}}");
    let list = fleet.list_of("a,,\"10.0.0.1, web-1\",,,\n");
    let all = ["fleet", "apply", &list, "--runner", &runner, "--json"];
    let document = fleet.lab.run(&all).expect(1).json();
    let host = by_name(&document, "a");
    assert_eq!(host["state"], "unreachable", "{host:#}");
    let said = host["failure"]["message"].as_str().unwrap();
    assert!(
        said.starts_with("10.0.0.1 (1 of 2): it broke off"),
        "{said}"
    );
    assert_eq!(fleet.argued(), "", "it was asked by the other one");
}

#[test]
fn a_list_that_says_otherwise_is_told_and_a_token_may_lie_there() {
    let Some(fleet) = Fleet::new("fleet: what the list says") else {
        return;
    };
    let host = fleet.host("a");
    host.install();
    fs::write(
        host.state.join("there.token"),
        format!("{}\n", fleet.secret),
    )
    .unwrap();
    let list = fleet.list_of("a,,a,,daily,main\n");
    let there = ["--remote-token-file", "/mnt/there.token", "--json"];
    let document = fleet.apply(&list, &there).expect(0).json();
    assert_eq!(by_name(&document, "a")["done"], json!(["activate"]));
    assert!(fleet.lines().contains("--token-file /mnt/there.token"));
    for (row, said) in [
        (
            "a,,a,,hourly,main\n",
            "its plans are daily, and the list says hourly",
        ),
        ("a,,a,,,other\n", "its vault is main"),
    ] {
        let list = fleet.list_of(row);
        for run in [
            fleet.apply(&list, &[]).expect(1),
            fleet.status(&list, &[]).expect(3),
        ] {
            assert!(run.stdout.contains(said), "{said}: {run:?}");
        }
    }
}

#[test]
fn an_operator_needs_no_root_here() {
    let Some(fleet) = Fleet::new("fleet: not root") else {
        return;
    };
    let folder = tempfile::Builder::new()
        .prefix("stillpoint-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::copy(PROGRAM, at("program")).unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    let stand_in = r#"#!/bin/sh
d=${0%/*}
case "$2" in
activate) IFS= read -r token; : >"$d/done" ;;
*) [ -e "$d/done" ] && s=activated || s=installed; echo "{\"state\":\"$s\"}" ;;
esac
"#;
    fs::write(at("bin/stillpoint"), stand_in).unwrap();
    let list = "instance,name,address,network type,plan,vault\na,,a,,,\n";
    fs::write(at("hosts.csv"), list).unwrap();
    fs::write(at("token"), &fleet.secret).unwrap();
    tool("chmod", &["0600", &at("token"), &at("hosts.csv")]);
    tool("chmod", &["0755", &at("bin/stillpoint")]);
    tool(
        "chown",
        &["-R", "65534:65534", folder.path().to_str().unwrap()],
    );
    let path = format!("{}:{}", at("bin"), std::env::var("PATH").unwrap());
    let run = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                &at("program"),
                "fleet",
            ])
            .args(args)
            .env("PATH", &path)
            .current_dir("/");
        finish(&mut command)
    };
    let (list, token) = (at("hosts.csv"), at("token"));
    let runner = "exec:sh -c {command}";
    let apply = ["apply", &list, "--runner", runner, "--token-file", &token];
    // Twice: what is there of an earlier run is read, too.
    for _ in 0..2 {
        run(&apply).expect(0);
    }
    run(&["status", &list, "--runner", runner]).expect(0);
}
