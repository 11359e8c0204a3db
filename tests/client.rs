//! A host as a client: activated by tokens that are good and by tokens that are not, killed at
//! each step, told how it stands, updated, and taken back until nothing is left.

mod bucket;
mod golden;
mod killed;
mod refused;
mod standing;
mod stores;
mod timers;
mod undone;
mod update;
mod whole;

use crate::cli::lab::{Lab, Run, finish};
use crate::cli::schema::check;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use stillpoint::client::{ClientToken, TokenPlan, TokenVault, TokenVaultSettings, encode};
use stillpoint::model::ObjectId;

/// A plan that is never due while a test runs.
pub const PLAN: &str = "daily --start 2199-01-01T02:30:00 --every 1d --partial";

/// A host with settings of its own, and a vault beside it.
pub struct Host {
    pub lab: Lab,
}

impl Host {
    /// With an empty vault that is not encrypted.
    pub fn new(test: &str) -> Option<Self> {
        let host = Self::without_vault(test)?;
        host.run(&["init", &host.lab.at("vault")]).expect(0);
        Some(host)
    }

    pub fn without_vault(test: &str) -> Option<Self> {
        let lab = Lab::new(test)?;
        fs::create_dir_all(lab.path("units")).unwrap();
        Some(Self { lab })
    }

    /// Nothing names a vault but what the host's own settings say.
    pub fn command_with(&self, prefix: &[&str], args: &[&str]) -> Command {
        let mut command = self.lab.command_with(prefix, args);
        command
            .env_remove("STILLPOINT_VAULT")
            .env("STILLPOINT_CONFIG_DIR", self.lab.path("etc"))
            .env("STILLPOINT_UNIT_DIR", self.lab.path("units"))
            // It says yes to everything: each timer runs.
            .env("STILLPOINT_SYSTEMCTL", "/bin/true");
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        finish(&mut self.command_with(&[], args))
    }

    /// Runs it with `--json`; the document is as the schema of `command` says.
    pub fn checked(&self, command: &str, args: &[&str], code: i32) -> Value {
        let document = self.run(&[args, &["--json"]].concat()).expect(code).json();
        check(&self.lab, command, &document);
        document
    }

    /// A token for the vault of this host, in a file.
    pub fn token(&self, name: &str, options: &[&str]) -> String {
        let file = self.lab.at(name);
        let vault = self.lab.at("vault");
        let token = ["client", "token", "--vault", &vault, "--token-file", &file];
        self.run(&[&token[..], options].concat()).expect(0);
        file
    }

    /// The same, with a plan that is never due.
    pub fn usual_token(&self, name: &str) -> String {
        self.token(name, &["--plan", PLAN])
    }

    pub fn activate(&self, token: &str) -> Run {
        self.run(&["client", "activate", "--token-file", token])
    }

    /// It is activated; a vault in memory is told of.
    pub fn activated(&self, token: &str) -> Value {
        let args = ["client", "activate", "--token-file", token];
        self.checked("client activate", &args, 3)
    }

    /// How it says it stands, whatever it ends with.
    pub fn state(&self) -> Value {
        let run = self.run(&["client", "status", "--json"]);
        assert!([0, 3].contains(&run.code), "{run:?}");
        let document = run.json();
        check(&self.lab, "client status", &document);
        document
    }

    /// What stands on the host of an activation: its settings, units and notes.
    pub fn stands(&self) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        for folder in ["etc", "units", "plans"] {
            list(&self.lab.path(folder), &mut found);
        }
        let note = self.lab.path("client.json");
        if note.exists() {
            found.push(("client.json".into(), 0, fs::read(note).unwrap()));
        }
        for left in fs::read_dir(self.lab.dir.path()).unwrap() {
            let name = left.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with(".client"), "{name}");
        }
        for left in fs::read_dir(self.lab.path("run")).unwrap() {
            let name = left.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("draft"), "{name}");
        }
        // Who waits for the lock of a plan must not get another one.
        found.retain(|(name, ..)| !name.ends_with(".lock"));
        found.sort();
        found
    }

    /// The ID of the vault.
    pub fn vault_id(&self) -> ObjectId {
        let text = fs::read_to_string(self.lab.path("vault/vault.json")).unwrap();
        let info: Value = serde_json::from_str(&text).unwrap();
        info["vault"]["id"].as_str().unwrap().parse().unwrap()
    }

    /// A token that says what no command would write.
    pub fn made_up(&self, change: impl FnOnce(&mut ClientToken)) -> ClientToken {
        let vault = TokenVault {
            name: "main".into(),
            id: self.vault_id(),
            settings: TokenVaultSettings {
                url: self.lab.at("vault"),
                ..TokenVaultSettings::default()
            },
        };
        let issued = Timestamp::now();
        let mut token = ClientToken::new(vault, issued, SignedDuration::from_hours(48)).unwrap();
        token.plan = Some(TokenPlan {
            name: "daily".into(),
            words: PLAN.split(' ').skip(1).map(Into::into).collect(),
        });
        change(&mut token);
        token
    }

    pub fn written(&self, name: &str, token: &ClientToken) -> String {
        self.text(name, encode(token).unwrap().as_bytes())
    }

    /// A file that its owner alone can read.
    pub fn text(&self, name: &str, text: &[u8]) -> String {
        let path = self.lab.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.lab.at(name)
    }

    /// Runs it with a text on standard input.
    pub fn fed(&self, args: &[&str], text: &[u8]) -> Run {
        let mut command = self.command_with(&[], args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // One that has read enough is gone.
        let _ = stdin.write_all(text);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn list(folder: &Path, found: &mut Vec<(String, u32, Vec<u8>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let stat = path.symlink_metadata().unwrap();
        match stat.is_dir() {
            true => list(&path, found),
            false => {
                let bytes = fs::read(&path).unwrap_or_default();
                found.push((path.to_str().unwrap().into(), stat.mode() & 0o777, bytes));
            }
        }
    }
}
