//! Keys of an encrypted vault in two places: they are brought to the second one, and looked at in
//! either. It must never take a key away, nor bring what is no key of the vault.

use super::keyring::{EntryRead, ends_all, names, read_all, read_one};
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::model::SnapshotId;

/// How the keys of a vault stand.
#[derive(Clone, Debug, Default)]
pub struct KeysFound {
    /// Those that are damaged, or no keys of this vault, as text.
    pub bad: Vec<String>,
    /// Whether the vault is encrypted, and no key that anyone could try is left.
    pub none_left: bool,
}

impl Vault {
    /// Looks at all keys, which takes none. Who may not read them has nothing to say of them.
    pub fn check_keys(&self) -> Result<KeysFound> {
        if self.info().encryption.is_none() {
            return Ok(KeysFound::default());
        }
        let mut found = KeysFound {
            none_left: true,
            ..KeysFound::default()
        };
        let all = match read_all(self.store.as_ref(), self.info().id) {
            // It may not list them either.
            Err(error) if !ends_all(&error) => return Ok(KeysFound::default()),
            all => all?,
        };
        for EntryRead { id, entry } in all {
            match entry {
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    found.bad.push(format!("{}: {error}", ObjectName::key(id)));
                }
                Ok(_) | Err(_) => found.none_left = false,
            }
        }
        Ok(found)
    }

    /// Puts the keys of `of`, which is the same vault, here where they are missing or damaged;
    /// returns what the user should know.
    ///
    /// # Errors
    /// `Damaged`: the vault is encrypted, and neither place has a key.
    pub fn bring_keys(&self, of: &Self) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        if self.info().encryption.is_none() {
            return Ok(warnings);
        }
        let here = names(self.store.as_ref())?;
        let mut is_any = false;
        for id in names(of.store.as_ref())? {
            match self.bring(of, id, here.contains(&id)) {
                Ok(()) => is_any = true,
                Err(error) if is_of_one(&error) => warnings.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let is_good = |id: &SnapshotId| {
            let read = read_one(self.store.as_ref(), *id, self.info().id);
            read.is_ok()
        };
        if is_any || here.iter().any(is_good) {
            return Ok(warnings);
        }
        let what = format!(
            "no key of {} can be brought to {}: nobody could open the copy",
            of.location(),
            self.location()
        );
        let error = Error::new(ErrorKind::Damaged, what).with_hint(
            "put the folder keys back from a copy of the vault, or mirror from where they can be \
             read",
        );
        Err(match warnings.is_empty() {
            true => error,
            false => error.and_said(warnings.join("; ")),
        })
    }

    fn bring(&self, of: &Self, id: SnapshotId, is_here: bool) -> Result<()> {
        let (vault, name) = (self.info().id, ObjectName::key(id));
        let read = read_one(of.store.as_ref(), id, vault);
        let bytes = read.map_err(|error| match error.kind() {
            // Taken away since it was listed.
            ErrorKind::NotFound => error,
            _ => error.context(format!("{name} of {}: it was not brought", of.location())),
        })?;
        let length = bytes.len() as u64;
        let store = self.store.as_ref();
        match is_here.then(|| read_one(store, id, vault)) {
            Some(Ok(known)) if known == bytes => return Ok(()),
            Some(Ok(_)) => {
                let what = format!("{name} is another key in each place: neither was changed");
                return Err(Error::new(ErrorKind::Damaged, what));
            }
            Some(Err(error)) if error.kind() == ErrorKind::Damaged => {
                store.replace(&name, bytes)?;
            }
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
            Some(Err(_)) | None => match store.put(&name, bytes) {
                Err(error) if error.kind() == ErrorKind::Exists => {}
                put => put?,
            },
        }
        store.forget(&name);
        super::confirm::confirm_kept(store, &name, length)?;
        read_one(store, id, vault).map(drop)
    }
}

/// Whether an error is of one key alone.
fn is_of_one(error: &Error) -> bool {
    use ErrorKind::{Archived, Damaged, Format, NotFound, Unsupported};
    matches!(
        error.kind(),
        Archived | Damaged | Format | NotFound | Unsupported
    )
}
