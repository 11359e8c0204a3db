//! `serve`: what it says when it listens and when it ends, and where it does not listen.

use super::lab::{LONG, code_of, tool, wait};
use super::schema;
use crate::export::authority::{Authority, Good};
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
    let (inside, port) = (format!("unix:{VAULT}/x"), "127.0.0.1:0");
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
        (vec![SNAPSHOT, "--listen", &inside], 2, "inside the vault"),
        (
            vec![SNAPSHOT, "--listen", port, "--overlay", "o"],
            2,
            "several",
        ),
        (
            vec![
                SNAPSHOT,
                "--listen",
                port,
                "--disk",
                "vda",
                "--overlay",
                &inside[5..],
            ],
            2,
            "inside the vault",
        ),
    ] {
        let begun = Instant::now();
        let run = cli.run(&[&["serve", "--vault", VAULT], &args[..]].concat());
        let said = run.stderr.clone();
        run.expect(code);
        assert!(said.contains(words), "{said}");
        assert!(begun.elapsed() < LONG);
    }
}

#[test]
fn serve_listens_to_other_machines_by_tls_alone_and_says_who_can_connect() {
    let cli = Cli::new();
    let authority = Authority::new();
    let ours = authority.folder_of("ours", "server", Good::Now);
    let theirs = authority.folder_of("theirs", "client", Good::Now);
    let with = ["--tls-certificates", ours.to_str().unwrap()];
    let all = [&["--listen", "0.0.0.0:0", "--disk", "vda"], &with[..]].concat();
    let server = serve(&cli, &[&all[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&server.first).unwrap();
    schema::check_printed(&cli.run(&["schema", "serve"]).stdout, &document);
    for key in ["tls", "open_to_network", "open_to_host"] {
        assert_eq!(document[key], true, "{key}: {document}");
    }
    let uri = document["disks"][0]["uri"].as_str().unwrap();
    let port = document["listen"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1;
    let rest = format!(":{port}/vda");
    assert!(uri.starts_with("nbds://") && uri.ends_with(&rest), "{uri}");
    let uri = format!(
        "nbds://localhost{rest}?tls-certificates={}",
        theirs.display()
    );
    let size = tool("nbdinfo", &["--size", &uri]);
    assert_eq!(size.trim(), document["disks"][0]["size_bytes"].to_string());
    assert_eq!(server.end(Signal::SIGTERM), (143, String::new()));
    let server = serve(&cli, &all);
    assert!(
        server.first.contains("nbdinfo 'nbds://"),
        "{}",
        server.first
    );
    let (_, rest) = server.end(Signal::SIGTERM);
    let words = "every machine that reaches this one can connect, and read it all, with a";
    assert!(rest.contains(words), "{rest}");
    // Nothing is served with what is not right, and it is said before anything is read.
    let none = cli.folder().join("none");
    for (folder, code, words) in [(&none, 1, "ca-cert.pem"), (&theirs, 1, "server-cert.pem")] {
        let args = [
            "serve",
            SNAPSHOT,
            "--vault",
            VAULT,
            "--listen",
            "127.0.0.1:0",
        ];
        let with = ["--tls-certificates", folder.to_str().unwrap()];
        let run = cli.run(&[&args[..], &with].concat()).expect(code);
        assert!(run.stderr.contains(words), "{}", run.stderr);
        assert!(run.stdout.is_empty());
    }
}

#[test]
fn serve_lets_clients_write_to_an_overlay_and_a_kill_loses_nothing_that_was_flushed() {
    let cli = Cli::new();
    let overlay = cli.folder().join("o");
    let listen = socket(&cli);
    let args = [
        "--listen",
        &listen,
        "--disk",
        "vda",
        "--overlay",
        overlay.to_str().unwrap(),
    ];
    let mut server = serve(&cli, &[&args[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&server.first).unwrap();
    schema::check_printed(&cli.run(&["schema", "serve"]).stdout, &document);
    assert_eq!(document["read_only"], false);
    assert_eq!(document["overlay"], overlay.to_str().unwrap());
    let uri = document["disks"][0]["uri"].as_str().unwrap();
    let io = |command: &str| {
        let args = ["-f", "raw", "-c", command, "-c", "flush", uri];
        let output = std::process::Command::new("qemu-io").args(args).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(io("write -P 5 64k 4k").contains("4096/4096"));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let server = serve(&cli, &args);
    assert!(server.first.contains("writable"), "{}", server.first);
    assert!(io("read -P 5 64k 4k").contains("4096/4096"));
    assert!(!io("read -P 5 64k 4k").contains("verification failed"));
    assert!(io("read -P 6 64k 4k").contains("verification failed"));
    let (code, rest) = server.end(Signal::SIGTERM);
    assert_eq!(code, 143);
    assert!(rest.contains("what is written goes to"), "{rest}");
    // Of another disk.
    let others = [&["serve", SNAPSHOT, "--vault", VAULT], &args[..]].concat();
    let others = others.into_iter().map(|arg| match arg {
        "vda" => "vdb",
        other => other,
    });
    let refused = cli.run(&others.collect::<Vec<_>>()).expect(1);
    let said = &refused.stderr;
    assert!(said.contains("is an overlay of vda"), "{said}");
}

#[test]
fn serve_makes_no_socket_where_others_could_take_its_place() {
    use std::os::unix::fs::PermissionsExt;
    let cli = Cli::new();
    let open = cli.folder().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let listen = format!("unix:{}/s", open.display());
    let args = ["serve", SNAPSHOT, "--vault", VAULT, "--listen", &listen];
    let run = cli.run(&args).expect(2);
    assert!(run.stderr.contains("others can change"), "{}", run.stderr);
    // As /tmp is.
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    let server = serve(&cli, &["--listen", &listen]);
    assert_eq!(server.end(Signal::SIGTERM).0, 143);
}
