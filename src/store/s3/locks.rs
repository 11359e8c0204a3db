//! Locks of objects, one request each, and whether versions are kept. Whoever holds a vault's rules
//! decides what they are for: nothing here knows what a snapshot needs.

use super::S3Store;
use super::bucket::{Said, Versioning};
use super::connection::Connection;
use super::listing::timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LockMode, LockRule, ObjectRetention};
use crate::store::object_name::ObjectName;
use crate::store::object_store::{
    Blob, BucketLock, KeepsVersions, ObjectVersion, VersionedStore, VersionsOf,
};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};

impl Connection {
    async fn retention_of(&self, name: &ObjectName) -> Result<Option<ObjectRetention>> {
        let url = self.url(name);
        let request = self.client().head_object().bucket(self.bucket());
        let request = request.key(self.key(name));
        let answer = self.heard(request.send().await, self.tried("look at", &url))?;
        let mode = match answer.object_lock_mode() {
            Some(ObjectLockMode::Compliance) => LockMode::Compliance,
            Some(_) => LockMode::Governance,
            None => return Ok(None),
        };
        let until = answer.object_lock_retain_until_date().and_then(timestamp);
        Ok(until.map(|until| ObjectRetention { mode, until }))
    }

    async fn retain_until(&self, name: &ObjectName, retention: ObjectRetention) -> Result<()> {
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
        let answer = request.send().await;
        self.heard(answer, self.tried("lock", &url)).map(drop)
    }
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

    fn retention(&self, name: &ObjectName) -> Result<Option<ObjectRetention>> {
        self.runtime.wait(self.connection.retention_of(name))
    }

    fn retain(&self, name: &ObjectName, retention: ObjectRetention) -> Result<()> {
        self.runtime
            .wait(self.connection.retain_until(name, retention))
    }

    fn keeps_versions(&self) -> Result<KeepsVersions> {
        Ok(match self.versioning()? {
            Said::Told(Versioning::On) => KeepsVersions::Yes,
            Said::Told(Versioning::Off) => KeepsVersions::NotNow,
            Said::Told(Versioning::Never) => KeepsVersions::Never,
            Said::MayNotBeAsked | Said::NotKnown(_) => KeepsVersions::Unknown,
        })
    }

    fn list_versions(
        &self,
        of: VersionsOf<'_>,
        each: &mut dyn FnMut(ObjectVersion) -> Result<()>,
    ) -> Result<()> {
        self.each_version(of, each)
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
