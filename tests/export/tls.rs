//! Served by TLS: to libnbd's and QEMU's clients that have a certificate of the CA, and to nobody
//! else.

use super::authority::{Authority, Good};
use super::image::{SIZE, Stage};
use super::server::Served;
use super::wire::{ACK, Client, REFUSED, text};
use crate::support::host::{attempt, run as tool};
use crate::support::model::Chance;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillpoint::ErrorKind;
use stillpoint::export::{ListenAddress, NbdLimits, ServerCertificates};

const STARTTLS: u32 = 5;
const TLS_REQUIRED: u32 = REFUSED | 5;
const HASTY: NbdLimits = NbdLimits {
    clients: 16,
    handshake: Duration::from_secs(2),
    arrival: Duration::from_secs(2),
};

struct Secured {
    stage: Stage,
    authority: Authority,
    server: PathBuf,
    client: PathBuf,
}

impl Secured {
    fn new() -> Self {
        let authority = Authority::new();
        Self {
            stage: Stage::new(),
            server: authority.folder_of("server", "server", Good::Now),
            client: authority.folder_of("client", "client", Good::Now),
            authority,
        }
    }

    /// Serves at a Unix socket, or there.
    fn serve(&self, listen: Option<&str>, limits: NbdLimits) -> Served {
        let certificates = ServerCertificates::read(&self.server).unwrap();
        let disks = vec![("vda", self.stage.image()), ("vdb", self.stage.image())];
        Served::secured(disks, listen, limits, certificates)
    }
}

fn port(served: &Served) -> u16 {
    match served.address {
        ListenAddress::Loopback(at) | ListenAddress::Network(at) => at.port(),
        ListenAddress::Unix(_) => panic!("no port"),
    }
}

fn uri(served: &Served, certificates: &Path) -> String {
    let (port, folder) = (port(served), certificates.display());
    format!("nbds://localhost:{port}/vdb?tls-certificates={folder}")
}

/// What libnbd says that the size is; `None`: it was not let in.
fn size_for(served: &Served, certificates: &Path) -> Option<u64> {
    let output = attempt("nbdinfo", &["--size", &uri(served, certificates)]);
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then(|| said.parse().unwrap())
}

#[test]
fn every_client_with_a_certificate_reads_what_restoring_gives() {
    let secured = Secured::new();
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let served = secured.serve(Some(listen), NbdLimits::default());
        let uri = uri(&served, &secured.client);
        let copied = served.folder.path().join("copied");
        for connections in ["--connections=1", "--connections=4"] {
            tool("nbdcopy", &[connections, &uri, copied.to_str().unwrap()]);
            assert!(fs::read(&copied).unwrap() == secured.stage.truth, "nbdcopy");
        }
        let info = tool("nbdinfo", &["--json", &uri]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["exports"][0]["export-size"], SIZE);
        assert_eq!(info["TLS"], true, "{info}");
        assert_eq!(info["structured"], true, "{info}");
        let (dir, port) = (secured.client.display(), port(&served));
        let with = format!("tls-creds-x509,id=t,endpoint=client,dir={dir}");
        let disk = format!("driver=nbd,host=localhost,port={port},export=vda,tls-creds=t");
        let by_qemu = served.folder.path().join("by-qemu");
        let to = ["-O", "raw", by_qemu.to_str().unwrap()];
        let from = ["convert", "--object", &with, "--image-opts", &disk];
        tool("qemu-img", &[&from[..], &to].concat());
        assert!(fs::read(&by_qemu).unwrap() == secured.stage.truth, "QEMU");
    }
}

#[test]
fn nobody_else_is_let_in_and_it_is_told_why() {
    let secured = Secured::new();
    let authority = &secured.authority;
    let mut served = secured.serve(Some("127.0.0.1:0"), NbdLimits::default());
    // Signed by somebody else, who believes this CA.
    let others = Authority::new();
    let stranger = others.folder_of("stranger", "client", Good::Now);
    fs::copy(authority.own(), stranger.join("ca-cert.pem")).unwrap();
    // With a certificate of the CA, believing another one.
    let deceived = authority.folder_of("deceived", "client", Good::Now);
    fs::copy(others.own(), deceived.join("ca-cert.pem")).unwrap();
    let expired = authority.folder_of("expired", "client", Good::LongAgo);
    let early = authority.folder_of("early", "client", Good::InFarFuture);
    let nobody = authority.folder_of("nobody", "client", Good::Now);
    for file in ["client-cert.pem", "client-key.pem"] {
        fs::remove_file(nobody.join(file)).unwrap();
    }
    for folder in [&stranger, &deceived, &expired, &early, &nobody] {
        assert_eq!(size_for(&served, folder), None, "{}", folder.display());
    }
    // Who never asks for TLS.
    let plain = format!("nbd://localhost:{}/vda", port(&served));
    let output = attempt("nbdinfo", &["--size", &plain]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let output = attempt("qemu-img", &["info", &plain]);
    assert!(!output.status.success(), "QEMU without TLS");
    assert_eq!(size_for(&served, &secured.client), Some(SIZE));
    served.end();
    let troubles = served.troubles.lock().unwrap().join("\n");
    for words in [
        "is not one of this CA",
        "has expired",
        "is not valid yet",
        "has shown no certificate",
    ] {
        assert!(troubles.contains(words), "{words}: {troubles}");
    }
}

#[test]
fn a_certificate_that_was_taken_back_is_none() {
    let secured = Secured::new();
    let thief = secured.authority.folder_of("thief", "client", Good::Now);
    let served = secured.serve(Some("127.0.0.1:0"), NbdLimits::default());
    assert_eq!(size_for(&served, &thief), Some(SIZE));
    drop(served);
    secured.authority.revoke(&thief, &secured.server);
    let mut served = secured.serve(Some("127.0.0.1:0"), NbdLimits::default());
    assert_eq!(size_for(&served, &thief), None);
    assert_eq!(size_for(&served, &secured.client), Some(SIZE));
    served.end();
    let troubles = served.troubles.lock().unwrap().join("\n");
    assert!(troubles.contains("was revoked"), "{troubles}");
}

#[test]
fn before_tls_nothing_is_told_of_what_is_served() {
    let secured = Secured::new();
    let served = secured.serve(None, HASTY);
    let mut client = Client::connect(&served);
    let go = [&text(b"vda")[..], &[0, 0]].concat();
    for (option, data) in [
        (3, vec![]),
        (6, go.clone()),
        (7, go),
        (8, vec![]),
        (9, vec![]),
        (10, vec![]),
        (11, vec![]),
        (99, vec![1; 500]),
    ] {
        let replies = client.ask(option, &data);
        assert_eq!(replies.len(), 1, "{option}: {replies:?}");
        assert_eq!(replies[0].0, TLS_REQUIRED, "{option}");
        assert!(!String::from_utf8_lossy(&replies[0].1).contains("vd"));
    }
    assert_eq!(client.ask(STARTTLS, b"x")[0].0, REFUSED | 3);
    assert_eq!(client.ask(STARTTLS, b"")[0].0, ACK);
    client.say(b"GET / HTTP/1.1\r\n\r\n");
    assert!(client.is_over());
    // An answer that says no does not exist: the connection ends.
    let mut client = Client::connect(&served);
    client.option(1, b"vda");
    assert!(client.is_over());
    // Where there is no TLS, it is refused, and the client may go on without.
    let plain = Served::new(vec![("vda", secured.stage.image())]);
    let mut client = Client::connect(&plain);
    assert_eq!(client.ask(STARTTLS, b"")[0].0, REFUSED | 1);
    assert_eq!(client.ask(3, b"").last().unwrap().0, ACK);
}

#[test]
fn handshakes_that_hang_or_are_rubbish_cost_only_who_sends_them() {
    let secured = Secured::new();
    let served = secured.serve(Some("127.0.0.1:0"), HASTY);
    let begin = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port(&served))).unwrap();
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).unwrap();
        stream.read_exact(&mut [0; 18]).unwrap();
        let said = [&[0, 0, 0, 3][..], b"IHAVEOPT", &[0, 0, 0, 5, 0, 0, 0, 0]].concat();
        stream.write_all(&said).unwrap();
        stream.read_exact(&mut [0; 20]).unwrap();
        stream
    };
    // A hello that begins, and does not go on.
    let mut hanging: Vec<TcpStream> = (0..4).map(|_| begin()).collect();
    for stream in &mut hanging {
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    }
    let mut chance = Chance(3);
    for _ in 0..40 {
        let mut stream = begin();
        let mut rubbish: Vec<u8> = (0..chance.below(3000))
            .map(|_| chance.next() as u8)
            .collect();
        if chance.below(2) == 0 && rubbish.len() > 5 {
            // A record's head that is right.
            rubbish[..3].copy_from_slice(&[0x16, 3, 1 + chance.below(3) as u8]);
            rubbish[3] = chance.below(4) as u8;
        }
        let _ = stream.write_all(&rubbish);
    }
    assert_eq!(size_for(&served, &secured.client), Some(SIZE));
    for mut stream in hanging {
        let mut rest = Vec::new();
        // It may be told why; then it is over.
        let ended = stream.read_to_end(&mut rest);
        let is_reset = |kind| kind == std::io::ErrorKind::ConnectionReset;
        assert!(ended.is_ok() || is_reset(ended.unwrap_err().kind()));
    }
    assert_eq!(size_for(&served, &secured.client), Some(SIZE));
}

#[test]
fn certificates_that_are_not_right_are_refused_before_anybody_is_served() {
    let authority = Authority::new();
    let refused = |folder: &Path, words: &str| {
        let error = ServerCertificates::read(folder).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(error.hint().is_some(), "{error}");
        error.kind()
    };
    let good = authority.folder_of("good", "server", Good::Now);
    assert!(ServerCertificates::read(&good).is_ok());
    let old = authority.folder_of("old", "server", Good::LongAgo);
    assert_eq!(refused(&old, "has expired"), ErrorKind::Usage);
    let early = authority.folder_of("early", "server", Good::InFarFuture);
    assert_eq!(refused(&early, "not valid yet"), ErrorKind::Usage);
    let key = good.join("server-key.pem");
    for mode in [0o640, 0o604, 0o622] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        assert_eq!(refused(&good, "others can read it"), ErrorKind::Usage);
    }
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let ca = good.join("ca-cert.pem");
    fs::set_permissions(&ca, Permissions::from_mode(0o646)).unwrap();
    assert_eq!(refused(&good, "others can change it"), ErrorKind::Usage);
    fs::set_permissions(&ca, Permissions::from_mode(0o644)).unwrap();
    assert!(ServerCertificates::read(&good).is_ok());
    // A key of another certificate.
    let own = fs::read(&key).unwrap();
    fs::copy(old.join("server-key.pem"), &key).unwrap();
    assert_eq!(refused(&good, "server-key.pem"), ErrorKind::Usage);
    for (file, text, words) in [
        ("server-key.pem", "nonsense", "holds no key"),
        ("server-cert.pem", "nonsense", "holds no certificate"),
        ("ca-cert.pem", "", "holds no certificate"),
        ("ca-crl.pem", "nonsense", "holds no list"),
    ] {
        let path = good.join(file);
        let before = fs::read(&path).unwrap_or_default();
        fs::write(&path, text).unwrap();
        assert_eq!(refused(&good, words), ErrorKind::Usage);
        fs::write(&path, before).unwrap();
    }
    fs::remove_file(good.join("ca-crl.pem")).unwrap();
    fs::write(&key, own).unwrap();
    assert!(ServerCertificates::read(&good).is_ok());
    fs::write(good.join("ca-crl.pem"), vec![b'x'; (1 << 20) + 1]).unwrap();
    assert_eq!(refused(&good, "longer than 1 MiB"), ErrorKind::Usage);
    fs::remove_file(good.join("ca-crl.pem")).unwrap();
    fs::remove_file(&key).unwrap();
    assert_eq!(refused(&good, "server-key.pem"), ErrorKind::NotFound);
}
