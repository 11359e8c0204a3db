//! `serve`: what it says when it listens and when it ends, and where it does not listen.

use super::lab::{LONG, code_of, tool, wait};
use super::schema;
use crate::support::cli::Cli;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Instant;

const VAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vault-v2");
/// A snapshot of two disks in it.
const SNAPSHOT: &str = "01MCC5RM01FP7SC4M5YW833THK";

/// A server that is killed with the test.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it said first.
    first: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(cli: &Cli, args: &[&str]) -> Server {
    let all = [&["serve", SNAPSHOT, "--vault", VAULT], args].concat();
    let mut command = cli.command(&all);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    Server {
        child,
        stdout,
        first,
    }
}

impl Server {
    /// Sends a signal; the exit code, and what else was said.
    fn end(mut self, signal: Signal) -> (i32, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        let code = code_of(wait(&mut self.child, "a server that was told to stop"));
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (code, rest)
    }
}

fn socket(cli: &Cli) -> String {
    format!("unix:{}/s", cli.folder().display())
}

#[test]
fn serve_prints_one_document_when_it_listens_and_goes_with_a_signal() {
    let cli = Cli::new();
    for (listen, signal, code) in [
        (socket(&cli), Signal::SIGTERM, 143),
        (socket(&cli), Signal::SIGINT, 130),
        ("127.0.0.1:0".into(), Signal::SIGTERM, 143),
    ] {
        let server = serve(&cli, &["--listen", &listen, "--json"]);
        let document: Value = serde_json::from_str(&server.first).unwrap();
        schema::check_printed(&cli.run(&["schema", "serve"]).stdout, &document);
        let disks = document["disks"].as_array().unwrap();
        assert_eq!(disks.len(), 2, "{document}");
        for disk in disks {
            let size = tool("nbdinfo", &["--size", disk["uri"].as_str().unwrap()]);
            assert_eq!(size.trim(), disk["size_bytes"].to_string());
        }
        assert_eq!(server.end(signal), (code, String::new()));
        assert!(!cli.folder().join("s").exists());
    }
}

#[test]
fn serve_says_first_how_to_connect_and_serves_the_disk_that_was_named() {
    let cli = Cli::new();
    let server = serve(&cli, &["--listen", &socket(&cli), "--disk", "vda"]);
    let uri = server.first.split('\'').nth(1).unwrap();
    assert!(server.first.contains("read-only"), "{}", server.first);
    let restored = cli.folder().join("restored");
    let args = [
        "restore",
        SNAPSHOT,
        restored.to_str().unwrap(),
        "--disk",
        "vda",
    ];
    cli.run(&[&args[..], &["--vault", VAULT]].concat())
        .expect(0);
    let copied = cli.folder().join("copied");
    tool("nbdcopy", &[uri, copied.to_str().unwrap()]);
    assert!(fs::read(restored).unwrap() == fs::read(copied).unwrap());
    let (code, rest) = server.end(Signal::SIGTERM);
    assert_eq!(code, 143);
    assert!(rest.contains("only its owner can connect"), "{rest}");
    assert!(
        rest.trim_end().ends_with("the vault is as it was"),
        "{rest}"
    );
}

#[test]
fn serve_takes_the_place_of_a_dead_server_and_of_nothing_else() {
    let cli = Cli::new();
    let listen = socket(&cli);
    let refused = |code: i32, words: &str| {
        let args = ["serve", SNAPSHOT, "--vault", VAULT, "--listen", &listen];
        let run = cli.run(&args).expect(code);
        assert!(run.stderr.contains(words), "{}", run.stderr);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
    };
    let mut server = serve(&cli, &["--listen", &listen]);
    refused(6, "another process listens");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(cli.folder().join("s").exists());
    let server = serve(&cli, &["--listen", &listen]);
    assert_eq!(server.end(Signal::SIGTERM).0, 143);
    for make in [
        |path: &Path| fs::write(path, "mine").unwrap(),
        |path: &Path| std::os::unix::fs::symlink("/nowhere", path).unwrap(),
    ] {
        let path = cli.folder().join("s");
        make(&path);
        let before = fs::symlink_metadata(&path).unwrap().modified().unwrap();
        refused(1, "is no socket of ours");
        assert_eq!(
            fs::symlink_metadata(&path).unwrap().modified().unwrap(),
            before
        );
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn serve_listens_to_no_other_machine_and_says_so_soon() {
    let cli = Cli::new();
    for (args, code, words) in [
        (
            vec![SNAPSHOT, "--listen", "0.0.0.0:10809"],
            2,
            "other machines",
        ),
        (
            vec![SNAPSHOT, "--listen", "192.168.1.1:0"],
            2,
            "other machines",
        ),
        (vec![SNAPSHOT, "--listen", "nonsense"], 2, "no address"),
        (vec![SNAPSHOT], 2, "--listen"),
        (
            vec![SNAPSHOT, "--listen", "127.0.0.1:0", "--disk", "vdz"],
            1,
            "no disk",
        ),
        (vec!["00", "--listen", "127.0.0.1:0"], 1, "no snapshot"),
    ] {
        let begun = Instant::now();
        let run = cli.run(&[&["serve", "--vault", VAULT], &args[..]].concat());
        let said = run.stderr.clone();
        run.expect(code);
        assert!(said.contains(words), "{said}");
        assert!(begun.elapsed() < LONG);
    }
}
