//! From a fresh host to a file out of its plan's snapshot, and back.

use super::Host;
use crate::cli::lab::{finish, try_tool};
use crate::support::host::skipped;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_fresh_host_is_activated_snapshots_itself_and_is_taken_back() {
    let Some(host) = Host::without_vault("client: whole") else {
        return;
    };
    let mut disk = host.lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    fs::write(place.join("file"), "worth keeping").unwrap();
    let fresh = host.stands();
    let vault = host.lab.at("vault");
    let passphrase = host.text("passphrase", b"of the office");
    let with_passphrase = ["--password-file", &passphrase];
    host.run(&[&["init", &vault, "--encrypt"], &with_passphrase[..]].concat())
        .expect(0);
    let installed = host.state();
    assert_eq!(installed["state"], "installed");

    let file = host.lab.at("token");
    let plan = format!(
        "daily --start 2199-01-01T02:30:00 --every 1d --disk {}",
        disk.device
    );
    let make = [
        "client",
        "token",
        "--vault",
        &vault,
        "--token-file",
        &file,
        "--plan",
        &plan,
    ];
    let made = host.checked("client token", &[&make[..], &with_passphrase].concat(), 0);
    assert_eq!(
        (&made["key"], &made["vault"]),
        (&json!("writer"), &json!("main"))
    );
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!made.to_string().contains(text.split(' ').nth(2).unwrap()));
    // A token is put over nothing.
    host.run(&[&make[..], &with_passphrase].concat()).expect(1);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    let args = [
        "client",
        "activate",
        "--token-file",
        &file,
        "--snapshot-now",
    ];
    let activated = host.checked("client activate", &args, 3);
    assert_eq!(
        (&activated["already"], &activated["plan"]),
        (&json!(false), &json!("daily"))
    );
    assert_eq!(
        activated["warnings"].as_array().unwrap().len(),
        1,
        "{activated}"
    );
    let snapshot = activated["snapshot"].as_str().unwrap();
    let steps = activated["steps"].as_array().unwrap();
    let of = |step: &Value| (step["step"].clone(), step["outcome"].clone());
    let names = [
        "token",
        "host",
        "vault",
        "key",
        "configuration",
        "plan",
        "snapshot",
    ];
    let done: Vec<_> = names
        .iter()
        .map(|name| (json!(name), json!("done")))
        .collect();
    assert_eq!(steps.iter().map(of).collect::<Vec<_>>(), done);
    for (name, mode) in [("etc/main.key", 0o600), ("etc/config.toml", 0o644)] {
        assert_eq!(host.lab.path(name).metadata().unwrap().mode() & 0o777, mode);
    }
    assert!(host.lab.path("units/stillpoint-plan-daily.timer").exists());

    // The next morning: it is green.
    let state = host.checked("client status", &["client", "status"], 0);
    assert_eq!(state["last_snapshot"]["snapshot"], snapshot);
    assert_eq!(
        (&state["vault"]["name"], &state["problems"]),
        (&json!("main"), &json!([]))
    );
    assert_eq!(state["vault"]["id"], host.vault_id().to_string());
    // By the host's key nobody reads a file; by the passphrase its owner does.
    let path = format!("{snapshot}:{}", place.join("file").display());
    let copy = host.lab.at("copy");
    let refused = host.run(&["cp", &path, &copy]).expect(5);
    assert!(refused.stderr.contains("writer"), "{refused:?}");
    host.run(&[&["cp", &path, &copy], &with_passphrase[..]].concat())
        .expect(0);
    assert_eq!(fs::read_to_string(&copy).unwrap(), "worth keeping");

    // Again, by file and by pipe: nothing is done twice, and nothing is wrong.
    let stands = host.stands();
    let again = host.checked(
        "client activate",
        &["client", "activate", "--token-file", &file],
        0,
    );
    assert_eq!(again["already"], true);
    let stream = ["client", "activate", "--token-file", "-", "--json"];
    let piped = host.fed(&stream, text.as_bytes()).expect(0).json();
    assert_eq!(piped["already"], true);
    assert!(
        piped["steps"]
            .as_array()
            .unwrap()
            .iter()
            .all(|step| step["outcome"] != "failed")
    );
    let without_times = |all: Vec<(String, u32, Vec<u8>)>| -> Vec<_> {
        let named = all.into_iter().filter(|(name, ..)| name != "client.json");
        named.collect()
    };
    assert_eq!(without_times(host.stands()), without_times(stands));

    let before = host.lab.vault_files();
    let down = host.checked("client deactivate", &["client", "deactivate"], 0);
    assert_eq!(
        (&down["state"], &down["already"]),
        (&json!("installed"), &json!(false))
    );
    assert_eq!(host.stands(), fresh, "nothing is left but the plan's lock");
    assert_eq!(host.lab.vault_files(), before, "the vault keeps all");
    let tracked = host.run(&["track", "status", "--json"]).expect(0).json();
    assert_eq!(tracked["tracked"], json!([]), "{tracked}");
    let again = host.checked("client deactivate", &["client", "deactivate"], 0);
    assert_eq!(
        (&again["already"], &again["vault"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(host.state()["state"], "installed");
    disk.unmount();
}

#[test]
fn a_token_goes_to_the_folder_where_somebody_is() {
    let Some(host) = Host::new("client: relative token") else {
        return;
    };
    let vault = host.lab.at("vault");
    let make = [
        "client",
        "token",
        "--vault",
        &vault,
        "--token-file",
        "rel.token",
    ];
    let mut command = host.command_with(&[], &make);
    crate::cli::lab::finish(command.current_dir(host.lab.dir.path())).expect(0);
    let text = fs::read_to_string(host.lab.path("rel.token")).unwrap();
    // A token that stands on the command line is not said again.
    let error = host
        .run(&["client", "activate", "--token-file", &text])
        .expect(2);
    assert!(
        error.stderr.contains("a token stands there itself"),
        "{error:?}"
    );
    assert!(!error.stderr.contains(text.trim()) && !error.stdout.contains(text.trim()));
}

/// It is no locked memory, so the kernel is told to dump nothing before any of it is read.
#[test]
fn a_token_is_in_no_dump() {
    let Some(host) = Host::new("client: no dump") else {
        return;
    };
    if !try_tool("strace", &["-qq", "-o", "/dev/null", "true"]) {
        return skipped("client: no dump", "strace cannot trace here");
    }
    let (token, trace) = (host.usual_token("token"), host.lab.at("trace"));
    let strace = ["strace", "-f", "-qq", "-s", "32", "-o", &trace];
    let args = ["client", "activate", "--token-file", &token];
    finish(&mut host.command_with(&strace, &args)).expect(3);
    let trace = fs::read_to_string(&trace).unwrap();
    let line = |words: &str| trace.lines().position(|line| line.contains(words));
    let (told, read) = (
        line("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"),
        line("\"stillpoint-client-token"),
    );
    assert!(
        read.is_some() && told.is_some() && told < read,
        "{told:?} {read:?}"
    );
}

#[test]
fn a_token_on_standard_output_goes_through_a_pipe() {
    let Some(host) = Host::new("client: pipe") else {
        return;
    };
    let vault = host.lab.at("vault");
    let make = [
        "client",
        "token",
        "--vault",
        &vault,
        "--token-file",
        "-",
        "--plan",
        "none",
    ];
    let token = host.run(&make).expect(0);
    assert_eq!(token.stdout.lines().count(), 1, "{token:?}");
    assert!(token.stderr.contains("activates hosts"), "{token:?}");
    let stream = ["client", "activate", "--token-file", "-"];
    let run = host.fed(&stream, token.stdout.as_bytes()).expect(3);
    assert!(run.stdout.contains("without a plan"), "{run:?}");
    // A vault is named, and nothing snapshots the host by itself: that is a problem.
    let state = host.checked("client status", &["client", "status"], 3);
    assert_eq!(state["state"], "activated");
    assert!(
        state["problems"].to_string().contains("there is no plan"),
        "{state}"
    );
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}
