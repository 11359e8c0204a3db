//! Settings of a host. Each is taken from the first of these that sets it: a flag, the environment,
//! the configuration file, the default. Flags and environment come from the command line, as
//! values; this room reads the file, and must never take it from a file that others than root can
//! write to.

mod alarm;
mod hooks;
mod invalid;
mod keys;
mod notify;
mod rate;
mod reading;
mod trusted;
mod vaults;

pub use hooks::{GivenHooks, parse_hook_time};
pub use keys::{SettingKeys, SettingsFile};
pub use notify::{
    MailSettings, NotifySettings, PingSettings, PlanNotify, SecretUrl, WebAddress, WebhookSettings,
};
pub use rate::parse_rate;
pub use reading::ReadingSettings;

use crate::engine::HookSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Bytes;
use crate::store::Location;
use alarm::AlarmTable;
use hooks::HookTable;
use invalid::wrong;
use reading::ReadingTable;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use vaults::{ChosenVault, VaultTables, choose};

/// The folder of a host's settings unless another one was named.
const USUAL: &str = "/etc/stillpoint";
/// Its name in the folder.
const FILE: &str = "config.toml";

/// What may stand in it.
const KEYS: &str = "there may be in it: vault; tables [vaults.NAME] with url, endpoint, region, \
                    path_style, checksums, storage_class, ca_file, credentials, limits, \
                    password_file and password_command; a table \
                    [hooks] with prescript, postscript, timeout and on_failure; a table [reading] \
                    with limit and priority; a table [alarm] with encryption; a table [notify]";

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
    #[serde(default)]
    alarm: AlarmTable,
    /// Looked at by who tells alone: what is wrong there keeps no snapshot from being taken.
    notify: Option<toml::Value>,
}

impl ConfigPlace {
    /// The folder of a host's settings.
    pub fn folder(&self) -> &Path {
        self.folder.as_deref().unwrap_or(Path::new(USUAL))
    }

    /// The file, be it there or not.
    pub fn path(&self) -> PathBuf {
        let usual = || self.folder().join(FILE);
        self.file.clone().unwrap_or_else(usual)
    }
}

impl Config {
    /// Reads the file that was named, or else the one in the folder, if it is there.
    ///
    /// # Errors
    /// It is missing though it was named, cannot be read, or is not root's; or what stands in it
    /// cannot be understood.
    pub fn read(place: &ConfigPlace) -> Result<Self> {
        let path = &place.path();
        let found = match trusted::read(path)? {
            Some(found) => found,
            None if place.file.is_none() => return Ok(Self::default()),
            None => {
                let message = format!(
                    "there is no configuration {}; nothing was done",
                    path.display()
                );
                let hint = "make it, or name another with --config or STILLPOINT_CONFIG";
                return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint));
            }
        };
        Self::of_text(path, &found.text)
    }

    /// The same of a text that is to stand at `path`.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn of_text(path: &Path, text: &str) -> Result<Self> {
        let tables = toml::from_str(text)
            .map_err(|error| wrong(path, &trusted::unparsed(text, &error)).with_hint(KEYS))?;
        Ok(Self {
            path: path.into(),
            tables,
        })
    }

    /// The vault that is meant where none is named.
    pub fn usual_vault(&self) -> Option<&str> {
        self.tables.vault.as_deref()
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

    /// Whether what looks like encryption at work is told: as `given` by what goes before the file,
    /// then as in the file; else it is.
    pub fn encryption_alarm(&self, given: Option<bool>) -> bool {
        self.tables.alarm.encryption(given)
    }

    /// How it is told that something did not go well; all that is wrong there is told at once.
    ///
    /// # Errors
    /// What stands in the file cannot be used.
    pub fn notify(&self) -> Result<NotifySettings> {
        let Some(table) = &self.tables.notify else {
            return Ok(NotifySettings::default());
        };
        let file = SettingsFile {
            path: self.path.clone(),
            table: [("notify".to_owned(), table.clone())].into_iter().collect(),
            written: None,
            hash: None,
        };
        let mut keys = file.keys();
        let settings = keys.table("notify", NotifySettings::take);
        match keys.faults() {
            faults if faults.is_empty() => Ok(settings.unwrap_or_default()),
            faults => Err(file.error(&faults).with_hint(
                "`stillpoint help notify` describes each key; snapshots are taken all the same, \
                 and nobody is told how they went",
            )),
        }
    }
}
