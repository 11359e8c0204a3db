//! What `client` says to people, word for word: `tests/cli/golden/client.txt`.

use super::Host;
use crate::support::golden::{self, Normal};

#[test]
fn golden_what_client_says() {
    let Some(host) = Host::without_vault("client: golden") else {
        return;
    };
    let passphrase = host.text("passphrase", b"x");
    let mut normal = Normal::default();
    normal.call(host.lab.dir.path().to_str().unwrap(), "/DIR");
    let name = nix::unistd::gethostname().unwrap();
    normal.call(name.to_str().unwrap(), "HOST");
    normal.call(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut page = String::new();
    let mut say = |command: &str, code: i32| {
        let words = command.replace("DIR", host.lab.dir.path().to_str().unwrap());
        let words = shlex::split(&words).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = host.run(&words).expect(code);
        page.push_str(&format!("$ stillpoint {command}\n"));
        for line in normal.text(&run.stderr).lines() {
            page.push_str(&format!("! {line}\n"));
        }
        page.push_str(&normal.text(&run.stdout));
        page.push_str(&match code {
            0 => "\n\n".to_owned(),
            code => format!("\nexit code {code}\n\n"),
        });
    };
    host.run(&[
        "init",
        &host.lab.at("vault"),
        "--encrypt",
        "--password-file",
        &passphrase,
    ])
    .expect(0);
    say("client status", 3);
    let plan = "daily --start 2199-01-01T02:30:00 --every 1d";
    let make =
        format!("client token --vault DIR/vault --password-file DIR/passphrase --plan '{plan}'");
    say(&format!("{make} --valid 3d --token-file DIR/token"), 2);
    say(&format!("{make} --token-file DIR/token"), 0);
    say(&format!("{make} --token-file DIR/token"), 1);
    say("client activate --token-file DIR/nowhere", 1);
    say("client activate --token-file DIR/passphrase", 2);
    say("client activate --token-file DIR/token", 3);
    say("client activate --token-file DIR/token", 0);
    say("client status", 0);
    host.run(&["plan", "suspend", "daily"]).expect(0);
    say("client status", 3);
    host.run(&["plan", "resume", "daily"]).expect(0);
    std::fs::rename(host.lab.path("vault"), host.lab.path("away")).unwrap();
    say("client status", 3);
    std::fs::rename(host.lab.path("away"), host.lab.path("vault")).unwrap();
    say("client update --from DIR/nowhere", 1);
    say("client update --from DIR/passphrase --sha256 1", 2);
    say("client deactivate", 3);
    say("client deactivate", 0);
    golden::check("client", &page);
}
