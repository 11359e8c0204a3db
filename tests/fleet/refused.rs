//! Lists, runners and files that are refused: before any host is touched, with what is wrong, and
//! what would be right.

use super::place::Fleet;
use crate::cli::lab::tool;
use crate::cli::schema::check;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn what_is_wrong_is_refused_before_any_host_is_touched() {
    let Some(fleet) = Fleet::new("fleet: refused") else {
        return;
    };
    let (token, package) = (fleet.token(), fleet.package());
    let good = "a,,a,,,\n";
    let list = fleet.list_of(good);
    let list = list.as_str();
    let open = fleet.script("open-token", "x");
    tool("chmod", &["0644", &open]);
    let status = ["fleet", "status", list, "--runner"];
    let apply = ["fleet", "apply", list, "--runner", "ssh"];
    let of = |more: &[&'static str]| -> Vec<String> {
        apply
            .iter()
            .chain(more)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let mut cases: Vec<(Vec<String>, &str)> = vec![
        (of(&["--at-once", "0"]), "--at-once"),
        (of(&["--at-once", "257"]), "--at-once"),
        (of(&["--timeout", "0s"]), "no time at all"),
        (of(&["--package", "/no/such/package"]), "/no/such/package"),
        (of(&["--package", "/etc/passwd"]), "neither a .deb"),
        (of(&["--token-file", "/no/such/token"]), "/no/such/token"),
        (
            of(&["--token-file", "/x", "--remote-token-file", "/y"]),
            "cannot be used with",
        ),
    ];
    let with = |option: &str, value: &str| {
        let mut all = of(&[]);
        all.extend([option.to_owned(), value.to_owned()]);
        all
    };
    cases.push((with("--token-file", &open), "others can read"));
    for (runner, said) in [
        ("telnet", "a runner is ssh"),
        ("exec:ssh {address}", "{command} is missing"),
        ("exec:ssh {adress} {command}", "{adress} is no placeholder"),
    ] {
        let all = status
            .iter()
            .chain([&runner])
            .map(|word| (*word).to_owned());
        cases.push((all.collect(), said));
    }
    for (args, said) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = fleet.lab.run(&args);
        assert!([1, 2].contains(&run.code), "{run:?}");
        assert!(run.stderr.contains(said), "{said}: {run:?}");
    }
    let link = fleet.lab.at("link.csv");
    symlink(list, &link).unwrap();
    for (rows, said) in [
        ("a,,a,,\n", "line 2: 5 cells"),
        ("a,,a,,,\na,,b,,,\n", "lines 2 and 3: instance a"),
        ("a,,-oProxyCommand=x,,,\n", "line 2: address"),
        ("a,\"x\ny\",a,,,\n", "line 2: name"),
    ] {
        let list = fleet.list_of(rows);
        let all = ["--package", &package, "--token-file", &token];
        let run = fleet.apply(&list, &all).expect(2);
        assert!(run.stderr.contains(said), "{said}: {run:?}");
        assert!(run.stderr.contains("nothing was done"), "{run:?}");
        let run = fleet.status(&link, &[]).expect(2);
        assert!(run.stderr.contains("no regular file"), "{run:?}");
    }
    assert_eq!(fleet.argued(), "", "a host was touched");
    assert!(!fleet.path("hosts.csv.results").exists());
}

/// Else each of a thousand instances would be reached, and say so.
#[test]
fn a_token_that_has_expired_touches_no_host() {
    let Some(fleet) = Fleet::new("fleet: an expired token") else {
        return;
    };
    fleet.host("a");
    let list = fleet.list();
    let before = SignedDuration::from_hours(50);
    fleet.has_token_of(Timestamp::now() - before);
    let all = [
        "--package",
        &fleet.package(),
        "--token-file",
        &fleet.token(),
    ];
    let refused = fleet.apply(&list, &all).expect(2);
    assert!(refused.stderr.contains("has expired"), "{refused:?}");
    assert_eq!(fleet.argued(), "", "a host was touched");
    assert!(!fleet.path("hosts.csv.results").exists());
    // One that is good for two days more is taken.
    fleet.has_token_of(Timestamp::now());
    fleet.apply(&list, &all[..2]).expect(0);
}

/// Root runs the package on each instance, and what stands in the results is believed.
#[test]
fn what_others_can_change_is_not_used() {
    let Some(fleet) = Fleet::new("fleet: what others can change") else {
        return;
    };
    fleet.host("a");
    let (list, package) = (fleet.list(), fleet.package());
    let results = format!("{list}.results");
    fs::write(&results, "").unwrap();
    for file in [&package, &results] {
        tool("chmod", &["0666", file]);
        let run = fleet.apply(&list, &["--package", &package]).expect(2);
        let told = format!("{file}: others can write to it: nothing was done");
        assert!(run.stderr.contains(&told), "{run:?}");
        tool("chmod", &["0644", file]);
    }
    assert_eq!(fleet.argued(), "", "a host was touched");
    fleet.apply(&list, &["--package", &package]).expect(0);
}

#[test]
fn a_new_list_replaces_nothing() {
    let Some(fleet) = Fleet::new("fleet: template") else {
        return;
    };
    let file = fleet.lab.at("new.csv");
    let document = fleet
        .lab
        .run(&["fleet", "template", &file, "--json"])
        .expect(0)
        .json();
    check(&fleet.lab, "fleet template", &document);
    assert_eq!(document["csv"], fs::read_to_string(&file).unwrap());
    fs::write(&file, "mine").unwrap();
    fleet.lab.run(&["fleet", "template", &file]).expect(1);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let printed = fleet.lab.run(&["fleet", "template"]).expect(0);
    assert_eq!(
        printed.stdout,
        "instance,name,address,network type,plan,vault\n"
    );
    let document = fleet
        .lab
        .run(&["fleet", "template", "--json"])
        .expect(0)
        .json();
    check(&fleet.lab, "fleet template", &document);
    assert_eq!(document["file"], Value::Null);
    // A new list has no instances yet.
    fleet.list_of("");
    let empty = fleet.status(&fleet.lab.at("hosts.csv"), &[]).expect(2);
    assert!(empty.stderr.contains("it has no instances"), "{empty:?}");
}
