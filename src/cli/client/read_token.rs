//! A token from a file or standard input. It must never come from the command line or the
//! environment, and nothing of this process is dumped from the moment it is read.

use super::super::signals;
use crate::client::{ClientToken, MOST_TOKEN, decode};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::secret::dump_nothing;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A token comes within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A text that is a token begins so.
const TOKEN: &str = "stillpoint-client-token";
/// How often it is asked whether to stop, in milliseconds.
const LOOK_EVERY: u16 = 200;

/// Whether standard input or output is meant.
pub fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

/// The token in a file, or on standard input.
pub fn read_token(path: &Path) -> Result<ClientToken> {
    dump_nothing();
    if path.to_string_lossy().starts_with(TOKEN) {
        let what = "--token-file: a token stands there itself; nothing was done";
        return Err(Error::new(ErrorKind::Usage, what).with_hint(
            "name a file, or - for standard input; others may have seen the token: make another",
        ));
    }
    let text = match is_stream(path) {
        true => read_stream(std::io::stdin().as_fd())?,
        false => read_file(path)?,
    };
    decode(&text)
}

/// A text that is secret, from a file that its owner alone can read.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut options = File::options();
    // Opening a named pipe would block without this.
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened
        .io_context("open", path)
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_hint("name the file; - is standard input"),
            _ => error,
        })?;
    let stat = file.metadata().io_context("look at", path)?;
    let owner = nix::unistd::geteuid().as_raw();
    if !stat.is_file() || stat.uid() != owner || stat.mode() & 0o077 != 0 {
        let what = format!("{}: others can read or change it", path.display());
        let hint = format!("chown root: {0} && chmod 0600 {0}", path.display());
        return Err(Error::new(ErrorKind::Usage, what).with_hint(hint));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(MOST_TOKEN as u64 + 1)
        .read_to_end(&mut text)
        .io_context("read", path)?;
    Ok(text)
}

/// What comes, until it ends or is longer than any token.
fn read_stream(from: impl AsFd) -> Result<Zeroizing<Vec<u8>>> {
    let path = Path::new("standard input");
    let until = Instant::now() + PATIENCE;
    let mut text = Zeroizing::new(Vec::new());
    let mut room = Zeroizing::new([0; 4096]);
    while text.len() <= MOST_TOKEN {
        signals::check()?;
        if Instant::now() > until {
            let what = "standard input did not end within 60 s: no token came";
            return Err(Error::new(ErrorKind::Io, what)
                .with_hint("give it with <FILE, or by a pipe that is closed after it"));
        }
        match poll(
            &mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)],
            LOOK_EVERY,
        ) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(Error::io("read", path, errno.into())),
        }
        match nix::unistd::read(&from, &mut *room) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(room.get(..count).unwrap_or_default()),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(Error::io("read", path, errno.into())),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_can_read_is_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret").unwrap();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), mode).unwrap();
        };
        for open in [0o644, 0o620, 0o601] {
            mode(open);
            let error = read_file(file.path()).unwrap_err();
            assert!(error.hint().unwrap().contains("chmod 0600"), "{error}");
        }
        mode(0o600);
        assert_eq!(*read_file(file.path()).unwrap(), b"s3cret");
        assert!(read_file(file.path().parent().unwrap()).is_err());
    }

    #[test]
    fn of_an_endless_stream_no_more_is_read_than_a_token_has() {
        let endless = File::open("/dev/zero").unwrap();
        let text = read_stream(&endless).unwrap();
        assert!(text.len() > MOST_TOKEN && text.len() < MOST_TOKEN + 5000);
        let nothing = read_stream(File::open("/dev/null").unwrap()).unwrap();
        assert!(nothing.is_empty());
    }
}
