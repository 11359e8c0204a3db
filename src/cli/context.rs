//! What several commands ask for before they begin: the vault that was named, root, threads.

use super::args::Common;
use super::{prompt, signals};
use crate::config::Config;
use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Bytes;
use crate::report::Report;
use crate::store::{self, KeySource, Location, Vault};
use std::sync::Arc;

/// Most names of vaults in a hint.
const MOST_NAMES: usize = 16;

/// The vault that `--vault`, `STILLPOINT_VAULT` or the configuration names.
pub fn open_vault(common: &Common) -> Result<Arc<Vault>> {
    open_vault_to_write(common, None)
}

/// The same for a run that puts no more bytes a second than `at_most`, if it says any number.
pub fn open_vault_to_write(common: &Common, at_most: Option<Bytes>) -> Result<Arc<Vault>> {
    let place = vault_named(common, common.vault.as_deref())?;
    let place = match at_most {
        Some(rate) => place.with_upload_limit(rate),
        None => place,
    };
    let opened = store::open(&place.with_cache(&common.cache_dir));
    opened
        .map(Arc::new)
        .map_err(|error| or_a_name(common, error))
}

/// The same for those who judge what the store itself has: nothing is taken from this host's cache.
pub fn open_vault_itself(common: &Common) -> Result<Arc<Vault>> {
    let place = vault_named(common, common.vault.as_deref())?;
    let opened = store::open(&place).map(Arc::new);
    opened.map_err(|error| or_a_name(common, error))
}

/// A word that was taken for a directory may have been meant as a name from the configuration.
fn or_a_name(common: &Common, error: Error) -> Error {
    match common.vault.as_deref() {
        Some(word) if error.kind() == ErrorKind::NotFound && !Location::is_place(word) => {
            let config = match Config::read(&common.config_place()) {
                Ok(config) if config.vault_names().all(|name| name != word) => config,
                _ => return error,
            };
            let names: Vec<&str> = config.vault_names().take(MOST_NAMES).collect();
            let there = match names.is_empty() {
                true => "has no vaults".into(),
                false => format!("has the vaults {}", names.join(", ")),
            };
            error.with_hint(format!(
                "{word} was taken for a directory: the configuration {there}; name one of those, \
                 a whole path, or s3://bucket/prefix"
            ))
        }
        _ => error,
    }
}

/// Does work on a vault. Its report says what was asked of the vault, and so does the record of its
/// job, also where it failed.
pub fn asking(
    vault: &Vault,
    monitor: &dyn Monitor,
    work: impl FnOnce() -> Result<Report>,
) -> Result<Report> {
    let mut result = work();
    let asked = vault.requests();
    if let Some(asked) = asked {
        monitor.tell(Event::Asked(asked));
    }
    if let Ok(report) = &mut result {
        report.add_requests(asked);
    }
    result
}

/// Whether any of these names a vault. A configuration that cannot be read is an error later.
pub fn has_vault(common: &Common) -> bool {
    let config = Config::read(&common.config_place());
    let named = config.and_then(|config| config.vault(common.vault.as_deref()));
    !matches!(named, Ok(None))
}

/// The place that `given` names, or else the configuration.
pub fn vault_named(common: &Common, given: Option<&str>) -> Result<Location> {
    let place = given.filter(|text| Location::is_place(text));
    let named = match place {
        // On the worst day a configuration that is broken must not stand in the way.
        Some(place) => Some(Location::parse(place)?),
        None => Config::read(&common.config_place())?.vault(given)?,
    };
    let named = named.map(|place| {
        let key = key_of(common, place.key());
        place.until(signals::check).with_key(key)
    });
    named.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "no vault was named").with_hint(
            "give --vault with a directory or s3://bucket/prefix, or set STILLPOINT_VAULT",
        )
    })
}

/// Where the key of an encrypted vault comes from: a flag or the environment, what `configured`
/// says, or whoever is at the terminal.
fn key_of(common: &Common, configured: &KeySource) -> KeySource {
    let file = common.password_file.as_ref();
    match (&common.password_command, file, configured) {
        (Some(command), _, _) => KeySource::Command(command.clone()),
        (None, Some(file), _) if !file.as_os_str().is_empty() => KeySource::File(file.clone()),
        (None, _, KeySource::Nobody) => KeySource::Ask(prompt::ask),
        (None, _, configured) => configured.clone(),
    }
}

/// Only root may do such things.
pub fn need_root_to(what: &str) -> Result<()> {
    need_root().map_err(|error| {
        let what = format!("only root can {what}");
        Error::new(error.kind(), what).with_hint("run it as root, with sudo for example")
    })
}

/// Only root may read disks, freeze and track.
pub fn need_root() -> Result<()> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "only root can read, freeze and track disks",
    )
    .with_hint("run it as root, with sudo for example"))
}

/// How many threads to use.
pub fn workers() -> usize {
    // More would only wait: each takes its share of memory too.
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(1, 8)
}
