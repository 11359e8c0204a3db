//! How a host says it stands: by what is there, and not by a note of it.

use super::Host;
use serde_json::Value;
use std::fs;

fn failed(host: &Host, told: &str, remedy: &str) -> Value {
    let state = host.checked("client status", &["client", "status"], 3);
    assert_eq!(state["state"], "failed", "{state}");
    let failure = &state["failure"];
    assert!(
        failure["message"].as_str().unwrap().contains(told),
        "{told}: {state}"
    );
    assert!(
        failure["hint"].as_str().unwrap().contains(remedy),
        "{remedy}: {state}"
    );
    let text = host.run(&["client", "status"]).expect(3);
    let last = text.stdout.trim_end().lines().last().unwrap();
    assert!(last.contains("failed") && last.contains(told), "{text:?}");
    state
}

#[test]
fn whatever_is_missing_is_told_with_its_remedy() {
    let Some(host) = Host::without_vault("client: what is missing") else {
        return;
    };
    let passphrase = host.text("passphrase", b"x");
    let vault = host.lab.at("vault");
    host.run(&["init", &vault, "--encrypt", "--password-file", &passphrase])
        .expect(0);
    let token = host.token(
        "token",
        &["--password-file", &passphrase, "--plan", super::PLAN],
    );
    host.activated(&token);
    let away = |name: &str, told: &str, remedy: &str| {
        fs::rename(host.lab.path(name), host.lab.path("away")).unwrap();
        failed(&host, told, remedy);
        fs::rename(host.lab.path("away"), host.lab.path(name)).unwrap();
        let state = host.checked("client status", &["client", "status"], 0);
        assert_eq!(state["state"], "activated");
    };
    away("etc/main.key", "main.key is gone", "client activate");
    away("etc/config.toml", "has no [vaults.main]", "client activate");
    away(
        "etc/plans.d/daily.toml",
        "there is no plan daily",
        "plan list",
    );
    away("vault", "vault", "");
    // What is wrong in a configuration is told as always.
    let good = fs::read(host.lab.path("etc/config.toml")).unwrap();
    host.text("etc/config.toml", b"[vaults.main\n");
    failed(&host, "config.toml", "there may be in it");
    host.text("etc/config.toml", &good);
    // A note that nobody can read says nothing; what it would have known is found out again.
    for note in [&b""[..], b"{", b"null"] {
        host.text("client.json", note);
        failed(&host, "cannot be understood", "client activate");
        host.run(&["client", "deactivate"]).expect(1);
    }
    let again = host.activated(&token);
    assert!(
        again["warnings"].to_string().contains("written anew"),
        "{again}"
    );
    host.checked("client status", &["client", "status"], 0);
    fs::remove_file(host.lab.path("etc/main.key")).unwrap();
    let again = host.activated(&token);
    assert_eq!(again["already"], false);
    host.checked("client status", &["client", "status"], 0);
}

/// All that it would write may stand by then: what was cut off before its end is no activation.
#[test]
fn what_was_cut_off_before_its_end_is_told_and_goes_on() {
    let Some(host) = Host::new("client: cut off before its end") else {
        return;
    };
    let token = host.usual_token("token");
    host.activated(&token);
    let note = fs::read_to_string(host.lab.path("client.json")).unwrap();
    let stage = |word: &str| {
        let text = note.replacen("\"activated\"", &format!("{word:?}"), 1);
        assert_ne!(text, note);
        host.text("client.json", text.as_bytes());
    };
    stage("activating");
    failed(&host, "its activation was cut off", "client activate");
    let again = host.activated(&token);
    assert_eq!(again["already"], false);
    host.checked("client status", &["client", "status"], 0);

    stage("deactivating");
    failed(
        &host,
        "its deactivation was cut off",
        "client deactivate` goes on",
    );
    let before = host.stands();
    let refused = host.activate(&token).expect(1);
    assert!(
        refused.stderr.contains("client deactivate` goes on"),
        "{refused:?}"
    );
    assert_eq!(host.stands(), before);
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}

#[test]
fn a_note_alone_makes_no_host_activated_and_none_is_needed() {
    let Some(host) = Host::new("client: notes alone") else {
        return;
    };
    let token = host.usual_token("token");
    host.activated(&token);
    let note = fs::read(host.lab.path("client.json")).unwrap();
    // By hand, without a note: it is as good.
    fs::remove_file(host.lab.path("client.json")).unwrap();
    let state = host.checked("client status", &["client", "status"], 0);
    assert_eq!(state["state"], "activated");
    let down = host.checked("client deactivate", &["client", "deactivate"], 3);
    assert_eq!(
        down["already"], true,
        "what nobody noted is nobody's to take back"
    );
    assert!(host.lab.path("etc/config.toml").exists());
    // The note alone.
    host.text("client.json", &note);
    fs::remove_dir_all(host.lab.path("etc")).unwrap();
    failed(&host, "has no [vaults.main]", "client activate");
    host.run(&["client", "deactivate"]).expect(0);
    assert_eq!(host.state()["state"], "installed");
    // A note that names files elsewhere has none of them removed.
    let outside = host.text("outside.key", b"x");
    let forged = String::from_utf8(note)
        .unwrap()
        .replace("\"main\"", "\"../outside\"");
    host.text("client.json", forged.as_bytes());
    host.run(&["client", "deactivate"]).expect(1);
    assert!(fs::exists(&outside).unwrap());
}
