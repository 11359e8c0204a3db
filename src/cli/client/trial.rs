//! Tries the vault of a token from this host, before anything is written to its settings: that it
//! answers, that it is the very one, and that this host may write to it. Nothing stays of it.

use super::super::args::Common;
use super::super::signals;
use super::places::ClientPlaces;
use crate::client::{BlockPlaces, ClientToken, TokenVault, block};
use crate::config::Config;
use crate::engine;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::put_file;
use crate::store::{self, CheckOptions, KeySource, Location, RowState};
use crate::sys::secret::SecretBytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a vault may take for a small answer, for its largest object, and until it shows what
/// was put.
const SMALL: Duration = Duration::from_secs(30);
const LARGE: Duration = Duration::from_secs(180);
const LATE: Duration = Duration::from_secs(10);

/// What is written for the trial alone, in memory; removed when this is dropped.
struct Drafts {
    credentials: Option<PathBuf>,
    certificates: Option<PathBuf>,
}

impl Drafts {
    /// Whoever has the lock of clients has these names.
    fn write(token: &ClientToken, places: &ClientPlaces) -> Result<Self> {
        clear_drafts(places);
        let mut drafts = Self {
            credentials: None,
            certificates: None,
        };
        let [credentials, certificates] = names(places);
        if let Some(secret) = &token.credentials {
            put_file(&credentials, secret.bytes(), 0o600)?;
            drafts.credentials = Some(credentials);
        }
        if let Some(text) = &token.certificates {
            put_file(&certificates, text.as_bytes(), 0o600)?;
            drafts.certificates = Some(certificates);
        }
        Ok(drafts)
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        for path in [&self.credentials, &self.certificates]
            .into_iter()
            .flatten()
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn names(places: &ClientPlaces) -> [PathBuf; 2] {
    ["credentials", "certificates"].map(|name| places.run_dir.join(format!("client.draft.{name}")))
}

/// Removes what one that was killed has left, which nobody will ever read.
pub fn clear_drafts(places: &ClientPlaces) {
    let drafts = names(places);
    drafts
        .iter()
        .for_each(|path| drop(std::fs::remove_file(path)));
    let others = [places.config.clone(), places.note.clone()];
    for path in drafts.iter().chain(&others) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = std::fs::remove_file(path.with_file_name(format!(".{name}.new")));
    }
}

/// Tries the vault, and returns what is the worse for it.
pub fn try_vault(
    token: &ClientToken,
    places: &ClientPlaces,
    common: &Common,
) -> Result<Vec<String>> {
    let drafts = Drafts::write(token, places)?;
    let place = place_of(token, places, &drafts)?;
    let options = CheckOptions {
        small: SMALL,
        large: LARGE,
        late: LATE,
        stop: signals::check,
    };
    let (shown, opened) = (place.shown(), place.clone());
    let id = options.within(&shown, move || Ok(store::open(&opened)?.info().id))?;
    if id != token.vault.id {
        let what = format!(
            "{shown} is another vault than the token means: its ID is {id}, and not {}",
            token.vault.id
        );
        return Err(Error::new(ErrorKind::Failed, what).with_hint(
            "is another disk mounted there? If the vault was made anew, make another token",
        ));
    }
    let found = engine::check(&place, &common.places()?, options)?;
    let of = |state| found.rows.iter().filter(move |row| row.state == state);
    if let Some(bad) = of(RowState::Bad).next() {
        let name = bad.name.replace('_', " ");
        let what = format!("{shown}: {name}: {}", bad.found);
        let remedy = bad.remedy.clone();
        let remedy = remedy.unwrap_or("`stillpoint check --vault` shows all that was tried".into());
        return Err(Error::new(ErrorKind::Failed, what).with_hint(remedy));
    }
    let warnings = of(RowState::Warning);
    Ok(warnings
        .map(|row| format!("the vault: {}: {}", row.name.replace('_', " "), row.found))
        .collect())
}

/// The vault as the configuration would have it, by what stands in memory.
fn place_of(token: &ClientToken, places: &ClientPlaces, drafts: &Drafts) -> Result<Location> {
    let of_drafts = BlockPlaces {
        key: None,
        credentials: drafts.credentials.as_deref(),
        certificates: drafts.certificates.as_deref(),
    };
    let place = location(&token.vault, places, of_drafts)?;
    let key = match &token.key {
        Some(key) => KeySource::Given(Arc::new(SecretBytes::copy_of(key.bytes())?)),
        None => KeySource::Nobody,
    };
    Ok(place.with_key(key).until(signals::check))
}

/// The place that a block says, checked as one that was written by hand.
fn location(
    vault: &TokenVault,
    places: &ClientPlaces,
    of_block: BlockPlaces<'_>,
) -> Result<Location> {
    let config = Config::of_text(&places.config, &block(vault, of_block)?)?;
    config.vault(Some(&vault.name))?.ok_or_else(|| {
        // The block has the table of that name.
        Error::new(ErrorKind::Failed, "the token names no vault")
    })
}
