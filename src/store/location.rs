//! The place of a vault, as a user names it, and opening what is there. Whatever a place needs to
//! be reached (a network, keys) is known here and below, and nowhere above.

use super::door::{no_info, was_vault};
use super::key_source::KeySource;
use super::keyring::{self, KeyFound};
use super::layer::{
    CountStore, LimitStore, Retrier, RetryPolicy, RetryStore, StopCheck, StoreLimits,
};
use super::local::LocalStore;
use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use super::s3::{S3Place, S3Settings, S3Store};
use super::vault::{Vault, VaultOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Compression, VaultInfo, ZstdLevel};
use crate::model::{Bytes, LockRule};
use crate::sys::own_address::leads_here;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a vault is, and how much of what leads there may be used.
#[derive(Clone, Debug)]
pub struct Location {
    place: S3OrDirectory,
    limits: StoreLimits,
    cache: Option<PathBuf>,
    stop: StopCheck,
    key: KeySource,
    lock: Option<LockRule>,
}

#[derive(Clone, Debug)]
enum S3OrDirectory {
    /// In a directory.
    Directory(PathBuf),
    /// In an object store.
    S3(Box<S3Place>),
}

const SCHEME: &str = "s3://";

impl Location {
    /// The place that a user has named: a path, or `s3://bucket/prefix`.
    pub fn parse(text: &str) -> Result<Self> {
        let place = match text.strip_prefix(SCHEME) {
            Some(rest) => S3OrDirectory::S3(Box::new(parse_s3(text, rest)?)),
            None if text.contains("://") => {
                let shown = without_user(text);
                let what = format!("{shown}: a vault is in a directory or at s3://bucket/prefix");
                return Err(Error::new(ErrorKind::Usage, what)
                    .with_hint("the address of another store than AWS is its endpoint"));
            }
            None => S3OrDirectory::Directory(text.into()),
        };
        Ok(Self {
            place,
            limits: StoreLimits::default(),
            cache: None,
            stop: || Ok(()),
            key: KeySource::Nobody,
            lock: None,
        })
    }

    /// Whether `text` names a place, and is no name for one.
    pub fn is_place(text: &str) -> bool {
        text.contains('/') || text.starts_with('.')
    }

    /// What tells this place from every other: a vault's ID is no secret, and may be claimed by
    /// another bucket; a second place has the same.
    pub fn reached(&self) -> String {
        match &self.place {
            S3OrDirectory::Directory(path) => {
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                whole.display().to_string()
            }
            S3OrDirectory::S3(s3) => {
                format!("{} {} {:?}", s3.bucket, s3.prefix, s3.settings.endpoint)
            }
        }
    }

    /// Its name for people.
    pub fn shown(&self) -> String {
        match &self.place {
            S3OrDirectory::Directory(path) => path.display().to_string(),
            S3OrDirectory::S3(s3) => format!("{SCHEME}{}/{}", s3.bucket, s3.prefix),
        }
    }

    /// Whether it is in S3.
    pub fn is_s3(&self) -> bool {
        matches!(self.place, S3OrDirectory::S3(_))
    }

    /// Whether what serves it is this very host, as far as its address says: then its time is this
    /// host's own.
    pub fn is_served_here(&self) -> bool {
        match &self.place {
            S3OrDirectory::Directory(_) => true,
            S3OrDirectory::S3(s3) => s3
                .settings
                .endpoint_in_force()
                .is_some_and(|endpoint| leads_here(&endpoint)),
        }
    }

    /// How a vault here packs unless its user chose otherwise: a directory takes bytes faster than
    /// zstd makes them, a network does not.
    pub fn usual_compression(&self) -> Compression {
        match self.place {
            S3OrDirectory::S3(_) => Compression::Zstd(ZstdLevel::USUAL),
            S3OrDirectory::Directory(_) => Compression::Lz4,
        }
    }

    /// The same, reached as `settings` say; they mean nothing to a directory.
    #[must_use]
    pub fn with_settings(mut self, settings: S3Settings) -> Self {
        if let S3OrDirectory::S3(place) = &mut self.place {
            place.settings = settings;
        }
        self
    }

    /// The same; the vault there is encrypted, and this has the key.
    #[must_use]
    pub fn with_key(mut self, key: KeySource) -> Self {
        self.key = key;
        self
    }

    /// The same; what snapshots need of a vault that is made here is locked by this rule.
    #[must_use]
    pub fn with_lock(mut self, rule: LockRule) -> Self {
        self.lock = Some(rule);
        self
    }

    /// Where the key is, as far as that was said.
    pub fn key(&self) -> &KeySource {
        &self.key
    }

    /// The same, used no faster than this.
    #[must_use]
    pub fn with_limits(mut self, limits: StoreLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same; no more than `rate` bytes a second are put, whatever its limits said of that.
    #[must_use]
    pub fn with_upload_limit(mut self, rate: Bytes) -> Self {
        self.limits.upload = Some(rate);
        self
    }

    /// The same; small objects of a distant vault are kept below `directory`, a directory for each
    /// vault. Not for those who judge the store.
    #[must_use]
    pub fn with_cache(mut self, directory: &Path) -> Self {
        self.cache = Some(directory.to_owned());
        self
    }

    /// The same; `stop` is asked before each operation on a distant store and in all waits, and its
    /// error ends them. What the store is asked at that moment has some seconds left, and so have
    /// deletes.
    #[must_use]
    pub fn until(mut self, stop: StopCheck) -> Self {
        self.stop = stop;
        self
    }

    /// The directory, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            S3OrDirectory::Directory(path) => Some(path),
            S3OrDirectory::S3(_) => None,
        }
    }

    /// Whether one is the other or lies within it, as far as names of buckets and prefixes tell.
    pub fn meets(&self, other: &Self) -> bool {
        let (S3OrDirectory::S3(one), S3OrDirectory::S3(two)) = (&self.place, &other.place) else {
            return false;
        };
        let within = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| outer.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        one.bucket == two.bucket
            && one.settings.endpoint == two.settings.endpoint
            && (within(&one.prefix, &two.prefix) || within(&two.prefix, &one.prefix))
    }

    /// The store there. A directory must exist.
    pub(super) fn open_store(&self) -> Result<Arc<dyn ObjectStore>> {
        Ok(match &self.place {
            S3OrDirectory::Directory(path) => self.counted(LocalStore::open(path)?),
            // It counts its requests itself.
            S3OrDirectory::S3(s3) => self.layered(Arc::new(self.open_s3(s3)?)),
        })
    }

    /// A directory whose operations are counted.
    fn counted(&self, store: LocalStore) -> Arc<dyn ObjectStore> {
        self.layered(Arc::new(CountStore::new(Arc::new(store))))
    }

    /// The same as `open_store`; a directory that is missing is made.
    pub(super) fn make_store(&self) -> Result<Arc<dyn ObjectStore>> {
        match &self.place {
            S3OrDirectory::Directory(path) => Ok(self.counted(LocalStore::create(path)?)),
            S3OrDirectory::S3(_) => self.open_store(),
        }
    }

    /// Whether nothing is there.
    pub(super) fn is_empty(&self) -> Result<bool> {
        match &self.place {
            S3OrDirectory::Directory(path) => LocalStore::open(path)?.is_empty(),
            S3OrDirectory::S3(s3) => self.finds_nothing(&self.open_s3(s3)?),
        }
    }

    /// The place in S3, if it is one.
    pub(super) fn s3(&self) -> Option<&S3Place> {
        match &self.place {
            S3OrDirectory::Directory(_) => None,
            S3OrDirectory::S3(s3) => Some(s3),
        }
    }

    /// A store with the layers that belong before it while it is tried.
    pub(super) fn tried(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        self.layered_by(store, RetryPolicy::SHORT)
    }

    fn open_s3(&self, place: &S3Place) -> Result<S3Store> {
        S3Store::open_until(place.clone(), self.stop)
    }

    /// Whether the store has nothing there, asked as patiently as all else.
    fn finds_nothing(&self, s3: &S3Store) -> Result<bool> {
        let retrier = Retrier::new(RetryPolicy::DISTANT, self.stop);
        retrier.attempt("list", || s3.is_empty())
    }

    /// A store with the layers that belong before it.
    fn layered(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        self.layered_by(store, RetryPolicy::DISTANT)
    }

    fn layered_by(&self, store: Arc<dyn ObjectStore>, policy: RetryPolicy) -> Arc<dyn ObjectStore> {
        let limited = match self.limits == StoreLimits::default() {
            true => store,
            false => Arc::new(LimitStore::new(store, self.limits).until(self.stop)),
        };
        match self.place {
            S3OrDirectory::Directory(_) => limited,
            S3OrDirectory::S3(_) => {
                let retried = RetryStore::new(limited, policy);
                Arc::new(retried.until(self.stop))
            }
        }
    }
}

/// An address without what may be a user's name and password.
fn without_user(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://...@{rest}"),
        _ => text.to_owned(),
    }
}

fn parse_s3(text: &str, rest: &str) -> Result<S3Place> {
    let wrong = |why: &str| {
        let what = format!("{}: {why}", without_user(text));
        Err(Error::new(ErrorKind::Usage, what).with_hint("a vault's place: s3://bucket/prefix"))
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(plain) {
        return wrong("a bucket's name has 3 to 63 letters, digits, dots and hyphens");
    }
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    let is_prefix = prefix.split('/').all(is_part)
        && prefix.bytes().all(|byte| plain(byte) || byte == b'/')
        && prefix.len() <= 512;
    if !prefix.is_empty() && !is_prefix {
        return wrong("a prefix has letters, digits, dots, hyphens and single slashes");
    }
    Ok(S3Place {
        bucket: bucket.into(),
        prefix: prefix.into(),
        settings: S3Settings::default(),
    })
}

/// Opens the vault at a place.
pub fn open(place: &Location) -> Result<Vault> {
    let store = place.open_store()?;
    match &place.cache {
        Some(cache) if place.is_s3() => {
            Vault::open_with_cache(store, cache, &place.reached(), &place.key)
        }
        _ => Vault::open_by(store, &place.key),
    }
}

/// What the vault at a place says of itself, and its keys, which takes no key.
pub fn look_at_keys(place: &Location) -> Result<(VaultInfo, Vec<KeyFound>)> {
    let store = place.open_store()?;
    let info = Vault::read_info(store.as_ref())?;
    let keys = keyring::find(store.as_ref(), info.id)?;
    Ok((info, keys))
}

/// Makes a vault at a place, where nothing is yet.
pub fn create(place: &Location, options: VaultOptions) -> Result<Vault> {
    match &place.place {
        S3OrDirectory::Directory(path) if place.lock.is_some() => {
            let what = format!(
                "{}: a directory locks nothing; no vault was made",
                path.display()
            );
            Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("--lock is for a bucket with object lock"))
        }
        S3OrDirectory::Directory(path) => Vault::create_local(path, options),
        S3OrDirectory::S3(s3) => {
            let s3 = Arc::new(place.open_s3(s3)?);
            let is_empty = place.finds_nothing(&s3)?;
            let store = place.layered(s3);
            if !is_empty {
                return Err(taken(store.as_ref(), "prefix"));
            }
            Vault::create_locked(store, options, place.lock)
        }
    }
}

impl Vault {
    /// Makes a vault in a directory, which must be empty or not there yet.
    pub fn create_local(path: &Path, options: VaultOptions) -> Result<Self> {
        refuse_inside_another(path)?;
        let store = LocalStore::create(path)?;
        if !store.is_empty()? {
            return Err(taken(&store, "directory"));
        }
        Self::create(Arc::new(store), options)
    }

    /// Opens the vault in a directory, which is not encrypted.
    pub fn open_local(path: &Path) -> Result<Self> {
        Self::open(Arc::new(LocalStore::open(path)?))
    }

    /// Opens the vault in a directory, with a key where it is encrypted.
    pub fn open_local_by(path: &Path, key: &KeySource) -> Result<Self> {
        Self::open_by(Arc::new(LocalStore::open(path)?), key)
    }
}

/// A vault's own tools would take what lies in it for something of its own.
fn refuse_inside_another(path: &Path) -> Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = std::fs::canonicalize(parent.unwrap_or(Path::new(".")));
    let has_vault = |folder: &&Path| folder.join(ObjectName::vault_info().as_str()).is_file();
    let parent = parent.unwrap_or_default();
    match parent.ancestors().find(has_vault) {
        None => Ok(()),
        Some(other) => {
            let (path, other) = (path.display(), other.display());
            let what = format!("{path} is inside the vault in {other}; no vault was made");
            Err(Error::new(ErrorKind::Usage, what).with_hint("name a directory beside it"))
        }
    }
}

/// Why no vault is made in a place that is not empty.
pub(super) fn taken(store: &dyn ObjectStore, what: &str) -> Error {
    let info = store.get(&ObjectName::vault_info(), VaultInfo::MAX_LEN);
    let nothing_there = info
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if nothing_there && was_vault(store) {
        return no_info(store);
    }
    let place = store.location();
    if !nothing_there {
        return Error::new(ErrorKind::Exists, format!("{place} is a vault already")).with_hint(
            format!("use it as it is: --vault {place}; nothing was changed"),
        );
    }
    if store
        .list_some(&ObjectName::keys(), 1)
        .is_ok_and(|found| !found.is_empty())
    {
        let what =
            format!("{place} is not empty: keys lie there, of a vault that has no vault.json");
        return Error::new(ErrorKind::Exists, what).with_hint(
            "a cut-off `init --encrypt` leaves them: then nothing needs them, delete the folder \
             keys there; of a vault whose vault.json was lost, put that back",
        );
    }
    let message = format!("{place} is not empty: no vault was made in it");
    Error::new(ErrorKind::Exists, message).with_hint(format!(
        "name an empty {what}, or one that is not there yet"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_s3_is_a_bucket_and_a_prefix() {
        let place = |text: &str| match Location::parse(text).unwrap().place {
            S3OrDirectory::S3(s3) => (s3.bucket, s3.prefix),
            S3OrDirectory::Directory(path) => panic!("{path:?}"),
        };
        assert_eq!(place("s3://bucket"), ("bucket".into(), String::new()));
        assert_eq!(place("s3://bucket/"), ("bucket".into(), String::new()));
        assert_eq!(
            place("s3://my.b-1/a/b_c/"),
            ("my.b-1".into(), "a/b_c".into())
        );
        for bad in [
            "s3://",
            "s3://ab/x",
            "s3:///x",
            "s3://buc ket/x",
            "s3://user:secret@host/x",
            "s3://bucket/../x",
            "s3://bucket//x",
            "s3://bucket/x//",
            "s3://bucket/a?b",
            "gs://bucket/x",
        ] {
            let error = Location::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(!Location::parse("s3/bucket").unwrap().is_s3());
    }

    #[test]
    fn places_that_meet_are_known_by_their_names() {
        let meet = |one: &str, two: &str| {
            let (one, two) = (Location::parse(one).unwrap(), Location::parse(two).unwrap());
            assert_eq!(one.meets(&two), two.meets(&one));
            one.meets(&two)
        };
        assert!(meet("s3://bucket/a", "s3://bucket/a/"));
        assert!(meet("s3://bucket/a", "s3://bucket/a/b"));
        assert!(meet("s3://bucket", "s3://bucket/a"));
        assert!(!meet("s3://bucket/a", "s3://bucket/ab"));
        assert!(!meet("s3://bucket/a", "s3://other/a"));
        assert!(!meet("/a", "/a"));
        let elsewhere = S3Settings {
            endpoint: Some("https://s3.example".into()),
            ..S3Settings::default()
        };
        let here = Location::parse("s3://bucket/a").unwrap();
        assert!(!here.meets(&here.clone().with_settings(elsewhere)));
    }
}
