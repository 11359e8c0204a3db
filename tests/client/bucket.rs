//! A vault in a bucket: a token carries what leads there, and credentials only when it is told to.

use super::{Host, PLAN};
use crate::s3::server::{KEY, SECRET, Server};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Nothing of this machine leads to any bucket.
fn alone(command: &mut Command) {
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}

fn run(host: &Host, args: &[&str]) -> crate::cli::lab::Run {
    let mut command = host.command_with(&[], args);
    alone(&mut command);
    crate::cli::lab::finish(&mut command)
}

#[test]
fn a_bucket_is_reached_by_what_the_token_says() {
    let Some(host) = Host::without_vault("client: bucket") else {
        return;
    };
    let server = Server::start();
    let credentials = server.credentials();
    let credentials = credentials.to_str().unwrap();
    // The machine that makes tokens has settings of its own.
    let office = format!(
        "[vaults.far]\nurl = \"s3://bucket/of/far\"\nendpoint = {:?}\nregion = \"us-east-1\"\n\
         path_style = true\nchecksums = \"md5\"\ncredentials = {{ file = {credentials:?} }}\n\
         limits = {{ upload = \"20MiB/s\", requests = 500 }}\n",
        server.endpoint
    );
    let office = host.text("office.toml", office.as_bytes());
    let at_office = |args: &[&str]| run(&host, &[args, &["--config", &office]].concat());
    at_office(&["init", "far"]).expect(0);
    let make = |name: &str, options: &[&str]| {
        let file = host.lab.at(name);
        let token = [
            "client",
            "token",
            "--vault",
            "far",
            "--token-file",
            &file,
            "--plan",
            PLAN,
        ];
        let made = at_office(&[&token[..], options, &["--json"]].concat())
            .expect(0)
            .json();
        (file, made)
    };
    let (bare, told) = make("bare", &[]);
    assert_eq!(
        (&told["vault"], &told["credentials"]),
        (&json!("far"), &json!(false))
    );
    let text = fs::read_to_string(&bare).unwrap();
    let body = text.split(' ').nth(2).unwrap();
    let json = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(body).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert!(
        !json.contains(SECRET) && !json.contains(KEY),
        "nobody asked for that: {json}"
    );
    // A host without credentials is told so, and stays as it was.
    let args = ["client", "activate", "--token-file", &bare, "--json"];
    let refused = run(&host, &args);
    assert!(refused.code != 0 && refused.code != 3, "{refused:?}");
    assert_eq!(host.stands(), []);

    let (full, told) = make("full", &["--credentials-file", credentials]);
    assert_eq!(told["credentials"], true);
    let args = ["client", "activate", "--token-file", &full, "--json"];
    let done = run(&host, &args);
    assert!([0, 3].contains(&done.code), "{done:?}");
    crate::cli::schema::check(&host.lab, "client activate", &done.json());
    assert!(!format!("{done:?}").contains(SECRET), "{done:?}");
    let placed = host.lab.path("etc/far.s3.env");
    assert_eq!(placed.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&placed).unwrap(), fs::read(credentials).unwrap());
    let config: toml::Table = fs::read_to_string(host.lab.path("etc/config.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let far = &config["vaults"]["far"];
    assert_eq!(far["limits"]["requests"].as_integer(), Some(500));
    assert_eq!(far["checksums"].as_str(), Some("md5"));
    assert_eq!(far["credentials"]["file"].as_str(), placed.to_str());
    let state = run(&host, &["client", "status", "--json"]).expect(0).json();
    assert_eq!(
        (&state["state"], &state["vault"]["name"]),
        (&json!("activated"), &json!("far"))
    );
    // The trial has left nothing in the bucket.
    let left = server.files("of/far").join("check");
    assert!(!left.exists() || fs::read_dir(&left).unwrap().next().is_none());

    // Credentials of the host's own take their place.
    let with_own = |args: &[&str]| {
        let mut command = host.command_with(&[], args);
        alone(&mut command);
        command
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        crate::cli::lab::finish(&mut command)
    };
    let other = with_own(&["client", "activate", "--token-file", &bare, "--json"]);
    assert!([0, 3].contains(&other.code), "{other:?}");
    assert!(!placed.exists(), "no token names it any more");
    let text = fs::read_to_string(host.lab.path("etc/config.toml")).unwrap();
    assert!(!text.contains("credentials"), "{text}");
    // The vault is gone for the host: that is a failure with its reason.
    let state = run(&host, &["client", "status", "--json"]).expect(3).json();
    assert_eq!(state["state"], "failed");
    with_own(&["client", "deactivate"]).expect(0);
    assert_eq!(host.stands(), []);
}
