//! Vaults that have names in the configuration, in directories and in S3: which one is meant, how
//! it is reached, and what is refused.

use super::server::Server;
use crate::cli::lab::{PROGRAM, Run, finish};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder with a configuration, and nothing of this host's environment.
struct Host {
    folder: TempDir,
    server: Server,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start();
        Self { folder, server }
    }

    fn configure(&self, text: &str) {
        let endpoint = &self.server.endpoint;
        let credentials = self.server.credentials();
        let text = text
            .replace("ENDPOINT", endpoint)
            .replace("KEYS", credentials.to_str().unwrap())
            .replace("FOLDER", self.folder.path().to_str().unwrap());
        std::fs::write(self.folder.path().join("config.toml"), text).unwrap();
    }

    fn run(&self, args: &[&str]) -> Run {
        self.run_with(None, args)
    }

    fn run_with(&self, vault: Option<&str>, args: &[&str]) -> Run {
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("STILLPOINT_CONFIG_DIR", self.folder.path())
            .env("STILLPOINT_CACHE_DIR", self.folder.path().join("cache"))
            .envs(vault.map(|vault| ("STILLPOINT_VAULT", vault)))
            .args(args)
            .arg("--json")
            .stdin(Stdio::null());
        finish(&mut command)
    }
}

const FAR: &str = r#"
[vaults.far]
url = "s3://bucket/of/far"
endpoint = "ENDPOINT"
region = "us-east-1"
path_style = true
checksums = "md5"
credentials = { file = "KEYS" }
limits = { upload = "20MiB/s", download = "100MB/s", requests = 500 }

[vaults.near]
url = "FOLDER/near"
limits = { upload = "20MiB/s" }
"#;

#[test]
fn a_vault_is_meant_by_flag_then_environment_then_file() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::host::skipped("named vaults", "not root");
    }
    let host = Host::new();
    host.configure(&format!("vault = \"far\"\n{FAR}"));
    let location = |run: Run| {
        let found = run.expect(0).json();
        found["location"].as_str().unwrap().to_owned()
    };
    assert_eq!(location(host.run(&["init", "far"])), "s3://bucket/of/far");
    let near = host.folder.path().join("near");
    assert_eq!(Path::new(&location(host.run(&["init", "near"]))), near);
    assert!(near.join("vault.json").exists());
    // Only the vault in the directory is broken: what works means the other.
    std::fs::write(near.join("vault.json"), "{").unwrap();
    host.run(&["list"]).expect(0);
    host.run_with(Some("near"), &["list"]).expect(4);
    host.run_with(Some("near"), &["list", "--vault", "far"])
        .expect(0);
    host.run_with(Some("far"), &["list", "--vault", near.to_str().unwrap()])
        .expect(4);
    host.configure(FAR);
    let none = host.run(&["list"]).expect(2);
    assert!(none.stdout.contains("STILLPOINT_VAULT"), "{none:?}");
}

#[test]
fn a_word_that_no_table_has_is_told_beside_those_that_one_has() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::host::skipped("a vault's wrong name", "not root");
    }
    let host = Host::new();
    let hint = |vault: &str| {
        let error = host.run(&["list", "--vault", vault]).expect(1).json();
        error["error"]["hint"].as_str().unwrap().to_owned()
    };
    host.configure("");
    assert!(hint("fra").contains("the configuration has no vaults"));
    host.configure(FAR);
    let said = hint("fra");
    assert!(said.contains("fra was taken for a directory"), "{said}");
    assert!(said.contains("has the vaults far, near"), "{said}");
    // Nothing of it where the word is one of them, or a place.
    for vault in ["near", "/nowhere/fra", "./fra"] {
        let said = hint(vault);
        assert!(!said.contains("taken for"), "{vault}: {said}");
    }
}

#[test]
fn a_configuration_that_is_not_understood_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::host::skipped("named vaults", "not root");
    }
    let host = Host::new();
    let far = "[vaults.far]\nurl = \"s3://bucket/x\"\n";
    let near = "[vaults.far]\nurl = \"/x\"\n";
    for (text, marker) in [
        ("vault = \"other\"\n".to_owned(), "vaults.other"),
        (format!("{far}passwrod = 1\n"), "passwrod"),
        ("[vaults.far]\nregion = \"x\"\n".to_owned(), "url"),
        (format!("{far}checksums = \"sha1\"\n"), "sha1"),
        (format!("{far}endpoint = \"s3.example\"\n"), "https://"),
        (
            format!("{far}limits = {{ upload = \"fast\" }}\n"),
            "20MiB/s",
        ),
        (
            format!("{far}endpoint = \"https://me:s3cret@s3.example\"\n"),
            "password",
        ),
        (format!("{far}credentials = \"AKIA:s3cret\"\n"), "a text"),
        (format!("{far}limits = {{ requests = 0 }}\n"), "requests"),
        (format!("{far}credentials = {{ }}\n"), "profile"),
        (
            format!("{far}credentials = {{ file = \"x\" }}\n"),
            "whole path",
        ),
        (format!("{near}region = \"x\"\n"), "limits"),
        ("[vaults.far]\nurl = \"x\"\n".to_owned(), "whole path"),
        ("[vaults.far]\nurl = \"s3://b\"\n".to_owned(), "bucket"),
    ] {
        host.configure(&text);
        let args: &[&str] = match text.starts_with("vault =") {
            true => &["list"],
            false => &["list", "--vault", "far"],
        };
        let run = host.run(args).expect(2);
        assert!(run.stdout.contains(marker), "{text}: {run:?}");
        assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
    }
    // A place that is named as such needs nothing of it.
    host.configure("vault =");
    let place = host.folder.path().join("near");
    let place = place.to_str().unwrap();
    host.run(&["init", place]).expect(0);
    host.run(&["list", "--vault", place]).expect(0);
    host.run(&["list", "--vault", "far"]).expect(2);
    host.configure(&format!("{far}ca_file = \"/nowhere\"\n"));
    let run = host.run(&["list", "--vault", "far"]).expect(1);
    assert!(run.stdout.contains("/nowhere"), "{run:?}");
    // Keys that others can read are not used.
    host.configure(FAR);
    let keys = host.server.credentials();
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let run = host.run(&["list", "--vault", "far"]).expect(2);
    assert!(run.stdout.contains("chmod 0600"), "{run:?}");
}
