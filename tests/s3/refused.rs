//! What keeps a vault in S3 from being reached: each is told in one sentence with a hint and the
//! right exit code, soon, and without a secret.

use super::proxy::{Fault, Plan, Proxy};
use super::server::{KEY, SECRET, Server, environment, place};
use crate::cli::lab::{PROGRAM, Run, finish};
use std::process::{Command, Stdio};
use std::time::Duration;
use stillpoint::ErrorKind;
use stillpoint::store::{ObjectName, ObjectStore, Patience, S3Store};

/// `list` of a vault behind an endpoint, with more in its environment.
fn list(endpoint: &str, vault: &str, more: &[(&str, &str)]) -> Run {
    let mut command = Command::new(PROGRAM);
    environment(&mut command, endpoint);
    command
        .args(["list", "--json", "--vault", vault])
        .stdin(Stdio::null())
        .env("STILLPOINT_CONFIG_DIR", "/nowhere")
        .env("STILLPOINT_CACHE_DIR", "/proc/nowhere")
        .envs(more.iter().copied());
    let run = finish(&mut command);
    assert!(!format!("{run:?}").contains(SECRET), "{run:?}");
    run
}

/// The kind, the words and the hint of a refusal with this exit code.
fn refused(run: Run, code: i32) -> (String, String, String) {
    let error = run.expect(code).json()["error"].clone();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("kind"), text("message"), text("hint"))
}

#[test]
fn what_the_store_refuses_is_told_with_a_hint() {
    let server = Server::start();
    for (status, code, exit, kind, marker) in [
        (403, "AccessDenied", 5, "unsupported", "s3:GetObject"),
        (403, "InvalidAccessKeyId", 5, "unsupported", "key"),
        (400, "ExpiredToken", 5, "unsupported", "expired"),
        (403, "RequestTimeTooSkewed", 5, "unsupported", "clock"),
        (
            400,
            "AuthorizationHeaderMalformed",
            2,
            "usage",
            "AWS_REGION",
        ),
        (404, "NoSuchBucket", 1, "failed", "bucket"),
        (503, "SlowDown", 1, "io", "limits.requests"),
        (500, "InternalError", 1, "io", "later"),
    ] {
        let plan = Plan {
            seed: 0,
            percent: 100,
            faults: vec![Fault::Refused(status, code)],
        };
        let proxy = Proxy::start(&server.endpoint, plan);
        let run = list(&proxy.endpoint, "s3://bucket/vault", &[]);
        let (found, message, hint) = refused(run, exit);
        assert_eq!(found, kind, "{code}: {message}");
        assert!(hint.contains(marker), "{code}: {message}: {hint}");
        if code == "RequestTimeTooSkewed" {
            // Both clocks.
            let now = jiff::Timestamp::now().strftime("%FT").to_string();
            for time in ["2020-11-29T12:00:00Z", &now, "ahead"] {
                assert!(message.contains(time), "{message}");
            }
        }
        let tries = if exit == 1 && kind == "io" { 3 } else { 1 };
        let gets = proxy
            .seen()
            .iter()
            .filter(|one| one.method == "GET")
            .count();
        assert_eq!(gets, tries, "{code}");
    }
}

/// The first question of all has the same patience as the others.
#[test]
fn a_vault_is_made_as_patiently_as_it_is_read() {
    let server = Server::start();
    for percent in [40, 100] {
        let plan = Plan {
            seed: 3,
            percent,
            faults: vec![Fault::Refused(503, "SlowDown")],
        };
        let proxy = Proxy::start(&server.endpoint, plan);
        let mut command = Command::new(PROGRAM);
        environment(&mut command, &proxy.endpoint);
        let vault = format!("s3://bucket/made{percent}");
        command
            .args(["init", "--json", &vault])
            .env("STILLPOINT_CONFIG_DIR", "/nowhere")
            .env("STILLPOINT_CACHE_DIR", "/proc/nowhere");
        let run = finish(&mut command);
        if percent == 100 {
            let (kind, message, _) = refused(run, 1);
            assert_eq!(kind, "io");
            assert!(message.contains("tried 3 times"), "{message}");
            assert_eq!(proxy.seen().len(), 3);
        } else {
            run.expect(0);
            let first = proxy.seen()[0].path.clone();
            assert!(first.contains("list-type=2"), "{first}");
            assert!(proxy.faults() > 0);
        }
    }
}

#[test]
fn what_is_not_there_is_told_with_a_hint() {
    let server = Server::start();
    let (kind, _, hint) = refused(list(&server.endpoint, "s3://nobucket/x", &[]), 1);
    assert_eq!(kind, "failed");
    assert!(hint.contains("bucket"), "{hint}");
    let (kind, _, hint) = refused(list(&server.endpoint, "s3://bucket/novault", &[]), 1);
    assert_eq!(kind, "not_found");
    assert!(
        hint.contains("stillpoint init s3://bucket/novault"),
        "{hint}"
    );
    let wrong = list(
        &server.endpoint,
        "s3://bucket/x",
        &[("AWS_SECRET_ACCESS_KEY", "wrong")],
    );
    let (kind, _, hint) = refused(wrong, 5);
    assert_eq!(kind, "unsupported");
    assert!(hint.contains("secret"), "{hint}");
    let mut nobody = Command::new(PROGRAM);
    environment(&mut nobody, &server.endpoint);
    nobody
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    nobody.args(["list", "--json", "--vault", "s3://bucket/x"]);
    let (kind, _, hint) = refused(finish(&mut nobody), 5);
    assert_eq!(kind, "unsupported");
    assert!(hint.contains("AWS_ACCESS_KEY_ID"), "{hint}");
}

#[test]
fn an_endpoint_that_is_not_there_is_told_with_a_hint() {
    let (kind, _, hint) = refused(list("http://127.0.0.1:1", "s3://bucket/x", &[]), 1);
    assert_eq!(kind, "io");
    assert!(hint.contains("reach"), "{hint}");
    let (kind, _, hint) = refused(list("http://no-such-host.invalid", "s3://bucket/x", &[]), 1);
    assert_eq!(kind, "io");
    assert!(hint.contains("name server"), "{hint}");
    let server = Server::start();
    let tls = server.endpoint.replace("http://", "https://");
    let (kind, message, hint) = refused(list(&tls, "s3://bucket/x", &[]), 2);
    assert_eq!(kind, "usage", "{message}");
    assert!(hint.contains("http://"), "{hint}");
    let (kind, message, _) = refused(list("nonsense", "s3://bucket/x", &[]), 2);
    assert_eq!(kind, "usage", "{message}");
}

#[test]
fn an_endpoint_that_hangs_is_left() {
    let server = Server::start();
    let plan = Plan {
        seed: 0,
        percent: 100,
        faults: vec![Fault::Silence],
    };
    let proxy = Proxy::start(&server.endpoint, plan);
    let mut place = place(&proxy.endpoint, &server.credentials(), "vault");
    let soon = Duration::from_millis(50);
    place.settings.patience = Patience {
        connect: soon,
        stalled: soon,
        answer: soon,
    };
    let store = S3Store::open(place).unwrap();
    let error = store.get(&ObjectName::vault_info(), 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.hint().unwrap().contains("reach"), "{error}");
    assert_eq!(error.operation(), Some("get"));
    assert_eq!(
        error.path().unwrap().to_str(),
        Some("s3://bucket/vault/vault.json")
    );
    assert!(!format!("{error:?}").contains(SECRET) && !format!("{error:?}").contains(KEY));
}

/// A server that speaks TLS with a certificate of its own.
struct Tls {
    child: std::process::Child,
    folder: tempfile::TempDir,
    endpoint: String,
}

impl Tls {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (key, certificate) = (at("key.pem"), at("certificate.pem"));
        let make = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ];
        crate::support::host::run("openssl", &make);
        // A port that is free now; nobody else here asks for this one.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &address])
            .args(["-key", &key, "-cert", &certificate])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = child;
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "openssl has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self {
            child,
            folder,
            endpoint: format!("https://{address}"),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_certificate_is_trusted_when_its_file_is_named() {
    let server = Tls::start();
    let (kind, message, hint) = refused(list(&server.endpoint, "s3://bucket/x", &[]), 5);
    assert_eq!(kind, "unsupported", "{message}");
    assert!(hint.contains("ca_file"), "{hint}");
    let credentials = super::server::credentials(server.folder.path());
    let mut place = place(&server.endpoint, &credentials, "vault");
    place.settings.ca_file = Some(server.folder.path().join("certificate.pem"));
    let store = S3Store::open(place).unwrap();
    // It answers with a page of its own, which is no object: TLS works.
    let page = store.get(&ObjectName::vault_info(), 1 << 20);
    let is_page = |page: &stillpoint::store::Blob| page.windows(5).any(|part| part == b"<HTML");
    match page {
        Ok(page) => assert!(is_page(&page), "{page:?}"),
        Err(error) => assert!(error.to_string().contains("no length"), "{error}"),
    }
}
