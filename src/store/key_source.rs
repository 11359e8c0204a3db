//! Where the passphrase or key of an encrypted vault comes from: a file that its user alone can
//! read, a command, or whoever sits at the terminal. It must never be quoted, nor come from the
//! environment or the command line, which others can read.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::secret::{MOST_SECRET, SecretBytes, dump_nothing};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Asks whoever is there; is told of which vault. `None`: nobody is there.
pub type AskForKey = fn(&str) -> Result<Option<SecretBytes>>;

/// Where a passphrase or key comes from.
#[derive(Clone, Default)]
pub enum KeySource {
    /// From nowhere.
    #[default]
    Nobody,
    /// None is wanted: an encrypted vault is copied as it is.
    NotWanted,
    /// It stands in a file.
    File(PathBuf),
    /// A command of the shell writes it.
    Command(String),
    /// It is known.
    Given(Arc<SecretBytes>),
    /// Who is there is asked.
    Ask(AskForKey),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("Nobody"),
            Self::NotWanted => f.write_str("NotWanted"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // There may be secrets in it.
            Self::Command(_) => f.write_str("Command"),
            Self::Given(_) => f.write_str("Given"),
            Self::Ask(_) => f.write_str("Ask"),
        }
    }
}

impl KeySource {
    /// Whether its user has said that there is a key.
    pub fn is_named(&self) -> bool {
        matches!(self, Self::File(_) | Self::Command(_) | Self::Given(_))
    }

    /// The passphrase or key for the vault at `place`, without the end of its line; `None`: there
    /// is none. Nothing of this process is dumped from here on.
    pub fn read(&self, place: &str) -> Result<Option<Arc<SecretBytes>>> {
        dump_nothing();
        let secret = match self {
            Self::Nobody | Self::NotWanted => return Ok(None),
            Self::Given(secret) => return Ok(Some(Arc::clone(secret))),
            Self::File(path) => read_file(path)?,
            Self::Command(line) => ask_command(line)?,
            Self::Ask(ask) => match ask(place)? {
                None => return Ok(None),
                Some(secret) => secret,
            },
        };
        if secret.bytes().is_empty() {
            return Err(refused("the passphrase or key is empty"));
        }
        Ok(Some(Arc::new(secret)))
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::Usage, what)
}

fn read_file(path: &Path) -> Result<SecretBytes> {
    let mut options = File::options();
    // Opening a named pipe would block without this.
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = opened
        .io_context("open the key", path)
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_kind(ErrorKind::Unsupported).with_hint(
                "is what it is kept on mounted? --password-file names another; without any key \
                 nobody reads the vault",
            ),
            _ => error,
        })?;
    let stat = file.metadata().io_context("look at", path)?;
    let owner = nix::unistd::geteuid().as_raw();
    if !stat.is_file() || stat.uid() != owner || stat.mode() & 0o077 != 0 {
        let what = format!("{}: others can read or change it", path.display());
        let hint = format!(
            "chown root: {0} && chmod 0600 {0}; where its filesystem has no such modes, or is \
             read-only, copy it: install -m 600 {0} /root/",
            path.display()
        );
        return Err(Error::new(ErrorKind::Usage, what).with_hint(hint));
    }
    read_line(&mut file, &|error| Error::io("read", path, error))
}

/// What `from` says, without the end of its last line.
fn read_line(from: &mut dyn Read, failed: &dyn Fn(std::io::Error) -> Error) -> Result<SecretBytes> {
    let mut length = 0;
    let mut secret = SecretBytes::made(MOST_SECRET, |room| {
        let got = fill(from, room).map_err(failed)?;
        // Of the longest one the end of its line may stand beyond.
        let mut beyond = [0; 2];
        let beyond = match got == room.len() {
            true => {
                let more = fill(from, &mut beyond).map_err(failed)?;
                &beyond[..more]
            }
            false => &[],
        };
        length = match (&room[..got], beyond) {
            ([line @ .., b'\r'], b"\n") => line.len(),
            ([line @ .., b'\r', b'\n'] | [line @ .., b'\n'], b"") => line.len(),
            (line, b"") => line.len(),
            _ => MOST_SECRET,
        };
        match length < MOST_SECRET {
            true => Ok(()),
            false => Err(refused("a passphrase or key has less than 4096 bytes")),
        }
    })?;
    secret.truncate(length);
    Ok(secret)
}

/// Reads until the room is full, or nothing comes any more; returns how much came.
fn fill(from: &mut dyn Read, room: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < room.len() {
        match from.read(&mut room[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn ask_command(line: &str) -> Result<SecretBytes> {
    let failed = |what: &str| {
        Error::new(
            ErrorKind::Usage,
            format!("the command for the passphrase {what}"),
        )
        .with_hint("it must write the passphrase to its standard output, and exit with 0")
    };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| failed("cannot be started").with_source(error))?;
    let said = child.stdout.take();
    let mut said = said.ok_or_else(|| failed("says nothing"))?;
    let secret = read_line(&mut said, &|error| {
        failed("cannot be read").with_source(error)
    });
    if secret.is_err() {
        let _ = child.kill();
    }
    drop(said);
    let ended = child.wait();
    let ended = ended.map_err(|error| failed("cannot be waited for").with_source(error))?;
    let secret = secret?;
    match ended.success() {
        true => Ok(secret),
        false => Err(failed(&format!("failed ({ended})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn read(source: &KeySource) -> Result<Vec<u8>> {
        let secret = source.read("place")?;
        Ok(secret.unwrap().bytes().to_vec())
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_not_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "very secret\r\n").unwrap();
        let source = KeySource::File(file.path().into());
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), mode(0o640)).unwrap();
        let error = read(&source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.hint().unwrap().contains("chmod 0600"), "{error}");
        std::fs::set_permissions(file.path(), mode(0o600)).unwrap();
        assert_eq!(read(&source).unwrap(), b"very secret");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(read(&source).unwrap_err().to_string().contains("empty"));
        std::fs::write(file.path(), vec![b'x'; MOST_SECRET]).unwrap();
        let error = read(&source).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("xxx"));
    }

    #[test]
    fn the_end_of_its_line_is_no_part_of_it_and_nothing_else_is() {
        let read = |text: &[u8]| {
            let mut text = text;
            read_line(&mut text, &|_| unreachable!()).map(|secret| secret.bytes().to_vec())
        };
        let long = vec![b'x'; MOST_SECRET - 1];
        for end in ["", "\n", "\r\n"] {
            let got = read(&[&long, end.as_bytes()].concat()).unwrap();
            assert!(got == long, "{end:?}: {}", got.len());
            assert_eq!(read(format!("key{end}").as_bytes()).unwrap(), b"key");
        }
        // Nothing but the end of a line, once.
        assert_eq!(read(b"key\r").unwrap(), b"key\r");
        assert_eq!(read(b"key\n\n").unwrap(), b"key\n");
        for more in ["x", "x\n", "x\r\n", "\n\n", "\r\r", "\r\nx"] {
            assert!(
                read(&[&long, more.as_bytes()].concat()).is_err(),
                "{more:?}"
            );
        }
    }

    #[test]
    fn a_command_says_it_or_fails_in_words() {
        let command = |line: &str| read(&KeySource::Command(line.into()));
        assert_eq!(command("echo very secret").unwrap(), b"very secret");
        for bad in ["echo very secret; exit 3", "true", "yes very secret"] {
            let error = command(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
            assert!(!format!("{error} {error:?}").contains("very secret"));
        }
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
        let source = KeySource::Command("echo very secret".into());
        assert!(!format!("{source:?}").contains("secret"));
    }
}
