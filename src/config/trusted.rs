//! Reading what root alone can have written. It must never wait for what is no plain file, nor
//! take more than a bound into memory.

use super::invalid::wrong;
use crate::error::{Error, IoContext, Result};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::string::FromUtf8Error;
use std::time::SystemTime;

/// A file of settings is no longer than this, in bytes.
const MOST: u64 = 64 << 10;

/// A file that root alone can have written.
pub(super) struct TrustedText {
    /// What stands in it.
    pub(super) text: String,
    /// When it was last written.
    pub(super) written: Option<SystemTime>,
}

/// Reads the file at `path`; `None` when it is not there.
///
/// # Errors
/// It cannot be read, is no plain file, too long, or others than root can write to it.
pub(super) fn read(path: &Path) -> Result<Option<TrustedText>> {
    let mut options = File::options();
    // Opening a named pipe would block without this.
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let stat = file.metadata().io_context("look at", path)?;
    if !stat.is_file() {
        return Err(wrong(path, "it is no regular file"));
    }
    if stat.uid() != 0 || stat.mode() & 0o022 != 0 {
        return Err(wrong(path, "others than root can write to it")
            .with_hint(format!("chown root: {0} && chmod 0644 {0}", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .io_context("read", path)?;
    if bytes.len() as u64 > MOST {
        return Err(wrong(path, "it is longer than 64 KiB"));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    let written = stat.modified().ok();
    Ok(Some(TrustedText { text, written }))
}

/// What is said of a file that is no text, and where. What stands there may be a secret.
fn not_utf8(path: &Path, error: &FromUtf8Error) -> Error {
    let at = error.utf8_error().valid_up_to();
    let before = error.as_bytes().iter().take(at);
    let line = before.filter(|byte| **byte == b'\n').count() + 1;
    let why = format!("it is not UTF-8: line {line}, byte {at} of the file (the first is 0)");
    wrong(path, &why).with_hint("save it as UTF-8; iconv(1) converts what is in another encoding")
}

/// What a parser says of a text of settings, with the line.
pub(super) fn unparsed(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
    format!("line {line}: {}", without_text(error.message()))
}

/// What a parser says of a value of the wrong type, without the value: it may be a secret that was
/// written in the wrong place.
fn without_text(message: &str) -> String {
    let parts = message.split_once("string \"");
    let parts = parts.and_then(|(head, rest)| Some((head, rest.rsplit_once("\", expected")?.1)));
    match parts {
        Some((head, tail)) => format!("{head}a text, expected{tail}"),
        None => message.to_owned(),
    }
}
