//! The configuration with the vault of a token, and without it. What somebody has written there by
//! hand is never touched, and what is put is understood before it is put.

use super::places::ClientPlaces;
use crate::client::{
    BlockFound, BlockPlaces, ClientFile, ClientNote, ClientToken, SettingsText, block, hash_of,
    standing,
};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;

/// The name of its block in a note.
pub const BLOCK: &str = "configuration";

/// What is to become of the configuration.
pub struct ConfigChange {
    /// What stands there; `None`: nothing.
    pub before: Option<String>,
    /// What is to stand there.
    pub after: String,
    /// The hash of its block.
    pub block: String,
    /// Who may read it.
    pub mode: u32,
    /// The vault that is meant where none is named, if it is another.
    pub other_usual: Option<String>,
}

/// The configuration as it stands; `None`: there is none.
pub fn read(places: &ClientPlaces) -> Result<Option<String>> {
    let Some(bytes) = standing(&places.config)? else {
        return Ok(None);
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => {
            let what = format!("{}: it is no text", places.config.display());
            Err(Error::new(ErrorKind::Usage, what))
        }
    }
}

/// Plans how the vault of a token comes into the configuration.
pub fn plan_change(
    token: &ClientToken,
    places: &ClientPlaces,
    note: Option<&ClientNote>,
) -> Result<ConfigChange> {
    let paths = ClientFile::ALL.map(|file| file.path(&places.folder, &token.vault.name));
    let [key, credentials, certificates] = &paths;
    let of_block = BlockPlaces {
        key: token.key.as_ref().map(|_| key.as_path()),
        credentials: token.credentials.as_ref().map(|_| credentials.as_path()),
        certificates: token.certificates.as_ref().map(|_| certificates.as_path()),
    };
    let new = block(&token.vault, of_block)?;
    let hash = hash_of(new.as_bytes());
    let before = read(places)?;
    // It has to be one that is understood, and root's alone.
    let config = Config::read(&crate::config::ConfigPlace {
        file: before.as_ref().map(|_| places.config.clone()),
        folder: Some(places.folder.clone()),
    })?;
    let stands = SettingsText::new(before.clone().unwrap_or_default());
    let name = &token.vault.name;
    let found = stands.block_found();
    if found == BlockFound::Whole(hash.clone()) {
        return Ok(ConfigChange {
            after: stands.text().to_owned(),
            before,
            block: hash,
            mode: mode_of(places),
            other_usual: other(config.usual_vault(), name),
        });
    }
    let rest = match &found {
        BlockFound::Absent => stands,
        BlockFound::Whole(there) if note.is_some_and(|note| note.known(BLOCK).contains(there)) => {
            let rest = stands.without_block(name);
            // What follows a block may have become part of its table.
            if !stands.says_more_by(name, &rest) || !stands.block_is_whole(name) {
                return Err(changed_by_hand(places));
            }
            rest
        }
        _ => return Err(changed_by_hand(places)),
    };
    let others = Config::of_text(&places.config, rest.text())?;
    if others.vault_names().any(|known| known == name) {
        let what = format!(
            "{}: [vaults.{name}] is there already",
            places.config.display()
        );
        return Err(Error::new(ErrorKind::Exists, what)
            .with_hint("make a token with another --name; or take that table out"));
    }
    let usual = others.usual_vault().is_none().then_some(name.as_str());
    let after = rest.with_block(&new, usual);
    let read = Config::of_text(&places.config, after.text())?;
    read.vault(Some(name))?;
    if !after.says_more_by(name, &rest) {
        return Err(changed_by_hand(places));
    }
    Ok(ConfigChange {
        before,
        after: after.text().to_owned(),
        block: hash,
        mode: mode_of(places),
        other_usual: other(others.usual_vault(), name),
    })
}

fn other(usual: Option<&str>, name: &str) -> Option<String> {
    usual.filter(|usual| *usual != name).map(str::to_owned)
}

fn mode_of(places: &ClientPlaces) -> u32 {
    let found = std::fs::metadata(&places.config);
    found.map_or(0o644, |found| found.mode() & 0o755)
}

fn changed_by_hand(places: &ClientPlaces) -> Error {
    let what = format!(
        "{}: what activation had written there was changed by hand",
        places.config.display()
    );
    Error::new(ErrorKind::Exists, what)
        .with_hint("take the part between its two comments out, or put it right")
}

/// Whether anything stands in the configuration that activation has written, by its comments.
pub fn has_block(places: &ClientPlaces) -> bool {
    let text = read(places).ok().flatten();
    text.is_some_and(|text| SettingsText::new(text).block_found() != BlockFound::Absent)
}

/// How the configuration is without the block.
pub enum WithoutBlock {
    /// There is none in it.
    Absent,
    /// It was changed by hand, and stays.
    Changed,
    /// What is to stand there; empty: nothing.
    Text(String),
}

/// Plans how a vault goes out of the configuration.
pub fn plan_removal(places: &ClientPlaces, note: &ClientNote) -> Result<WithoutBlock> {
    let Some(text) = read(places)? else {
        return Ok(WithoutBlock::Absent);
    };
    let stands = SettingsText::new(text);
    Ok(match stands.block_found() {
        BlockFound::Absent => WithoutBlock::Absent,
        BlockFound::Whole(hash) if note.known(BLOCK).contains(&hash) => {
            let rest = stands.without_block(&note.vault);
            if !stands.says_more_by(&note.vault, &rest) || !stands.block_is_whole(&note.vault) {
                return Ok(WithoutBlock::Changed);
            }
            WithoutBlock::Text(match rest.text().trim().is_empty() {
                true => String::new(),
                false => rest.text().to_owned(),
            })
        }
        _ => WithoutBlock::Changed,
    })
}
