//! What opens doors, read from files that root alone can read. It must never stand in an error, nor
//! be waited for.

use crate::config::{SecretUrl, WebAddress};
use crate::sys::plain;
use crate::sys::secret::dump_nothing;
use nix::fcntl::OFlag;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The longest file, in bytes.
const MOST: u64 = 4096;
/// A secret that is shorter is none.
const LEAST: usize = 16;

/// The secret by which a webhook's receiver knows who speaks.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl WebhookSecret {
    /// One that was given.
    ///
    /// # Errors
    /// It is too short.
    pub fn new(bytes: Vec<u8>) -> std::result::Result<Self, String> {
        dump_nothing();
        let bytes = Zeroizing::new(bytes);
        match bytes.len() < LEAST {
            true => Err(format!("the secret is shorter than {LEAST} bytes")),
            false => Ok(Self(bytes)),
        }
    }

    /// The one in a file; white space around it is none of it.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or it is too short.
    pub fn read(path: &Path) -> std::result::Result<Self, String> {
        let text = read_private(path)?;
        Self::new(text.trim().as_bytes().to_vec())
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The address that is meant.
///
/// # Errors
/// Its file cannot be read, others can read it, or it holds none.
pub(super) fn resolve(address: &WebAddress) -> std::result::Result<SecretUrl, String> {
    match address {
        WebAddress::Url(url) => Ok(url.clone()),
        WebAddress::File(path) => {
            let text = read_private(path)?;
            SecretUrl::parse(text.trim()).map_err(|why| format!("{}: {why}", path.display()))
        }
    }
}

fn read_private(path: &Path) -> std::result::Result<Zeroizing<String>, String> {
    dump_nothing();
    let shown = path.display();
    let fault = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let file = plain::open(path, OFlag::O_RDONLY).map_err(fault)?;
    let found = file.metadata().map_err(fault)?;
    let owner = nix::unistd::geteuid().as_raw();
    if found.uid() != owner || found.mode() & 0o077 != 0 {
        return Err(format!(
            "{shown}: others can read it: chown root: {shown} && chmod 0600 {shown}"
        ));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MOST {
        return Err(format!("{shown} is longer than {MOST} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{shown} is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_read_where_root_alone_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "sixteen bytes or more\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let secret = WebhookSecret::read(&path).unwrap();
        assert_eq!(secret.bytes(), b"sixteen bytes or more");
        assert!(!format!("{secret:?}").contains("sixteen"));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let why = WebhookSecret::read(&path).unwrap_err();
        assert!(why.contains("chmod 0600"), "{why}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for text in ["t0ken", &"x".repeat(5000)] {
            fs::write(&path, text).unwrap();
            let why = WebhookSecret::read(&path).unwrap_err();
            assert!(!why.contains(text), "{why}");
        }
        fs::write(&path, "https://h/t0ken\n").unwrap();
        let url = resolve(&WebAddress::File(path.clone())).unwrap();
        assert_eq!(url.reveal(), "https://h/t0ken");
        fs::write(&path, "t0ken").unwrap();
        let why = resolve(&WebAddress::File(path)).unwrap_err();
        assert!(!why.contains("t0ken"), "{why}");
    }
}
