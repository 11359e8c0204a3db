//! What a server proves itself with, and whom it lets in: certificates in a folder, under the names
//! that nbdkit, QEMU and libnbd give them. All of TLS is `rustls`. A client without a certificate
//! of the CA must never get further than the handshake.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::plain;
use crate::sys::secret::dump_nothing;
use nix::fcntl::OFlag;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig, ServerConnection};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

const CA: &str = "ca-cert.pem";
const CERTIFICATE: &str = "server-cert.pem";
const KEY: &str = "server-key.pem";
/// It need not be there.
const REVOKED: &str = "ca-crl.pem";
/// The longest of these files.
const MOST: u64 = 1 << 20;

/// What a server proves itself with, and whom it lets in.
#[derive(Clone, Debug)]
pub struct ServerCertificates(Arc<ServerConfig>);

impl ServerCertificates {
    /// Those in a folder: `ca-cert.pem`, `server-cert.pem`, `server-key.pem`, and `ca-crl.pem` if
    /// it is there.
    ///
    /// # Errors
    /// `NotFound`: one is missing. `Usage`: one is not what it should be, others can read the key
    /// or change what is believed, or the server's certificate is of another time.
    pub fn read(folder: &Path) -> Result<Self> {
        dump_nothing();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pems = PemFolder(folder);
        let (roots, chain) = (pems.roots()?, pems.certificates(CERTIFICATE)?);
        refuse_other_times(&pems.path(CERTIFICATE), &chain, &roots, &provider)?;
        let wrong = |name: &str, error: rustls::Error| pems.wrong(name, &error.to_string());
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .with_crls(pems.revoked()?)
            .build()
            .map_err(|error| pems.wrong(CA, &error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(CERTIFICATE, error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, pems.key()?)
            .map_err(|error| wrong(KEY, error))?;
        // Nobody comes back by what was agreed on before: each one's certificate is looked at.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }

    /// What talks with one client; `None`: it cannot be made.
    pub(super) fn begin(&self) -> Option<ServerConnection> {
        ServerConnection::new(Arc::clone(&self.0)).ok()
    }
}

/// A folder of such files.
struct PemFolder<'a>(&'a Path);

impl PemFolder<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn wrong(&self, name: &str, why: &str) -> Error {
        let what = format!("{}: {why}", self.path(name).display());
        let hint = format!("--tls-certificates names a folder with {CA}, {CERTIFICATE} and {KEY}");
        Error::new(ErrorKind::Usage, what).with_hint(hint)
    }

    /// The bytes of a file that nobody but root and its owner can change.
    fn read(&self, name: &str, forbidden: u32) -> Result<Zeroizing<Vec<u8>>> {
        let path = self.path(name);
        let file = plain::open(&path, OFlag::O_RDONLY).map_err(|error| {
            let hint = format!(
                "--tls-certificates names a folder with {CA}, {CERTIFICATE} and {KEY} themselves, \
                 not links to them; nobody was served"
            );
            Error::io("open", &path, error).with_hint(hint)
        })?;
        let found = file.metadata().io_context("look at", &path)?;
        let owners = [0, nix::unistd::geteuid().as_raw()];
        if !owners.contains(&found.uid()) || found.mode() & forbidden != 0 {
            let can = if forbidden & 0o044 == 0 {
                "change"
            } else {
                "read"
            };
            let shown = path.display();
            let what = format!("{shown}: others can {can} it");
            let hint = format!("chown root: {shown} && chmod go= {shown}");
            return Err(Error::new(ErrorKind::Usage, what).with_hint(hint));
        }
        self.all_of(name, &file)
    }

    fn all_of(&self, name: &str, file: &File) -> Result<Zeroizing<Vec<u8>>> {
        // At once as long as it may be: what is moved leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
        let read = file.take(MOST + 1).read_to_end(&mut bytes);
        read.io_context("read", &self.path(name))?;
        match bytes.len() as u64 > MOST {
            false => Ok(bytes),
            true => Err(self.wrong(name, "it is longer than 1 MiB")),
        }
    }

    fn certificates(&self, name: &str) -> Result<Vec<CertificateDer<'static>>> {
        let bytes = self.read(name, 0o022)?;
        let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let all = all.map_err(|error| self.wrong(name, &error.to_string()))?;
        match all.is_empty() {
            false => Ok(all),
            true => Err(self.wrong(name, "it holds no certificate")),
        }
    }

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        for root in self.certificates(CA)? {
            let added = roots.add(root);
            added.map_err(|error| self.wrong(CA, &error.to_string()))?;
        }
        Ok(Arc::new(roots))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        let bytes = self.read(KEY, 0o077)?;
        PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|_| self.wrong(KEY, "it holds no key that can be used without a password"))
    }

    /// Whom the CA does not vouch for any more.
    fn revoked(&self) -> Result<Vec<CertificateRevocationListDer<'static>>> {
        let bytes = match self.read(REVOKED, 0o022) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let all = CertificateRevocationListDer::pem_slice_iter(&bytes);
        let all: std::result::Result<Vec<_>, _> = all.collect();
        match all {
            Ok(all) if !all.is_empty() => Ok(all),
            _ => Err(self.wrong(REVOKED, "it holds no list of what was revoked")),
        }
    }
}

/// Refuses a certificate that no client would take now. Who has signed it is the clients' affair.
fn refuse_other_times(
    path: &Path,
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<()> {
    let (Some((own, others)), Ok(anybody)) =
        (chain.split_first(), ServerName::try_from("localhost"))
    else {
        return Ok(());
    };
    let (roots, provider) = (Arc::clone(roots), Arc::clone(provider));
    let Ok(client) = WebPkiServerVerifier::builder_with_provider(roots, provider).build() else {
        return Ok(());
    };
    let judged = client.verify_server_cert(own, others, &anybody, &[], UnixTime::now());
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let why = match judged {
        Err(rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
            "the certificate has expired"
        }
        Err(rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
            "the certificate is not valid yet"
        }
        _ => return Ok(()),
    };
    let what = format!("{}: {why}: no client would take it", path.display());
    let hint = "have the CA make a new one; is this host's clock right?";
    Err(Error::new(ErrorKind::Usage, what).with_hint(hint))
}
