//! What is said of a configuration that cannot be used.

use crate::error::{Error, ErrorKind};
use std::path::Path;

/// An error in the file at `path`.
pub(super) fn wrong(path: &Path, why: &str) -> Error {
    let message = format!(
        "the configuration {}: {why}; nothing was done",
        path.display()
    );
    Error::new(ErrorKind::Usage, message)
}
