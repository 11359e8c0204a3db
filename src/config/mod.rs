//! Settings of a host. Each is taken from the first of these that sets it: a flag, the environment,
//! the configuration file, the default. Flags and environment come from the command line, as
//! values; this room reads the file, and must never take it from a file that others than root can
//! write to.

mod hooks;
mod invalid;
mod rate;
mod reading;
mod vaults;

pub use hooks::{GivenHooks, parse_hook_time};
pub use rate::parse_rate;
pub use reading::ReadingSettings;

use crate::engine::HookSettings;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use crate::store::Location;
use hooks::HookTable;
use invalid::wrong;
use reading::ReadingTable;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vaults::{ChosenVault, VaultTables, choose};

/// The folder that it is in unless another one was named.
const USUAL: &str = "/etc/stillpoint";
/// Its name in the folder.
const FILE: &str = "config.toml";
/// A configuration is no longer than this, in bytes.
const MOST: u64 = 64 << 10;

/// What may stand in it.
const KEYS: &str = "there may be in it: vault; tables [vaults.NAME] with url, endpoint, region, \
                    path_style, checksums, storage_class, ca_file, credentials, limits, \
                    password_file and password_command; a table \
                    [hooks] with prescript, postscript, timeout and on_failure; a table [reading] \
                    with limit and priority";

/// Where the configuration is. What is not named is where it usually is.
#[derive(Clone, Debug, Default)]
pub struct ConfigPlace {
    /// The file itself, which must be there.
    pub file: Option<PathBuf>,
    /// The folder of it.
    pub folder: Option<PathBuf>,
}

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
    vault: Option<String>,
    #[serde(default)]
    vaults: VaultTables,
    #[serde(default)]
    hooks: HookTable,
    #[serde(default)]
    reading: ReadingTable,
}

impl Config {
    /// Reads the file that was named, or else the one in the folder, if it is there.
    ///
    /// # Errors
    /// It is missing though it was named, cannot be read, or is not root's; or what stands in it
    /// cannot be understood.
    pub fn read(place: &ConfigPlace) -> Result<Self> {
        let named = place.file.as_deref();
        let folder = place.folder.as_deref().unwrap_or(Path::new(USUAL));
        let usual = folder.join(FILE);
        let path = named.unwrap_or(&usual);
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
            let what = without_text(error.message());
            wrong(path, &format!("line {line}: {what}")).with_hint(KEYS)
        })?;
        Ok(Self {
            path: path.into(),
            tables,
        })
    }

    /// The names of the vaults in it.
    pub fn vault_names(&self) -> impl Iterator<Item = &str> {
        self.tables.vaults.keys().map(String::as_str)
    }

    /// Where the vault is that is meant: as `given` by what goes before the file (a name from the
    /// file, or a place), then as the file says. `None`: nobody has named one.
    ///
    /// # Errors
    /// What stands in the file of that vault cannot be used, or is not there.
    pub fn vault(&self, given: Option<&str>) -> Result<Option<Location>> {
        let chosen = ChosenVault {
            given: given.filter(|name| !name.is_empty()),
            usual: self.tables.vault.as_deref(),
        };
        choose(&self.tables.vaults, &self.path, chosen)
    }

    /// The hooks to run: as `given` by what goes before the file, then as in the file, then the
    /// defaults.
    ///
    /// # Errors
    /// What stands in the file, and is not overridden, cannot be used.
    pub fn hooks(&self, given: &GivenHooks) -> Result<HookSettings> {
        self.tables.hooks.settings(&self.path, given)
    }

    /// How gently disks are read: at most as many bytes a second as `given` by what goes before the
    /// file, then as in the file, then the defaults.
    ///
    /// # Errors
    /// What stands in the file cannot be used.
    pub fn reading(&self, given: Option<Bytes>) -> Result<ReadingSettings> {
        self.tables.reading.settings(&self.path, given)
    }
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
