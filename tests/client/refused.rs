//! What activates no host, and leaves it as it was.

use super::{Host, PLAN};
use jiff::SignedDuration;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use stillpoint::client::{ClientToken, encode};
use stillpoint::model::ObjectId;

fn refused(host: &Host, token: &str, code: i32, told: &str) -> Value {
    let before = host.stands();
    let args = ["client", "activate", "--token-file", token];
    let error = host.checked("error", &args, code);
    let said = error["error"].to_string();
    assert!(said.contains(told), "{told}: {said}");
    assert_eq!(host.stands(), before, "{told}");
    error
}

#[test]
fn a_token_that_is_none_or_of_another_time_or_host_changes_nothing() {
    let Some(host) = Host::new("client: bad tokens") else {
        return;
    };
    let good = fs::read(host.usual_token("good")).unwrap();
    let hours = SignedDuration::from_hours;
    let by_times = |shift: SignedDuration| {
        host.made_up(|token| {
            token.issued += shift;
            token.expires += shift;
        })
    };
    let made: [(ClientToken, i32, &str); 5] = [
        (by_times(-hours(48)), 2, "has expired"),
        (by_times(hours(1)), 2, "two clocks"),
        (
            host.made_up(|token| token.host = Some("other".into())),
            2,
            "is for the host other",
        ),
        (
            host.made_up(|token| token.vault.id = ObjectId([1; 16])),
            1,
            "another vault",
        ),
        (
            host.made_up(|token| token.vault.settings.url = "vault".into()),
            2,
            "whole path",
        ),
    ];
    for (token, code, told) in &made {
        refused(&host, &host.written("token", token), *code, told);
    }
    let cut = &good[..good.len() / 2];
    let other = String::from_utf8(good.clone())
        .unwrap()
        .replacen(" 1 ", " 2 ", 1);
    let huge = vec![b'x'; 1 << 20];
    for (text, told) in [
        (cut, "not whole"),
        (other.as_bytes(), "another version"),
        (&huge[..], "longer than any"),
        (b"", "is empty"),
        (b"hello", "does not begin as one"),
    ] {
        refused(&host, &host.text("token", text), 2, told);
        let stream = ["client", "activate", "--token-file", "-", "--json"];
        let piped = host.fed(&stream, text).expect(2).json();
        assert!(piped.to_string().contains(told), "{piped}");
    }
    refused(&host, &host.lab.at("nowhere"), 1, "nowhere");
    let open = host.text("open", &good);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&host, &open, 2, "chmod 0600");
    // Options that would mean another vault.
    let vault = host.lab.at("vault");
    let args = ["client", "activate", "--token-file", "x", "--vault", &vault];
    host.run(&args).expect(2);
}

#[test]
fn a_token_is_made_for_two_days_at_most_and_with_a_plan_that_is_one() {
    let Some(host) = Host::new("client: token options") else {
        return;
    };
    let (vault, file) = (host.lab.at("vault"), host.lab.at("token"));
    let passphrase = host.text("passphrase", b"x");
    let make = ["client", "token", "--vault", &vault, "--token-file", &file];
    for (options, told) in [
        (&["--valid", "49h"][..], "two days"),
        (&["--valid", "0s"], "two days"),
        (&["--plan", "daily --every 1d"], "start"),
        (
            &["--plan", "daily --start 02:30 --every 1d --vault /x"],
            "--vault",
        ),
        (&["--name", "a/b"], "a name that is none"),
        (&["--key-file", &passphrase], "not encrypted"),
        (
            &["--credentials-file", &passphrase],
            "a directory takes none",
        ),
    ] {
        let error = host.checked("error", &[&make[..], options].concat(), 2);
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(!host.lab.path("token").exists(), "{told}");
    }
}

#[test]
fn a_vault_that_is_not_there_or_is_another_changes_nothing() {
    let Some(host) = Host::new("client: other vaults") else {
        return;
    };
    let token = host.usual_token("token");
    let (vault, away) = (host.lab.path("vault"), host.lab.path("away"));
    fs::rename(&vault, &away).unwrap();
    refused(&host, &token, 1, "nothing was changed");
    // Another one in its place: a disk that was mounted there.
    host.run(&["init", &host.lab.at("vault")]).expect(0);
    let error = refused(&host, &token, 1, "is another vault than the token means");
    assert!(
        error.to_string().contains("is another disk mounted"),
        "{error}"
    );
    // For it, too, the host is activated; then no other vault's token changes that.
    host.activated(&host.usual_token("of other"));
    fs::rename(&vault, host.lab.path("other")).unwrap();
    fs::rename(&away, &vault).unwrap();
    refused(&host, &token, 1, "activated for another vault");
    let state = host.state();
    assert_eq!(state["state"], "failed");
    assert!(
        state["failure"].to_string().contains("is another vault"),
        "{state}"
    );
}

/// Runs it where its settings lie on a filesystem of that kind, for it alone.
fn with_settings_on(host: &Host, options: &str, fill: bool, token: &str) -> Value {
    let etc = host.lab.at("etc");
    fs::create_dir_all(&etc).unwrap();
    let fill = match fill {
        true => "head -c 1M /dev/zero >\"$E/full\" 2>/dev/null; ",
        false => "",
    };
    let script = format!(
        "E={etc}; mount -t tmpfs -o mode=755,{options} none \"$E\" && {{ {fill}\"$0\" \"$@\"; \
         code=$?; ls -A \"$E\" >&2; exit $code; }}"
    );
    let prefix = ["unshare", "-m", "sh", "-c", &script];
    let args = ["client", "activate", "--token-file", token, "--json"];
    let run = crate::cli::lab::finish(&mut host.command_with(&prefix, &args));
    let left = if fill.is_empty() { "" } else { "full" };
    assert_eq!(run.stderr.trim(), left, "{run:?}");
    run.expect(1).json()
}

#[test]
fn settings_that_cannot_be_written_leave_the_host_as_it_was() {
    let Some(host) = Host::new("client: read-only settings") else {
        return;
    };
    let token = host.usual_token("token");
    for (options, fill, told) in [
        ("ro", false, "Read-only file system"),
        ("size=4k", true, "No space left on device"),
    ] {
        let error = with_settings_on(&host, options, fill, &token);
        let said = error["error"]["message"].as_str().unwrap();
        assert!(said.contains(told), "{said}");
        assert!(said.contains("; this host is as it was"), "{said}");
        assert_eq!(host.stands(), []);
    }
    // Neither does a note that cannot be written.
    let mut command = host.command_with(&[], &["client", "activate", "--token-file", &token]);
    command.env("STILLPOINT_CLIENT_NOTE", "/proc/nowhere/client.json");
    let run = crate::cli::lab::finish(&mut command);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(host.stands(), []);
    host.activated(&token);
}

#[test]
fn what_somebody_has_written_is_not_replaced() {
    let Some(host) = Host::new("client: settings by hand") else {
        return;
    };
    let token = host.usual_token("token");
    fs::create_dir_all(host.lab.path("etc")).unwrap();
    let table = "# mine\n[vaults.main]\nurl = \"/elsewhere\"\n";
    host.text("etc/config.toml", table.as_bytes());
    refused(&host, &token, 1, "[vaults.main] is there already");
    host.text("etc/config.toml", b"[vaults.main\n");
    refused(&host, &token, 2, "config.toml");
    // Under another name it comes beside what is there, and is not the usual one.
    let mine = "# mine\nvault = \"main\"\n[vaults.main]\nurl = \"/elsewhere\"\n";
    host.text("etc/config.toml", mine.as_bytes());
    let other = host.token("other", &["--name", "other", "--plan", PLAN]);
    let done = host.activated(&other);
    assert!(
        done["warnings"]
            .to_string()
            .contains("main is meant as before"),
        "{done}"
    );
    let text = fs::read_to_string(host.lab.path("etc/config.toml")).unwrap();
    assert!(
        text.starts_with(mine) && text.contains("[vaults.other]"),
        "{text}"
    );
    host.run(&["client", "deactivate"]).expect(0);
    let text = fs::read_to_string(host.lab.path("etc/config.toml")).unwrap();
    assert_eq!(text, mine);

    // A folder that others can write to is no place for keys.
    let open = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(host.lab.path("etc"), mode).unwrap();
    };
    open(0o777);
    refused(&host, &other, 2, "others than root can write to it");
    open(0o755);

    // A plan of that name stays, and is not taken for activation's own.
    let plan = "start = \"2199-01-01T00:00:00\"\nevery = \"1w\"\n";
    fs::create_dir_all(host.lab.path("etc/plans.d")).unwrap();
    host.text("etc/plans.d/daily.toml", plan.as_bytes());
    let done = host.activated(&other);
    // It names none, and another is the usual one.
    assert!(
        done["warnings"]
            .to_string()
            .contains("goes to another vault"),
        "{done}"
    );
    let state = host.checked("client status", &["client", "status"], 3);
    let problems = state["problems"].to_string();
    assert!(
        problems.contains("no plan of this host goes to other"),
        "{state}"
    );
    host.run(&["client", "deactivate"]).expect(0);
    let text = fs::read_to_string(host.lab.path("etc/plans.d/daily.toml")).unwrap();
    assert!(text.contains("every = \"1w\""), "{text}");
}

#[test]
fn a_token_that_has_expired_since_says_that_its_work_is_done() {
    let Some(host) = Host::new("client: expired since") else {
        return;
    };
    let mut token = host.made_up(|_| ());
    host.activated(&host.written("token", &token));
    // The same one, as it will be in two days.
    token.issued -= SignedDuration::from_hours(50);
    token.expires -= SignedDuration::from_hours(50);
    let later = host.written("later", &token);
    let args = ["client", "activate", "--token-file", &later];
    let again = host.checked("client activate", &args, 0);
    assert_eq!(again["already"], true);
    // Another one that has expired has done no work here, though it would write the same.
    let mut another = token.clone();
    another.nonce = ObjectId([8; 16]);
    refused(&host, &host.written("stranger", &another), 2, "has expired");
    // Where anything of it is missing it restores nothing any more.
    fs::remove_file(host.lab.path("etc/plans.d/daily.toml")).unwrap();
    refused(&host, &later, 2, "has expired");
    // Nor does another token that has expired say anything.
    token.nonce = ObjectId([9; 16]);
    let text = encode(&token).unwrap();
    refused(
        &host,
        &host.text("another", text.as_bytes()),
        2,
        "has expired",
    );
}
