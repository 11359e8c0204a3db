//! The runner ssh: by a real server on the loopback, with keys and configuration of the test's own,
//! and with a program in its place that notes how it was called.

use super::place::Fleet;
use crate::cli::lab::{LONG, finish, tool};
use crate::support::host::skipped;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs it where `ssh` is the script of that name in the folder `bin`.
fn run(fleet: &Fleet, args: &[&str]) -> crate::cli::lab::Run {
    let path = std::env::var("PATH").unwrap();
    let mut command = fleet.lab.command(args);
    command.env("PATH", format!("{}:{path}", fleet.lab.at("bin")));
    finish(&mut command)
}

#[test]
fn ssh_is_called_so_that_nothing_is_asked_and_no_secret_is_seen() {
    let Some(fleet) = Fleet::new("fleet: ssh as it is called") else {
        return;
    };
    fleet.host("a").install();
    fs::create_dir(fleet.path("bin")).unwrap();
    fleet.script(
        "bin/ssh",
        "d=${0%/*}; printf '%s\\n' \"$@\" >>\"$d/words\"; while [ \"$1\" != -- ]; do shift; done\n\
         exec \"$d/../enter-in\" \"${2#*@}\" \"$3\"",
    );
    let list = fleet.list_of("x,,admin@a,,,\n");
    let all = [
        "fleet",
        "apply",
        &list,
        "--runner",
        "ssh",
        "--token-file",
        &fleet.token(),
    ];
    run(&fleet, &all).expect(0);
    let words = fs::read_to_string(fleet.path("bin/words")).unwrap();
    let words: Vec<&str> = words.lines().collect();
    for needed in ["BatchMode=yes", "ClearAllForwardings=yes", "-T"] {
        assert_eq!(
            words.iter().filter(|word| **word == needed).count(),
            3,
            "{words:?}"
        );
    }
    assert!(
        !words.iter().any(|word| word.contains("HostKeyChecking")),
        "{words:?}"
    );
    let at = words.iter().position(|word| *word == "--").unwrap();
    assert_eq!(words[at + 1], "admin@a");
    assert!(words[at + 2].starts_with("sh -c '"), "{words:?}");
    assert!(!words.concat().contains(&fleet.secret));
}

/// A server with the state and programs of a host of its own.
fn server(fleet: &Fleet, port: u16) {
    let host = fleet.host("served");
    let at = |name: &str| fleet.lab.at(&format!("ssh/{name}"));
    for key in ["host", "user"] {
        tool(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)],
        );
    }
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nUsePAM no\n\
         StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPidFile none\n",
        at("host"),
        at("user.pub")
    );
    fs::write(at("sshd_config"), config).unwrap();
    let script = "mount -t tmpfs none /run && mkdir /run/sshd && mount --bind \"$0/sbin\" \
                  /usr/local/sbin && mount --bind \"$0/state\" /mnt && exec /usr/sbin/sshd -D -e \
                  -f \"$1\"";
    let log = fs::File::create(at("log")).unwrap();
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .args([&host.folder, Path::new(&at("sshd_config"))])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    fleet.hold(child);
    let end = Instant::now() + LONG;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = fs::read_to_string(at("log")).unwrap();
        assert!(Instant::now() < end, "no server: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_real_server_is_reached_by_ssh_if_its_key_is_known() {
    const TEST: &str = "fleet: ssh, a real server";
    for program in ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"] {
        if !Path::new(program).exists() {
            return skipped(TEST, &format!("no {program}"));
        }
    }
    let Some(fleet) = Fleet::new(TEST) else {
        return;
    };
    fs::create_dir(fleet.path("ssh")).unwrap();
    fs::create_dir(fleet.path("bin")).unwrap();
    let port = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    server(&fleet, port);
    let at = |name: &str| fleet.lab.at(&format!("ssh/{name}"));
    let config = format!(
        "Port {port}\nUser root\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n\
         GlobalKnownHostsFile /dev/null\n",
        at("user"),
        at("known")
    );
    fs::write(at("config"), config).unwrap();
    let wrapper = format!("exec /usr/bin/ssh -F {} \"$@\"", at("config"));
    fleet.script("bin/ssh", &wrapper);
    let list = fleet.list_of("i-1,web,127.0.0.1,private,daily,main\n");
    let (package, token) = (fleet.package(), fleet.token());
    let all = [
        "fleet",
        "apply",
        &list,
        "--runner",
        "ssh",
        "--package",
        &package,
    ];
    let all = [&all[..], &["--token-file", &token]].concat();
    // A key that nobody has accepted is not believed.
    let unknown = run(&fleet, &all).expect(1);
    assert!(
        unknown.stdout.contains("Host key verification failed"),
        "{unknown:?}"
    );

    let key = fs::read_to_string(at("host.pub")).unwrap();
    fs::write(at("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
    let log = || fs::read_to_string(at("log")).unwrap();
    let done = run(&fleet, &all);
    assert_eq!(done.code, 0, "{done:?}\n{}", log());
    assert!(
        fleet
            .lines()
            .contains("client activate --token-file - --json")
    );
    run(&fleet, &["fleet", "status", &list, "--runner", "ssh"]).expect(0);
}
