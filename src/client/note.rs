//! The note of what activation did on this host: which files are its own. It decides what may be
//! replaced and taken away, and nothing else: whether a host is activated is told by what stands.

use super::token::{ClientToken, is_vault_name};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::from_json;
use crate::helper::{put_file, read_note, remove_file};
use crate::model::ObjectId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Where it is unless another place was named.
pub const DEFAULT_CLIENT_NOTE: &str = "/var/lib/stillpoint/client.json";
const VERSION: u32 = 1;
const MOST_BYTES: u64 = 64 << 10;
const MOST_VALUES: usize = 512;
/// Most states of one file that are known at a time: what stood, and what takes its place.
const MOST_KNOWN: usize = 4;

/// What the name of a part begins with that is a plan.
const PLAN: &str = "plan ";

/// The name of the part that is a plan.
pub fn plan_part(name: &str) -> String {
    format!("{PLAN}{name}")
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientStage {
    /// It was begun.
    Activating,
    /// It is done.
    Activated,
    /// It is taken back.
    Deactivating,
}

/// The note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientNote {
    version: u32,
    /// How far it is.
    pub stage: ClientStage,
    /// What the vault is called here.
    pub vault: String,
    /// Its ID.
    pub vault_id: ObjectId,
    /// Where it is.
    pub url: String,
    /// Which token it was.
    pub nonce: ObjectId,
    /// When it was noted.
    pub time: Timestamp,
    /// The plan of the token.
    pub plan: Option<String>,
    /// By the name of a part, the hashes of what activation has written there.
    known: BTreeMap<String, Vec<String>>,
}

impl ClientNote {
    /// Of a token by which a host is being activated.
    pub fn begun(token: &ClientToken, now: Timestamp) -> Self {
        Self {
            version: VERSION,
            stage: ClientStage::Activating,
            vault: token.vault.name.clone(),
            vault_id: token.vault.id,
            url: token.vault.settings.url.clone(),
            nonce: token.nonce,
            time: now,
            plan: token.plan.as_ref().map(|plan| plan.name.clone()),
            known: BTreeMap::new(),
        }
    }

    /// What an earlier note knows is still activation's own.
    pub fn know_what(&mut self, before: &Self) {
        for (part, hashes) in &before.known {
            for hash in hashes {
                self.know(part, hash);
            }
        }
    }

    /// What has this hash is activation's own.
    pub fn know(&mut self, part: &str, hash: &str) {
        let known = self.known.entry(part.to_owned()).or_default();
        known.retain(|one| one != hash);
        known.push(hash.to_owned());
        // The oldest are of runs that were cut off long ago.
        let more = known.len().saturating_sub(MOST_KNOWN);
        known.drain(..more);
    }

    /// The names of plans of which anything is known.
    pub fn plans(&self) -> Vec<String> {
        let names = self.known.keys().filter_map(|part| part.strip_prefix(PLAN));
        names.map(str::to_owned).collect()
    }

    /// Of a part nothing else is known any more.
    pub fn know_only(&mut self, part: &str, hash: Option<&str>) {
        self.known.remove(part);
        if let Some(hash) = hash {
            self.know(part, hash);
        }
    }

    /// The hashes of what activation has written there.
    pub fn known(&self, part: &str) -> &[String] {
        self.known.get(part).map_or(&[], Vec::as_slice)
    }

    /// Reads it; `None`: there is none.
    ///
    /// # Errors
    /// It is there, and cannot be read or believed.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match read_note(path, MOST_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| unread(path, &error))?,
        };
        let wrong = |why: &str| {
            let what = format!("the note {} {why}", path.display());
            unread(path, &Error::new(ErrorKind::Failed, what))
        };
        let note: Self =
            from_json(&bytes, MOST_VALUES).map_err(|_| wrong("cannot be understood"))?;
        match note.version {
            VERSION if is_vault_name(&note.vault) => Ok(Some(note)),
            // Files are named after it: no other path may come of it.
            VERSION => Err(wrong("cannot be understood")),
            _ => {
                let what = format!("the note {} is of another version", path.display());
                Err(Error::new(ErrorKind::Format, what).with_hint(
                    "bring this host to the version that has written it: nothing else knows what \
                     was activated here",
                ))
            }
        }
    }

    /// Writes it. It outlasts a power cut.
    ///
    /// # Errors
    /// Its folder is another user's, or cannot be written to.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot write a note").with_source(error)
        })?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        make_folder(folder)?;
        put_file(path, &text, 0o600)
    }

    /// Takes it away; whether it was there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(path: &Path) -> Result<bool> {
        match remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).io_context("remove", path),
        }
    }
}

/// Makes the folder of a note, or checks that others cannot put one there. It holds more than
/// notes.
fn make_folder(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).io_context("make", folder)?;
    let found = fs::metadata(folder).io_context("look at", folder)?;
    let owner = nix::unistd::geteuid().as_raw();
    if found.is_dir() && found.uid() == owner && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let shown = folder.display();
    let what = format!("{shown}: others can write to it: no note is put there");
    Err(Error::new(ErrorKind::Usage, what)
        .with_hint(format!("chown root: {shown} && chmod go-w {shown}")))
}

/// What is said of a note that cannot be read: what it would have said is found out anew.
fn unread(path: &Path, error: &Error) -> Error {
    Error::new(ErrorKind::Failed, error.to_string()).with_hint(format!(
        "look at it; then: rm {}; `stillpoint client activate` writes it anew",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::token;
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.json");
        assert_eq!(ClientNote::read(&path).unwrap(), None);
        let mut note = ClientNote::begun(&token(), Timestamp::now());
        note.know("key", "a");
        note.write(&path).unwrap();
        assert_eq!(ClientNote::read(&path).unwrap(), Some(note.clone()));
        let text = std::fs::read_to_string(&path).unwrap();
        let other = text.replacen("\"version\":1", "\"version\":2", 1);
        let elsewhere = text.replacen("\"main\"", "\"../main\"", 1);
        for wrong in ["", "{", "[]", &text[..text.len() - 1], &other, &elsewhere] {
            std::fs::write(&path, wrong).unwrap();
            let error = ClientNote::read(&path).unwrap_err();
            let is_newer = error.kind() == ErrorKind::Format;
            assert_eq!(is_newer, *wrong == *other, "{error}");
            assert_eq!(
                error.hint().unwrap().contains("rm "),
                !is_newer,
                "{wrong}: {error}"
            );
        }
        assert!(ClientNote::remove(&path).unwrap());
        assert!(!ClientNote::remove(&path).unwrap());
    }

    #[test]
    fn what_is_known_of_a_part_is_bounded_and_the_newest_stays() {
        let mut before = ClientNote::begun(&token(), Timestamp::now());
        for hash in 0..20 {
            before.know("key", &hash.to_string());
        }
        let mut note = ClientNote::begun(&token(), Timestamp::now());
        note.know_what(&before);
        note.know("key", "new");
        assert_eq!(note.known("key"), ["17", "18", "19", "new"]);
        note.know_only("key", Some("new"));
        assert_eq!(note.known("key"), ["new"]);
        note.know_only("key", None);
        assert!(note.known("key").is_empty() && note.known("ca").is_empty());
    }
}
