//! Settings of a host. Each is taken from the first of these that sets it: a flag, the environment,
//! the configuration file, the default. Flags and environment come from the command line, as
//! values; this room reads the file, and must never take it from a file that others than root can
//! write to.

mod hooks;
mod invalid;

pub use hooks::{GivenHooks, parse_hook_time};

use crate::engine::HookSettings;
use crate::error::{Error, ErrorKind, IoContext, Result};
use hooks::HookTable;
use invalid::wrong;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where it is unless another one was named.
const USUAL: &str = "/etc/stillpoint/config.toml";
/// A configuration is no longer than this, in bytes.
const MOST: u64 = 64 << 10;

/// What may stand in it.
const KEYS: &str = "there may be a table [hooks] in it, with prescript, postscript, timeout and \
                    on_failure";

/// The configuration file of a host.
#[derive(Debug, Default)]
pub struct Config {
    path: PathBuf,
    tables: Tables,
}

/// Its tables.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    hooks: HookTable,
}

impl Config {
    /// Reads the file that was named, or else the usual one, if it is there.
    ///
    /// # Errors
    /// It is missing though it was named, cannot be read, or is not root's; or what stands in it
    /// cannot be understood.
    pub fn read(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(USUAL));
        let mut options = File::options();
        // Opening a named pipe would block without this.
        let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!(
                    "there is no configuration {}; nothing was done",
                    path.display()
                );
                let hint = "make it, or name another with --config or STILLPOINT_CONFIG";
                return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint));
            }
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
        let mut text = String::new();
        file.take(MOST + 1)
            .read_to_string(&mut text)
            .io_context("read", path)?;
        if text.len() as u64 > MOST {
            return Err(wrong(path, "it is longer than 64 KiB"));
        }
        let tables = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
            wrong(path, &format!("line {line}: {}", error.message())).with_hint(KEYS)
        })?;
        Ok(Self {
            path: path.into(),
            tables,
        })
    }

    /// The hooks to run: as `given` by what goes before the file, then as in the file, then the
    /// defaults.
    ///
    /// # Errors
    /// What stands in the file, and is not overridden, cannot be used.
    pub fn hooks(&self, given: &GivenHooks) -> Result<HookSettings> {
        self.tables.hooks.settings(&self.path, given)
    }
}
