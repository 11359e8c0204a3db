//! Killed at each change of a file that it makes: what stands is told, and the same command, or
//! the one that takes it back, comes to the same end as if nothing had happened.

use super::Host;
use crate::cli::lab::{finish, try_tool};
use crate::support::host::skipped;
use serde_json::Value;
use std::path::PathBuf;

/// Calls that change what a folder names, or make it last; strace counts each by itself.
const CALLS: [&str; 4] = ["rename", "linkat", "unlink", "fsync"];

/// The call at which the program is killed: the one of this number and name.
#[derive(Clone, Copy, Debug)]
struct Moment {
    call: &'static str,
    number: usize,
}

/// strace, which kills the program there if it is about one of these paths.
fn killer(moment: Moment, paths: &[PathBuf]) -> Vec<String> {
    let Moment { call, number } = moment;
    let mut words: Vec<String> = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"]
        .map(String::from)
        .into();
    words.push(format!("trace={call}"));
    words.push("-e".into());
    words.push(format!("inject={call}:signal=SIGKILL:when={number}"));
    for path in paths {
        words.extend(["-P".into(), path.to_str().unwrap().into()]);
    }
    words
}

/// What activation changes.
fn paths(host: &Host) -> Vec<PathBuf> {
    [
        "",
        "etc",
        "etc/plans.d",
        "units",
        "client.json",
        ".client.json.new",
        "etc/main.key",
        "etc/.main.key.new",
        "etc/config.toml",
        "etc/.config.toml.new",
        "etc/plans.d/daily.toml",
        "plans/daily.json",
        "units/stillpoint-plan-daily.timer",
        "units/stillpoint-plan-daily.service",
    ]
    .map(|name| host.lab.path(name))
    .into()
}

/// Whether the run was killed; else it has ended well.
fn killed(host: &Host, moment: Moment, args: &[&str]) -> bool {
    let killer = killer(moment, &paths(host));
    let prefix: Vec<&str> = killer.iter().map(String::as_str).collect();
    let run = finish(&mut host.command_with(&prefix, args));
    // strace ends as its tracee does.
    match run.code {
        -9 => true,
        0 | 3 => false,
        _ => panic!("{run:?}"),
    }
}

/// A host with a vault that is encrypted, and a token for it.
fn scene(test: &str) -> Option<(Host, String)> {
    let host = Host::without_vault(test)?;
    if !try_tool("strace", &["-qq", "-o", "/dev/null", "true"]) {
        skipped(test, "strace cannot trace here");
        return None;
    }
    let passphrase = host.text("passphrase", b"x");
    let vault = host.lab.at("vault");
    host.run(&["init", &vault, "--encrypt", "--password-file", &passphrase])
        .expect(0);
    let options = ["--password-file", &passphrase, "--plan", super::PLAN];
    let token = host.token("token", &options);
    Some((host, token))
}

fn state(host: &Host) -> Value {
    host.state()["state"].clone()
}

/// What stands, without when it was noted.
fn settings(host: &Host) -> Vec<(String, u32, Vec<u8>)> {
    let mut stands = host.stands();
    stands.retain(|(name, ..)| name != "client.json");
    // What a process of another number has left that was killed in the middle of `plan create`.
    stands.retain(|(name, ..)| !name.contains("/."));
    // Each plan has an ID of its own.
    for (name, _, bytes) in &mut stands {
        if name.ends_with("daily.toml") {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with("id = "));
            *bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
        }
    }
    stands
}

#[test]
fn an_activation_that_is_killed_goes_on_or_is_taken_back() {
    let Some((host, token)) = scene("client: activation killed") else {
        return;
    };
    let args = ["client", "activate", "--token-file", &token];
    host.activate(&token).expect(3);
    let whole = settings(&host);
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(settings(&host), []);
    let mut kills = 0;
    for call in CALLS {
        let mut moment = Moment { call, number: 1 };
        while killed(&host, moment, &args) {
            kills += 1;
            // The last thing may have been done, or nothing.
            let now = state(&host);
            let known = ["installed", "failed", "activated"];
            assert!(known.iter().any(|word| now == *word), "{moment:?}: {now}");
            if now == "failed" {
                let told = host.state()["failure"].to_string();
                assert!(
                    told.contains("cut off") && told.contains("activate` again"),
                    "{told}"
                );
            }
            // Whatever stands there is understood.
            host.run(&["plan", "list"]).expect(0);
            if moment.number.is_multiple_of(2) {
                let again = host.activate(&token);
                assert!([0, 3].contains(&again.code), "{moment:?}: {again:?}");
                assert_eq!(settings(&host), whole, "{moment:?}");
                assert_eq!(state(&host), "activated", "{moment:?}");
            }
            host.run(&["client", "deactivate"]).expect(0);
            assert_eq!(settings(&host), [], "{moment:?}");
            assert_eq!(state(&host), "installed", "{moment:?}");
            moment.number += 1;
        }
        assert_eq!(settings(&host), whole);
        host.run(&["client", "deactivate"]).expect(0);
    }
    assert!(kills >= 20, "killed only {kills} times");
}

#[test]
fn a_deactivation_that_is_killed_goes_on() {
    let Some((host, token)) = scene("client: deactivation killed") else {
        return;
    };
    let mut kills = 0;
    for call in CALLS {
        let mut moment = Moment { call, number: 1 };
        loop {
            let run = host.activate(&token);
            assert_eq!(run.code, 3, "{moment:?}: {run:?}");
            if !killed(&host, moment, &["client", "deactivate"]) {
                break;
            }
            kills += 1;
            let now = state(&host);
            if now == "failed" && host.lab.path("client.json").exists() {
                // It is not activated over the half of what was taken back.
                let again = host.activate(&token);
                let told = again.stderr.contains("client deactivate` goes on");
                assert!(again.code == 1 && told, "{moment:?}: {again:?}");
            }
            host.run(&["client", "deactivate"]).expect(0);
            assert_eq!(settings(&host), [], "{moment:?}");
            assert_eq!(state(&host), "installed", "{moment:?}");
            moment.number += 1;
        }
        assert_eq!(settings(&host), []);
    }
    assert!(kills >= 12, "killed only {kills} times");
}
