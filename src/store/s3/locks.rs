//! Locks and versions of objects, one request each. Whoever holds a vault's rules decides what they
//! are for: nothing here knows what a snapshot needs.

use super::S3Store;
use super::bucket::Said;
use super::connection::Connection;
use super::failure::{Tried, broken};
use super::listing::{PAGE, timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LockMode, LockRule, ObjectRetention};
use crate::store::object_name::ObjectName;
use crate::store::object_store::{Blob, BucketLock, ObjectVersion, VersionedStore};
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};

/// Where a listing of versions goes on.
#[derive(Clone, PartialEq, Eq)]
struct VersionMark {
    key: String,
    version: Option<String>,
}

impl Connection {
    async fn retention_of(
        &self,
        name: &ObjectName,
        version: Option<&str>,
    ) -> Result<Option<ObjectRetention>> {
        let url = self.url(name);
        let request = self.client().head_object().bucket(self.bucket());
        let request = request.key(self.key(name));
        let request = request.set_version_id(version.map(str::to_owned));
        let answer = self.heard(request.send().await, self.tried("look at", &url))?;
        let mode = match answer.object_lock_mode() {
            Some(ObjectLockMode::Compliance) => LockMode::Compliance,
            Some(_) => LockMode::Governance,
            None => return Ok(None),
        };
        let until = answer.object_lock_retain_until_date().and_then(timestamp);
        Ok(until.map(|until| ObjectRetention { mode, until }))
    }

    async fn retain_until(
        &self,
        name: &ObjectName,
        version: Option<&str>,
        retention: ObjectRetention,
    ) -> Result<()> {
        let url = self.url(name);
        let mode = match retention.mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let until = DateTime::from_secs(retention.until.as_second());
        let lock = ObjectLockRetention::builder()
            .mode(mode)
            .retain_until_date(until);
        let request = self.client().put_object_retention().bucket(self.bucket());
        let request = request.key(self.key(name)).retention(lock.build());
        let request = request.set_version_id(version.map(str::to_owned));
        let answer = request.send().await;
        self.heard(answer, self.tried("lock", &url)).map(drop)
    }

    async fn version_page(
        &self,
        prefix: &str,
        from: Option<&VersionMark>,
        tried: Tried<'_>,
    ) -> Result<ListObjectVersionsOutput> {
        let request = self.client().list_object_versions().bucket(self.bucket());
        let request = request.prefix(prefix).max_keys(PAGE);
        let request = request.set_key_marker(from.map(|mark| mark.key.clone()));
        let request = request.set_version_id_marker(from.and_then(|mark| mark.version.clone()));
        self.heard(request.send().await, tried)
    }

    /// The versions of a page, those of one key one after another, the newest first.
    fn versions_of(
        &self,
        page: &ListObjectVersionsOutput,
        tried: Tried<'_>,
    ) -> Result<Vec<ObjectVersion>> {
        let named = |key: Option<&str>| {
            let name = self.name(key.unwrap_or_default())?;
            ObjectName::parse(name).ok()
        };
        let mut found = Vec::new();
        for one in page.versions() {
            let size = one.size().and_then(|size| u64::try_from(size).ok());
            let parts = (
                one.version_id(),
                one.last_modified().and_then(timestamp),
                size,
            );
            match (named(one.key()), parts) {
                (Some(name), (Some(id), Some(modified), Some(size))) => found.push(ObjectVersion {
                    name,
                    id: id.to_owned(),
                    size: Some(size),
                    modified,
                    is_current: one.is_latest() == Some(true),
                }),
                (None, _) => {}
                _ => {
                    return Err(broken(
                        "a version is listed without ID, size or time",
                        tried,
                    ));
                }
            }
        }
        for one in page.delete_markers() {
            let parts = (one.version_id(), one.last_modified().and_then(timestamp));
            match (named(one.key()), parts) {
                (Some(name), (Some(id), Some(modified))) => found.push(ObjectVersion {
                    name,
                    id: id.to_owned(),
                    size: None,
                    modified,
                    is_current: one.is_latest() == Some(true),
                }),
                (None, _) => {}
                _ => return Err(broken("a deletion is listed without ID or time", tried)),
            }
        }
        // Stable: of one moment the store's own order counts.
        found.sort_by(|one, other| {
            let key = |version: &ObjectVersion| (!version.is_current, version.modified);
            let (one_key, other_key) = (key(one), key(other));
            one.name
                .cmp(&other.name)
                .then(one_key.0.cmp(&other_key.0))
                .then(other_key.1.cmp(&one_key.1))
        });
        Ok(found)
    }
}

/// Where a listing goes on; `None`: nowhere. It must get further with each page.
fn next_mark(
    page: &ListObjectVersionsOutput,
    before: Option<&VersionMark>,
    tried: Tried<'_>,
) -> Result<Option<VersionMark>> {
    if page.is_truncated() != Some(true) {
        return Ok(None);
    }
    let version = page.next_version_id_marker().map(str::to_owned);
    let mark = page.next_key_marker().map(|key| VersionMark {
        key: key.to_owned(),
        version,
    });
    let goes_on = |mark: &VersionMark| {
        before.is_none_or(|before| {
            mark.key > before.key || (mark.key == before.key && mark.version != before.version)
        })
    };
    mark.filter(goes_on).map(Some).ok_or_else(|| {
        let what = "the listing of versions is cut short and does not say where it goes on";
        broken(what, tried)
    })
}

impl VersionedStore for S3Store {
    fn lock_what_is_put(&self, rule: LockRule) {
        self.connection.lock_what_is_put(rule);
    }

    fn bucket_lock(&self) -> Result<Option<BucketLock>> {
        Ok(match self.object_lock()? {
            Said::Told(lock) => Some(lock),
            Said::MayNotBeAsked => None,
            // What does not know the question knows no locks.
            Said::NotKnown(_) => Some(BucketLock::Never),
        })
    }

    fn retention(
        &self,
        name: &ObjectName,
        version: Option<&str>,
    ) -> Result<Option<ObjectRetention>> {
        self.runtime
            .wait(self.connection.retention_of(name, version))
    }

    fn retain(
        &self,
        name: &ObjectName,
        version: Option<&str>,
        retention: ObjectRetention,
    ) -> Result<()> {
        self.runtime
            .wait(self.connection.retain_until(name, version, retention))
    }

    fn list_versions(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectVersion) -> Result<()>,
    ) -> Result<()> {
        let key = self.connection.key(prefix);
        let url = self.connection.url(prefix);
        let tried = self.connection.tried("list the versions of", &url);
        let mut from: Option<VersionMark> = None;
        loop {
            let fetch = || {
                let page = self.connection.version_page(&key, from.as_ref(), tried);
                self.runtime.wait(page)
            };
            let page = match from {
                None => fetch(),
                // What was handed out cannot be taken back.
                Some(_) => self.later_pages.attempt("list", fetch),
            }?;
            for version in self.connection.versions_of(&page, tried)? {
                if version.name.is_below(prefix) {
                    each(version)?;
                }
            }
            from = next_mark(&page, from.as_ref(), tried)?;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    fn get_version(&self, name: &ObjectName, version: &str, limit: u64) -> Result<Blob> {
        self.runtime.wait(async {
            let got = self.connection.request_version(name, version).await?;
            if got.length > limit {
                let what = format!("{name} is longer than an object of its kind can be");
                return Err(Error::new(ErrorKind::Damaged, what));
            }
            let mut bytes = Vec::new();
            self.connection.read(name, got, &mut bytes).await?;
            Ok(bytes.into())
        })
    }
}
