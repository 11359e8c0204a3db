//! `--tag KEY=VALUE`.

use crate::error::{Error, ErrorKind, Result};

/// Splits `KEY=VALUE`.
pub fn tag(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && text.len() <= 1024 => {
            Ok((key.into(), value.into()))
        }
        _ => Err(
            Error::new(ErrorKind::Usage, format!("{text:?} is not KEY=VALUE"))
                .with_hint("a label looks like this: --tag why=upgrade"),
        ),
    }
}
