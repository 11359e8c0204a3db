//! Vaults by name: where each is, how it is reached, and how much of the network it may use.

use super::invalid::wrong;
use super::rate::parse_rate;
use crate::error::{Error, Result};
use crate::store::{CredentialSource, KeySource, Location, PutChecksum, S3Settings, StoreLimits};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tables `[vaults.NAME]` of the file.
pub(super) type VaultTables = BTreeMap<String, VaultTable>;

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultTable {
    url: String,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    checksums: Option<ChecksumWord>,
    storage_class: Option<String>,
    ca_file: Option<PathBuf>,
    credentials: Option<CredentialTable>,
    password_file: Option<PathBuf>,
    password_command: Option<String>,
    limits: Option<LimitTable>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChecksumWord {
    None,
    Crc32,
    Md5,
}

/// One of both is set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialTable {
    profile: Option<String>,
    file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitTable {
    upload: Option<String>,
    download: Option<String>,
    requests: Option<u64>,
}

impl VaultTable {
    /// The vault that stands under `name` in the file at `path`.
    pub(super) fn location(&self, path: &Path, name: &str) -> Result<Location> {
        let bad = |why: &str| wrong(path, &format!("vaults.{name}: {why}"));
        let place = Location::parse(&self.url).map_err(|error| bad(&error.to_string()))?;
        if !place.is_s3() {
            if self.means_s3() {
                return Err(bad(
                    "a directory has limits and a password, and no other settings",
                ));
            }
            if !self.url.starts_with('/') {
                return Err(bad("url: give the whole path, or s3://bucket/prefix"));
            }
        }
        let settings = S3Settings {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            checksums: match self.checksums {
                None | Some(ChecksumWord::None) => PutChecksum::None,
                Some(ChecksumWord::Crc32) => PutChecksum::Crc32,
                Some(ChecksumWord::Md5) => PutChecksum::Md5,
            },
            storage_class: self.storage_class.clone(),
            ca_file: self.ca_file.clone(),
            credentials: self.source().map_err(bad)?,
            ..S3Settings::default()
        };
        let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        if self.endpoint.as_deref().is_some_and(|url| !is_url(url)) {
            return Err(bad("endpoint: it begins with https:// or http://"));
        }
        if self
            .endpoint
            .as_deref()
            .is_some_and(|url| url.contains('@'))
        {
            return Err(bad("endpoint: a user or password has no place in it"));
        }
        let limits = self
            .limits
            .as_ref()
            .map(|table| table.limits().map_err(bad));
        let limits = limits.transpose()?.unwrap_or_default();
        let key = self.key().map_err(bad)?;
        let place = place.with_settings(settings).with_limits(limits);
        Ok(place.with_key(key))
    }

    fn means_s3(&self) -> bool {
        self.endpoint.is_some()
            || self.region.is_some()
            || self.path_style.is_some()
            || self.checksums.is_some()
            || self.storage_class.is_some()
            || self.ca_file.is_some()
            || self.credentials.is_some()
    }

    fn key(&self) -> std::result::Result<KeySource, &'static str> {
        match (&self.password_file, &self.password_command) {
            (None, None) => Ok(KeySource::Nobody),
            (Some(file), None) if file.is_absolute() => Ok(KeySource::File(file.clone())),
            (Some(_), None) => Err("password_file: give the whole path"),
            (None, Some(command)) => Ok(KeySource::Command(command.clone())),
            (Some(_), Some(_)) => Err("name password_file or password_command, and not both"),
        }
    }

    fn source(&self) -> std::result::Result<CredentialSource, &'static str> {
        let Some(table) = &self.credentials else {
            return Ok(CredentialSource::Usual);
        };
        match (&table.profile, &table.file) {
            (Some(profile), None) => Ok(CredentialSource::Profile(profile.clone())),
            (None, Some(file)) if file.is_absolute() => Ok(CredentialSource::File(file.clone())),
            (None, Some(_)) => Err("credentials.file: give the whole path"),
            _ => Err("credentials: name a profile or a file, and not both"),
        }
    }
}

impl LimitTable {
    fn limits(&self) -> std::result::Result<StoreLimits, &'static str> {
        let rate = |text: &Option<String>| match text.as_deref().map(parse_rate) {
            None => Ok(None),
            Some(Ok(rate)) => Ok(Some(rate)),
            Some(Err(_)) => Err("limits: a rate looks like this: \"20MiB/s\""),
        };
        if self.requests == Some(0) {
            return Err("limits.requests: at least one a second");
        }
        Ok(StoreLimits {
            upload: rate(&self.upload)?,
            download: rate(&self.download)?,
            requests: self.requests,
        })
    }
}

/// The place of a vault: `given` by what goes before the file, or else `usual`, a name or a place
/// that stands in the file at `path`.
pub(super) fn choose(
    tables: &VaultTables,
    path: &Path,
    chosen: ChosenVault<'_>,
) -> Result<Option<Location>> {
    let named = |name: &str| {
        let table = tables.get(name);
        table.map(|table| table.location(path, name))
    };
    match chosen {
        ChosenVault {
            given: Some(given), ..
        } => match named(given) {
            Some(place) => place.map(Some),
            None => Location::parse(given).map(Some),
        },
        ChosenVault {
            usual: Some(usual), ..
        } => match named(usual) {
            Some(place) => place.map(Some),
            None if Location::is_place(usual) => Location::parse(usual).map(Some),
            None => Err(no_such_table(path, usual)),
        },
        _ => Ok(None),
    }
}

/// Which vault was named, and by what.
#[derive(Clone, Copy)]
pub(super) struct ChosenVault<'a> {
    /// By a flag or the environment.
    pub(super) given: Option<&'a str>,
    /// By the file.
    pub(super) usual: Option<&'a str>,
}

fn no_such_table(path: &Path, name: &str) -> Error {
    wrong(path, &format!("vault: there is no table [vaults.{name}]"))
        .with_hint("write the table, or name a directory or s3://bucket/prefix")
}
