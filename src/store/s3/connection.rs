//! The requests that are made of a store, one function each, and what their answers mean. Whoever
//! calls them waits on a runtime.

use super::connect;
use super::failure::{LOCKED_PUT, Tried, archived, broken, failure, no_locks, wants_new_keys};
use super::odd_keys;
use super::settings::{PutChecksum, S3Place};
use super::traffic::Wire;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LockMode, LockRule, ObjectRetention};
use crate::store::object_name::ObjectName;
use crate::store::object_store::Blob;
use crate::sys::locked::LockExt;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::IdentityCache;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectLockMode, StorageClass};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64_simd::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest, Md5};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Keys are renewed no more often than this: threads whose requests are refused at the same moment
/// renew them once.
const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// What stores answer to a lock in a bucket without locks.
const NO_LOCKS: [&str; 3] = [
    "InvalidRequest",
    "ObjectLockConfigurationNotFoundError",
    "InvalidBucketState",
];

/// A place in a store, and a client of it.
pub(super) struct Connection {
    place: S3Place,
    current: Mutex<CurrentClient>,
    /// Whether the store has taken a request.
    worked: AtomicBool,
    /// How what snapshots need is locked when it is put.
    lock: OnceLock<LockRule>,
}

/// A client, with the keys that it keeps.
struct CurrentClient {
    client: Client,
    renewed: Option<Instant>,
}

/// What an answer says of the object's length.
pub(super) struct Got {
    body: ByteStream,
    /// Of this answer.
    pub(super) length: u64,
    /// Of the whole object.
    pub(super) whole: u64,
}

/// A page of a listing.
pub(super) type Page = aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;

/// Which page.
#[derive(Clone, Copy)]
pub(super) struct PageAt<'a> {
    /// What the keys of its objects begin with.
    pub(super) prefix: &'a str,
    /// Where it begins, as the page before has said.
    pub(super) token: Option<&'a str>,
    /// Most objects of it.
    pub(super) most: i32,
    /// For whom.
    pub(super) tried: Tried<'a>,
}

impl Connection {
    /// Nothing is asked of the store yet.
    pub(super) async fn open(place: S3Place, wire: Arc<Wire>) -> Result<Self> {
        let client = connect::client(&place.settings, wire).await?;
        Ok(Self {
            place,
            current: Mutex::new(CurrentClient {
                client,
                renewed: None,
            }),
            worked: AtomicBool::new(false),
            lock: OnceLock::new(),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.current.locked().client.clone()
    }

    /// From now on keys are asked of their source again, whatever it said of their end.
    fn renew_keys(&self) {
        let mut current = self.current.locked();
        let recently = |at: Instant| at.elapsed() < RENEWED_EVERY;
        if current.renewed.is_some_and(recently) {
            return;
        }
        // The SDK keeps them in its identity cache, which cannot be told to forget one.
        let config = current.client.config().to_builder();
        let config = config.identity_cache(IdentityCache::lazy().build());
        current.client = Client::from_conf(config.build());
        current.renewed = Some(Instant::now());
    }

    /// What an answer means.
    pub(super) fn heard<T, E>(
        &self,
        answer: std::result::Result<T, SdkError<E, HttpResponse>>,
        tried: Tried<'_>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let tried = Tried {
            worked: self.worked.load(Ordering::Relaxed),
            ..tried
        };
        match answer {
            Ok(answer) => {
                self.worked.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => {
                if tried.worked && wants_new_keys(&error) {
                    self.renew_keys();
                }
                Err(failure(&error, tried))
            }
        }
    }

    /// Where it is, for people.
    pub(super) fn location(&self) -> String {
        match self.place.prefix.as_str() {
            "" => format!("s3://{}", self.place.bucket),
            prefix => format!("s3://{}/{prefix}", self.place.bucket),
        }
    }

    /// The class that segments are put into.
    pub(super) fn storage_class(&self) -> Option<&str> {
        self.place.settings.storage_class.as_deref()
    }

    pub(super) fn bucket(&self) -> &str {
        &self.place.bucket
    }

    pub(super) fn key(&self, name: &ObjectName) -> String {
        match self.place.prefix.as_str() {
            "" => name.as_str().to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// What the vault calls the object of that key; `None`: it is not below the prefix.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        match self.place.prefix.as_str() {
            "" => Some(key),
            prefix => key
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('/')),
        }
    }

    /// The key of all there is.
    pub(super) fn root(&self) -> String {
        match self.place.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    pub(super) fn url(&self, name: &ObjectName) -> String {
        format!("s3://{}/{}", self.place.bucket, self.key(name))
    }

    pub(super) fn tried<'a>(&'a self, verb: &'static str, url: &'a str) -> Tried<'a> {
        Tried {
            verb,
            url,
            bucket: &self.place.bucket,
            worked: self.worked.load(Ordering::Relaxed),
        }
    }

    pub(super) async fn page(&self, ask: PageAt<'_>) -> Result<Page> {
        let listing = self.client().list_objects_v2();
        let listing = listing.bucket(&self.place.bucket).prefix(ask.prefix);
        let listing = listing
            .max_keys(ask.most)
            .set_continuation_token(ask.token.map(str::to_owned));
        let answer = listing.clone().send().await;
        if !odd_keys::is_unreadable(&answer) {
            return self.heard(answer, ask.tried);
        }
        let encoded = listing.set_encoding_type(odd_keys::encoding());
        let page = self.heard(encoded.send().await, ask.tried)?;
        Ok(odd_keys::decoded_page(page))
    }

    /// How long an object is.
    pub(super) async fn head(&self, name: &ObjectName) -> Result<u64> {
        let url = self.url(name);
        let tried = self.tried("look at", &url);
        let request = self.client().head_object().bucket(&self.place.bucket);
        let answer = request.key(self.key(name)).send().await;
        let answer = self.heard(answer, tried)?;
        let length = answer.content_length().and_then(|n| u64::try_from(n).ok());
        length.ok_or_else(|| broken("the answer has no length", tried))
    }

    /// Asks for an object, or the part of it that `range` says.
    pub(super) async fn request(&self, name: &ObjectName, range: Option<String>) -> Result<Got> {
        let url = self.url(name);
        let request = self.get_request(name).set_range(range);
        self.send(request, self.tried("get", &url)).await
    }

    /// Asks for a version of an object.
    pub(super) async fn request_version(&self, name: &ObjectName, version: &str) -> Result<Got> {
        let url = self.url(name);
        let request = self.get_request(name).version_id(version);
        self.send(request, self.tried("get a version of", &url))
            .await
    }

    fn get_request(&self, name: &ObjectName) -> GetObjectFluentBuilder {
        let request = self.client().get_object().bucket(&self.place.bucket);
        request.key(self.key(name))
    }

    async fn send(&self, request: GetObjectFluentBuilder, tried: Tried<'_>) -> Result<Got> {
        let answer = request.send().await;
        if let Err(error) = &answer
            && let Some(GetObjectError::InvalidObjectState(state)) = error.as_service_error()
        {
            let class = state.storage_class().map(StorageClass::as_str);
            let class = class.or(self.place.settings.storage_class.as_deref());
            return Err(archived(class, tried));
        }
        let answer = self.heard(answer, tried)?;
        let length = answer.content_length().and_then(|n| u64::try_from(n).ok());
        let length = length.ok_or_else(|| broken("the answer has no length", tried))?;
        let whole = match answer.content_range() {
            Some(range) => total(range).ok_or_else(|| broken("its range is none", tried))?,
            None => length,
        };
        Ok(Got {
            body: answer.body,
            length,
            whole,
        })
    }

    /// Reads an answer's body, of which exactly `length` bytes are expected, into `into`.
    pub(super) async fn read(&self, name: &ObjectName, got: Got, into: &mut Vec<u8>) -> Result<()> {
        let url = self.url(name);
        let tried = self.tried("get", &url);
        let (mut body, length) = (got.body, got.length as usize);
        into.clear();
        into.reserve_exact(length);
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| broken(error, tried))?;
            if into.len() + part.len() > length {
                return Err(broken("more bytes came than it has", tried));
            }
            into.extend_from_slice(&part);
        }
        match into.len() == length {
            true => Ok(()),
            false => Err(broken("the connection broke before its end", tried)),
        }
    }

    pub(super) fn other_part(&self, name: &ObjectName) -> Error {
        let url = self.url(name);
        broken(
            "another part came than was asked for",
            self.tried("get", &url),
        )
    }

    /// A request to put an object, which says nothing of it yet.
    pub(super) fn put_request(&self, name: &ObjectName) -> PutObjectFluentBuilder {
        let request = self.client().put_object().bucket(&self.place.bucket);
        request.key(self.key(name))
    }

    /// From here on what snapshots need is locked when it is put.
    pub(super) fn lock_what_is_put(&self, rule: LockRule) {
        // The rule of a vault stays what it is.
        let _ = self.lock.set(rule);
    }

    /// The lock that an object gets when it is put. What a manifest will refer to is put before it,
    /// and must be locked as long.
    fn lock_of(&self, name: &ObjectName) -> Option<ObjectRetention> {
        const LONGEST_RUN: SignedDuration = SignedDuration::from_hours(24);
        let rule = self.lock.get().filter(|_| name.is_needed())?;
        let time = match name.is_manifest() {
            true => rule.time(),
            false => rule.time() + LONGEST_RUN,
        };
        let until = Timestamp::now().checked_add(time).unwrap_or(Timestamp::MAX);
        let mode = rule.mode;
        Some(ObjectRetention { mode, until })
    }

    pub(super) async fn put_whole(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let url = self.url(name);
        let request = self.put_request(name);
        let mut request = request.content_length(bytes.len() as i64);
        let lock = self.lock_of(name);
        if let Some(ObjectRetention { mode, until }) = lock {
            let mode = match mode {
                LockMode::Governance => ObjectLockMode::Governance,
                LockMode::Compliance => ObjectLockMode::Compliance,
            };
            request = request.object_lock_mode(mode);
            request = request.object_lock_retain_until_date(DateTime::from_secs(until.as_second()));
        }
        let checksums = match (self.place.settings.checksums, lock) {
            // No store takes a lock without one, and some take this one only.
            (PutChecksum::None, Some(_)) => PutChecksum::Md5,
            (checksums, _) => checksums,
        };
        match checksums {
            PutChecksum::None => {}
            PutChecksum::Crc32 => {
                let sum = crc32fast::hash(&bytes).to_be_bytes();
                request = request.checksum_crc32(BASE64.encode_to_string(sum));
            }
            PutChecksum::Md5 => {
                let sum = Md5::digest(&bytes);
                request = request.content_md5(BASE64.encode_to_string(sum));
            }
        }
        if let Some(class) = &self.place.settings.storage_class
            && name.is_below(&ObjectName::segments())
        {
            request = request.storage_class(StorageClass::from(class.as_str()));
        }
        let answer = request.body(ByteStream::from(bytes)).send().await;
        let Some(_) = lock else {
            return self.heard(answer, self.tried("put", &url)).map(drop);
        };
        let tried = self.tried(LOCKED_PUT, &url);
        if let Err(SdkError::ServiceError(refused)) = &answer
            && refused.raw().status().as_u16() == 400
            && NO_LOCKS.contains(&refused.err().code().unwrap_or_default())
        {
            return Err(no_locks(tried));
        }
        self.heard(answer, tried).map(drop)
    }

    /// Deletes an object; one that is not there is no error.
    pub(super) async fn delete(&self, name: &ObjectName) -> Result<()> {
        let url = self.url(name);
        let request = self.client().delete_object().bucket(&self.place.bucket);
        let answer = request.key(self.key(name)).send().await;
        match self.heard(answer, self.tried("delete", &url)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The length of the whole object in `bytes 0-9/100`.
fn total(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_length_stands_behind_the_slash() {
        assert_eq!(total("bytes 0-9/100"), Some(100));
        assert_eq!(total("bytes 0-9/*"), None);
        assert_eq!(total("bytes 0-9"), None);
    }
}
