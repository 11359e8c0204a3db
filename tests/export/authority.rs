//! A certificate authority of a test's own, made by `openssl`, and folders of what it signs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const CONFIGURATION: &str = "\
[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nserial=serial\n\
crlnumber=crlnumber\ndefault_md=sha256\npolicy=p\ndefault_crl_days=36500\nunique_subject=no\n\
[p]\ncommonName=supplied\n[req]\ndistinguished_name=n\nx509_extensions=c\n[n]\n[c]\n\
basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n\
keyUsage=critical,keyCertSign,cRLSign\n";
const EXTENSIONS: &str = "\
subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n\
basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n";

/// When a certificate is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Good {
    Now,
    LongAgo,
    InFarFuture,
}

/// A certificate authority, and a folder for each whom it knows.
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca.cnf", CONFIGURATION),
            ("ext.cnf", EXTENSIONS),
            ("index.txt", ""),
            ("serial", "01\n"),
            ("crlnumber", "01\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let made = Self { folder };
        let key = made.new_key("ca-key.pem");
        let own = ["-x509", "-out", "ca-cert.pem", "-days", "36500"];
        made.openssl(&[&["req", "-subj", "/CN=ca"], &own[..], &key].concat());
        made
    }

    fn new_key<'a>(&self, path: &'a str) -> [&'a str; 8] {
        let curve = "ec_paramgen_curve:prime256v1";
        let (config, new) = ("ca.cnf", "-newkey");
        [
            "-config", config, new, "ec", "-pkeyopt", curve, "-keyout", path,
        ]
    }

    #[track_caller]
    fn openssl(&self, args: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(self.folder.path());
        if args[0] == "req" {
            command.arg("-nodes");
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args:?}: {said}");
    }

    fn sign(&self, args: &[&str]) {
        let with = [
            "-config",
            "ca.cnf",
            "-cert",
            "ca-cert.pem",
            "-keyfile",
            "ca-key.pem",
        ];
        self.openssl(&[&["ca"], &with[..], args].concat());
    }

    /// A folder with a certificate for this side (`server`, `client`), its key, and the CA's.
    pub fn folder_of(&self, name: &str, side: &str, good: Good) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let path = |file: &str| format!("{name}/{side}-{file}.pem");
        let (key, request, cert) = (path("key"), path("request"), path("cert"));
        let subject = format!("/CN={name}");
        let wanted = ["req", "-subj", &subject, "-out", &request];
        self.openssl(&[&wanted[..], &self.new_key(&key)].concat());
        let times: &[&str] = match good {
            Good::Now => &["-days", "36000"],
            Good::LongAgo => &[
                "-startdate",
                "20200101000000Z",
                "-enddate",
                "20200201000000Z",
            ],
            Good::InFarFuture => &[
                "-startdate",
                "29990101000000Z",
                "-enddate",
                "29990201000000Z",
            ],
        };
        let files = [
            "-batch", "-notext", "-extfile", "ext.cnf", "-in", &request, "-out", &cert,
        ];
        self.sign(&[&files[..], times].concat());
        fs::copy(self.own(), folder.join("ca-cert.pem")).unwrap();
        for (file, mode) in [
            (cert, 0o644),
            (path("key"), 0o600),
            (format!("{name}/ca-cert.pem"), 0o644),
        ] {
            let file = self.folder.path().join(file);
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    /// Its own certificate.
    pub fn own(&self) -> PathBuf {
        self.folder.path().join("ca-cert.pem")
    }

    /// Takes a client's certificate back, and tells the server of that folder.
    pub fn revoke(&self, client: &Path, server: &Path) {
        let cert = client.join("client-cert.pem");
        self.sign(&["-revoke", cert.to_str().unwrap()]);
        self.list_revoked(server);
    }

    /// Writes which certificates were taken back into a server's folder.
    pub fn list_revoked(&self, server: &Path) {
        let list = server.join("ca-crl.pem");
        self.sign(&["-gencrl", "-out", list.to_str().unwrap()]);
    }
}
