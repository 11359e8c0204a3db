//! The program itself on the other side, with a token that it made: the command lines and documents
//! of `client` are those that a fleet expects.

use super::by_name;
use super::place::Fleet;
use crate::cli::lab::{PROGRAM, Run, finish};
use crate::cli::schema::check;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

/// A host is this one, with settings and notes in a folder of its own.
fn run(fleet: &Fleet, args: &[&str]) -> Run {
    let path = std::env::var("PATH").unwrap();
    let mut command = fleet.lab.command(args);
    command
        .env_remove("STILLPOINT_VAULT")
        .env("STILLPOINT_CONFIG_DIR", fleet.path("etc"))
        .env("STILLPOINT_UNIT_DIR", fleet.path("units"))
        // It says yes to everything: each timer runs.
        .env("STILLPOINT_SYSTEMCTL", "/bin/true")
        .env("PATH", format!("{}:{path}", fleet.lab.at("bin")));
    finish(&mut command)
}

#[test]
fn the_program_itself_is_activated_by_a_token_that_it_made() {
    let Some(fleet) = Fleet::new("fleet: the program itself") else {
        return;
    };
    for folder in ["bin", "units"] {
        fs::create_dir(fleet.path(folder)).unwrap();
    }
    symlink(PROGRAM, fleet.path("bin/stillpoint")).unwrap();
    let (vault, token) = (fleet.lab.at("vault"), fleet.lab.at("real.token"));
    run(&fleet, &["init", &vault]).expect(0);
    let plan = "daily --start 2199-01-01T02:30:00 --every 1d --partial";
    let make = ["client", "token", "--vault", &vault, "--token-file", &token];
    run(&fleet, &[&make[..], &["--plan", plan]].concat()).expect(0);
    assert_eq!(fs::metadata(&token).unwrap().mode() & 0o777, 0o600);

    let list = fleet.list_of("here,,here,,daily,main\n");
    let runner = "exec:sh -c {command}";
    let reach = [list.as_str(), "--runner", runner, "--json"];
    let before = run(&fleet, &[&["fleet", "status"], &reach[..]].concat()).expect(3);
    let before = before.json();
    check(&fleet.lab, "fleet status", &before);
    let host = by_name(&before, "here");
    assert_eq!(
        (&host["state"], &host["failure"]),
        (&json!("installed"), &json!(null))
    );
    assert_eq!(host["version"], env!("CARGO_PKG_VERSION"));

    let apply = [&["fleet", "apply"], &reach[..], &["--token-file", &token]].concat();
    for done in [json!(["activate"]), json!([])] {
        let document = run(&fleet, &apply).expect(0).json();
        check(&fleet.lab, "fleet apply", &document);
        let host = by_name(&document, "here");
        assert_eq!(host["state"], "activated", "{host:#}");
        assert_eq!((&host["done"], &host["failure"]), (&done, &json!(null)));
    }
    // Another plan or vault than the list has is told.
    let other = fleet.list_of("here,,here,,hourly,main\n");
    let asked = ["fleet", "status", &other, "--runner", runner];
    let told = run(&fleet, &asked).expect(3);
    assert!(told.stdout.contains("its plans are daily"), "{told:?}");

    let apply = [
        "fleet",
        "apply",
        &other,
        "--runner",
        runner,
        "--token-file",
        &token,
    ];
    let refused = run(&fleet, &apply).expect(2);
    let said = "line 2: the token makes the plan daily";
    assert!(refused.stderr.contains(said), "{refused:?}");

    // A token that was changed is refused before anything is done, and shown nowhere.
    let text = fs::read_to_string(&token).unwrap();
    let secret = text.split(' ').nth(2).unwrap();
    let changed = text.replace(secret, &secret[..secret.len() - 8]);
    fs::write(&token, changed).unwrap();
    let list = fleet.list_of("here,,here,,,\n");
    let apply = [
        "fleet",
        "apply",
        &list,
        "--runner",
        runner,
        "--token-file",
        &token,
    ];
    let refused = run(&fleet, &apply).expect(2);
    assert!(
        refused.stderr.contains("it was cut off or changed"),
        "{refused:?}"
    );
    let kept = fs::read_to_string(format!("{list}.results")).unwrap();
    for said in [refused.stdout, refused.stderr, kept] {
        assert!(!said.contains(&secret[..24]), "{said}");
    }
}
