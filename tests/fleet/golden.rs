//! What `fleet` says to people, word for word: `tests/cli/golden/fleet.txt`.

use super::place::Fleet;
use crate::support::golden::{self, Normal};
use std::fs;

#[test]
fn golden_what_fleet_says() {
    let Some(fleet) = Fleet::new("fleet: golden") else {
        return;
    };
    fleet.host("a");
    let done = fleet.host("done");
    done.install();
    fs::write(done.state.join("problem"), "").unwrap();
    fleet
        .host("refuses")
        .goes("echo 'no route to it' >&2; exit 7");
    fleet.full_host("full");
    let mut normal = Normal::default();
    normal.call(fleet.lab.dir.path().to_str().unwrap(), "/DIR");
    let mut page = String::new();
    let mut say = |args: &[&str], code: i32| {
        let run = fleet.lab.run(args).expect(code);
        let shown = normal.text(&args.join(" "));
        let said = normal.text(&format!("{}{}", run.stdout, verdicts(&run.stderr)));
        page.push_str(&format!("# stillpoint {shown}\n{said}\n\n"));
    };
    let (list, runner) = (fleet.list(), fleet.runner());
    let (package, token) = (fleet.package(), fleet.token());
    say(&["fleet", "template"], 0);
    let new = fleet.lab.at("new.csv");
    say(&["fleet", "template", &new], 0);
    say(&["fleet", "template", &new], 1);
    let reach = [list.as_str(), "--runner", &runner];
    say(&[&["fleet", "status"], &reach[..]].concat(), 3);
    say(&[&["fleet", "apply"], &reach[..]].concat(), 3);
    let apply = [&["fleet", "apply"], &reach[..], &["--package", &package]].concat();
    say(&[&apply[..], &["--token-file", &token]].concat(), 3);
    say(&["fleet", "status", &list, "--runner", "telnet"], 2);
    fleet.list_of("a,,a,,,\na,x,-b,vpn,,\n");
    say(&[&["fleet", "status"], &reach[..]].concat(), 2);
    golden::check("fleet", &page);
}

/// What is told as it goes comes in any order.
fn verdicts(said: &str) -> String {
    let lines = said.lines().filter(|line| !line.starts_with('['));
    lines.map(|line| format!("{line}\n")).collect()
}
