//! Where credentials come from: the usual chain of the SDK, a profile, or a file that its owner
//! alone can read. The file is read again when the SDK asks after a minute, so that keys may be
//! replaced under a run at work.
//! It must never say what is in the file.

use super::settings::CredentialSource;
use crate::error::{Error, ErrorKind, IoContext, Result};
use aws_config::ConfigLoader;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file of credentials is no longer than this, in bytes.
const MOST: u64 = 16 << 10;
/// How long what was read is used.
const FRESH: Duration = Duration::from_secs(60);

/// Has the client sign with what the settings name.
pub(super) fn with_credentials(
    loader: ConfigLoader,
    source: &CredentialSource,
) -> Result<ConfigLoader> {
    Ok(match source {
        CredentialSource::Usual => loader,
        CredentialSource::Profile(name) => {
            let chain = aws_config::profile::ProfileFileCredentialsProvider::builder();
            loader
                .profile_name(name)
                .credentials_provider(chain.profile_name(name).build())
        }
        CredentialSource::File(path) => loader.credentials_provider(FileCredentials::open(path)?),
    })
}

/// The credentials that stand in a file.
#[derive(Debug)]
struct FileCredentials {
    path: PathBuf,
}

impl FileCredentials {
    /// The file is read at once, so that a bad one is noticed before anything is done.
    fn open(path: &Path) -> Result<Self> {
        read(path)?;
        Ok(Self { path: path.into() })
    }
}

impl ProvideCredentials for FileCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let found = read(&self.path).map_err(CredentialsError::provider_error);
        future::ProvideCredentials::ready(found)
    }
}

/// Reads the keys that stand in a file.
fn read(path: &Path) -> Result<Credentials> {
    let mut options = File::options();
    // Opening a named pipe would block without this.
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.io_context("open the credentials", path)?;
    let stat = file.metadata().io_context("look at", path)?;
    let owner = nix::unistd::geteuid().as_raw();
    if !stat.is_file() || stat.uid() != owner || stat.mode() & 0o077 != 0 {
        let what = format!("{}: others can read or change it", path.display());
        let hint = format!("chown root: {0} && chmod 0600 {0}", path.display());
        return Err(Error::new(ErrorKind::Usage, what).with_hint(hint));
    }
    let mut text = String::new();
    file.take(MOST)
        .read_to_string(&mut text)
        .io_context("read", path)?;
    parse(&text).ok_or_else(|| {
        let what = format!(
            "{}: AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is missing",
            path.display()
        );
        Error::new(ErrorKind::Usage, what).with_hint("write one NAME=value a line")
    })
}

fn parse(text: &str) -> Option<Credentials> {
    let value = |name: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (key, value) = line.split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']);
            (key.trim() == name && !value.is_empty()).then(|| value.to_owned())
        })
    };
    Some(Credentials::new(
        value("AWS_ACCESS_KEY_ID")?,
        value("AWS_SECRET_ACCESS_KEY")?,
        value("AWS_SESSION_TOKEN"),
        Some(SystemTime::now() + FRESH),
        "file",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TEXT: &str = "# of the vault\nexport AWS_ACCESS_KEY_ID=\"id\"\n\
                        AWS_SECRET_ACCESS_KEY = s=cr+t/ \nAWS_SESSION_TOKEN=\n";

    #[test]
    fn lines_of_a_shell_are_understood() {
        let found = parse(TEXT).unwrap();
        assert_eq!(found.access_key_id(), "id");
        assert_eq!(found.secret_access_key(), "s=cr+t/");
        assert_eq!(found.session_token(), None);
        assert!(parse("AWS_ACCESS_KEY_ID=id\n").is_none());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_not_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TEXT).unwrap();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), mode(0o640)).unwrap();
        let error = FileCredentials::open(file.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.hint().unwrap().contains("chmod 0600"), "{error}");
        std::fs::set_permissions(file.path(), mode(0o600)).unwrap();
        let read = FileCredentials::open(file.path()).unwrap();
        assert!(!format!("{read:?}").contains("s=cr"));
        std::fs::write(file.path(), "AWS_SECRET_ACCESS_KEY=s=cr+t\n").unwrap();
        let error = FileCredentials::open(file.path()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s=cr"), "{error:?}");
    }
}
