//! Questions about a bucket, and tries that no run makes: what `check` tells of a store. Nothing of
//! a vault rests on an answer, and only names that `check` has made up are put or deleted.

use super::S3Store;
use super::connection::PageAt;
use super::failure::{Tried, broken, failure};
use super::listing::{PAGE, next_page};
use crate::error::{ErrorKind, Result};
use crate::model::counted;
use crate::store::object_name::ObjectName;
use crate::store::object_store::{Blob, BucketLock, ObjectStore};
use crate::store::remains::is_of_check;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, LifecycleRule, ObjectLockEnabled, StorageClass,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use jiff::SignedDuration;

/// Most versions of objects that are looked for.
const MOST_VERSIONS: i32 = 1000;

/// Most pages of what checks have left that are gone through.
const MOST_PAGES: usize = 8;

/// What a store says when it is asked about a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// This.
    Told(T),
    /// These credentials may not ask.
    MayNotBeAsked,
    /// It does not know the question.
    NotKnown(String),
}

/// Whether what is deleted or put again stays as a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// It never was switched on.
    Never,
    /// It stays.
    On,
    /// What was there before it was switched off stays.
    Off,
}

/// A rule of a bucket that does something to objects when they are old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketRule {
    /// Its name.
    pub id: String,
    /// Which objects: what their keys begin with.
    pub prefix: String,
    /// Only those with a label, which objects of a vault do not have.
    pub labelled: bool,
    /// When they are deleted.
    pub expires: Option<String>,
    /// To which classes they are moved.
    pub moves: Vec<String>,
    /// After how many days versions of them are deleted.
    pub versions_expire: Option<i32>,
}

/// What is wrong with a body that is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongBody {
    /// A byte is another than was signed.
    Signature,
    /// `x-amz-checksum-crc32` is that of another body.
    Crc32,
    /// `Content-MD5` is that of another body.
    Md5,
}

/// What a store makes of a put on the condition that the name is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A taken name is refused.
    Kept,
    /// It is put all the same.
    Ignored,
    /// The request is refused as such.
    Refused,
}

fn sort<T, E>(
    answer: std::result::Result<T, SdkError<E, HttpResponse>>,
    tried: Tried<'_>,
) -> Result<Said<T>>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let refused = match answer {
        Ok(told) => return Ok(Said::Told(told)),
        Err(error) => error,
    };
    let status = match &refused {
        SdkError::ServiceError(refusal) => refusal.raw().status().as_u16(),
        _ => 0,
    };
    let code = refused.code().unwrap_or_default().to_owned();
    let error = failure(&refused, tried);
    match status {
        401 | 403 if error.kind() == ErrorKind::Unsupported => Ok(Said::MayNotBeAsked),
        400 | 404 | 405 | 501 => Ok(Said::NotKnown(match code.as_str() {
            "" => format!("status {status}"),
            code => code.to_owned(),
        })),
        _ => Err(error),
    }
}

impl<T> Said<T> {
    fn map<U>(self, to: impl FnOnce(T) -> U) -> Said<U> {
        match self {
            Self::Told(told) => Said::Told(to(told)),
            Self::MayNotBeAsked => Said::MayNotBeAsked,
            Self::NotKnown(why) => Said::NotKnown(why),
        }
    }

    /// The answer to a question that has an error for "there is none".
    fn or_none(self, code: &str, none: T) -> Self {
        match self {
            Self::NotKnown(why) if why == code => Self::Told(none),
            other => other,
        }
    }
}

impl S3Store {
    /// Whether nothing is below the prefix but what a check puts there.
    pub fn is_empty(&self) -> Result<bool> {
        let prefix = self.connection.root();
        let url = self.location();
        let tried = self.connection.tried("list", &url);
        let (mut token, mut most) = (None::<String>, 1);
        for _ in 0..MOST_PAGES {
            let page = self.runtime.wait(self.connection.page(PageAt {
                prefix: &prefix,
                token: token.as_deref(),
                most,
                tried,
            }))?;
            let keys = page.contents().iter();
            let mut keys = keys.map(|object| object.key().unwrap_or_default());
            if !keys.all(|key| key.strip_prefix(&prefix).is_some_and(is_of_check)) {
                return Ok(false);
            }
            if page.contents().is_empty() && token.is_none() {
                return Ok(true);
            }
            // One was enough to see that it is empty, or that it is not.
            if most == 1 {
                most = PAGE;
                continue;
            }
            token = next_page(&page, tried)?;
            if token.is_none() {
                return Ok(true);
            }
        }
        Err(broken(
            "too many objects of checks that were killed are there",
            tried,
        )
        .with_hint("delete what is below check/: nothing needs it"))
    }

    /// How far the store's clock is ahead of this host's, by its last answer.
    pub(in crate::store) fn clock_ahead(&self) -> Option<SignedDuration> {
        self.wire.ahead()
    }

    /// Waits for an answer, whatever it says; an error once it is told to stop.
    fn answer<T>(&self, asked: impl Future<Output = T>) -> Result<T> {
        self.runtime.wait(async { Ok(asked.await) })
    }

    fn bucket_url(&self) -> String {
        format!("s3://{}", self.connection.bucket())
    }

    /// Whether versions of objects are kept.
    pub(in crate::store) fn versioning(&self) -> Result<Said<Versioning>> {
        let url = self.bucket_url();
        let request = self.connection.client().get_bucket_versioning();
        let answer = self.answer(request.bucket(self.connection.bucket()).send())?;
        let said = sort(
            answer,
            self.connection.tried("ask about the versioning of", &url),
        )?;
        Ok(said.map(|told| match told.status() {
            Some(BucketVersioningStatus::Enabled) => Versioning::On,
            Some(BucketVersioningStatus::Suspended) => Versioning::Off,
            _ => Versioning::Never,
        }))
    }

    /// Whether objects are locked.
    pub(in crate::store) fn object_lock(&self) -> Result<Said<BucketLock>> {
        let url = self.bucket_url();
        let request = self.connection.client().get_object_lock_configuration();
        let answer = self.answer(request.bucket(self.connection.bucket()).send())?;
        let said = sort(
            answer,
            self.connection.tried("ask about the locks of", &url),
        )?;
        let said = said.map(|told| {
            let Some(lock) = told.object_lock_configuration() else {
                return BucketLock::Never;
            };
            let retention = lock.rule().and_then(|rule| rule.default_retention());
            match retention {
                Some(retention) => {
                    let time = match (retention.days(), retention.years()) {
                        (Some(days), _) => counted(days, "day"),
                        (None, Some(years)) => counted(years, "year"),
                        _ => "some time".to_owned(),
                    };
                    let mode = retention.mode().map_or("", |mode| mode.as_str());
                    BucketLock::ByDefault(format!("{time}, {mode}"))
                }
                None if lock.object_lock_enabled() == Some(&ObjectLockEnabled::Enabled) => {
                    BucketLock::Possible
                }
                None => BucketLock::Never,
            }
        });
        Ok(said.or_none("ObjectLockConfigurationNotFoundError", BucketLock::Never))
    }

    /// The rules that are in force.
    pub(in crate::store) fn rules(&self) -> Result<Said<Vec<BucketRule>>> {
        let url = self.bucket_url();
        let request = self
            .connection
            .client()
            .get_bucket_lifecycle_configuration();
        let answer = self.answer(request.bucket(self.connection.bucket()).send())?;
        let said = sort(
            answer,
            self.connection.tried("ask about the rules of", &url),
        )?;
        let said = said.map(|told| {
            let rules = told.rules().iter();
            let rules = rules.filter(|rule| *rule.status() == ExpirationStatus::Enabled);
            rules.map(rule_of).collect()
        });
        Ok(said.or_none("NoSuchLifecycleConfiguration", Vec::new()))
    }

    /// Puts a body that is not what it is said to be; whether the store says that it saw that. A
    /// refusal for another reason is none of this.
    pub(in crate::store) fn refuses(
        &self,
        name: &ObjectName,
        wrong: WrongBody,
    ) -> Result<Said<bool>> {
        let url = self.connection.url(name);
        let body = ByteStream::from_static(b"stillpoint tries what becomes of a wrong body");
        let request = self.connection.put_request(name).body(body);
        let answer = self.answer(async {
            match wrong {
                WrongBody::Signature => request.customize().interceptor(OtherByte).send().await,
                WrongBody::Crc32 => request.checksum_crc32("AAAAAA==").send().await,
                WrongBody::Md5 => request.content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await,
            }
        })?;
        match &answer {
            Err(refused) if says_other_sum(refused.code().unwrap_or_default()) => {
                Ok(Said::Told(true))
            }
            _ => Ok(sort(answer, self.connection.tried("put", &url))?.map(|_| false)),
        }
    }

    /// Puts a name twice, on the condition that it is free.
    pub(in crate::store) fn condition(&self, name: &ObjectName) -> Result<Condition> {
        match self.put_if_free(name)? {
            Some(Said::Told(())) => {}
            _ => return Ok(Condition::Refused),
        }
        Ok(match self.put_if_free(name)? {
            None => Condition::Kept,
            Some(Said::Told(())) => Condition::Ignored,
            Some(_) => Condition::Refused,
        })
    }

    /// `None`: the name is taken.
    fn put_if_free(&self, name: &ObjectName) -> Result<Option<Said<()>>> {
        let url = self.connection.url(name);
        let request = self.connection.put_request(name).if_none_match("*");
        let body = ByteStream::from_static(b"1");
        match self.answer(request.body(body).send())? {
            Err(SdkError::ServiceError(refusal)) if refusal.raw().status().as_u16() == 412 => {
                Ok(None)
            }
            answer => Ok(Some(
                sort(answer, self.connection.tried("put", &url))?.map(drop),
            )),
        }
    }

    /// Puts an object into a class of storage, and says which class it is in then.
    pub(in crate::store) fn put_in_class(
        &self,
        name: &ObjectName,
        class: &str,
    ) -> Result<Said<String>> {
        let url = self.connection.url(name);
        let request = self.connection.put_request(name);
        let request = request.body(ByteStream::from_static(b"1"));
        let request = request.storage_class(StorageClass::from(class));
        let answer = self.answer(request.send())?;
        match sort(answer, self.connection.tried("put", &url))? {
            Said::Told(_) => {}
            other => return Ok(other.map(|_| String::new())),
        }
        let request = self
            .connection
            .client()
            .head_object()
            .bucket(self.connection.bucket());
        let answer = self.answer(request.key(self.connection.key(name)).send())?;
        let said = sort(answer, self.connection.tried("look at", &url))?;
        Ok(said.map(|told| {
            let class = told.storage_class().map(StorageClass::as_str);
            class.unwrap_or("STANDARD").to_owned()
        }))
    }

    /// Deletes every version of these objects; returns how many are left, or what is said instead
    /// of an answer.
    pub(in crate::store) fn delete_versions(&self, names: &[ObjectName]) -> Result<Said<usize>> {
        let mut left = 0;
        for name in names {
            let (url, key) = (self.connection.url(name), self.connection.key(name));
            let request = self
                .connection
                .client()
                .list_object_versions()
                .bucket(self.connection.bucket());
            let request = request.prefix(&key).max_keys(MOST_VERSIONS);
            let answer = self.answer(request.send())?;
            let found = match sort(answer, self.connection.tried("list the versions of", &url))? {
                Said::Told(found) => found,
                other => return Ok(other.map(|_| 0)),
            };
            let versions = found.versions().iter();
            let versions = versions.map(|one| (one.key(), one.version_id()));
            let markers = found.delete_markers().iter();
            let markers = markers.map(|one| (one.key(), one.version_id()));
            for (_, id) in versions.chain(markers).filter(|(at, _)| *at == Some(&key)) {
                let request = self
                    .connection
                    .client()
                    .delete_object()
                    .bucket(self.connection.bucket());
                let request = request.key(&key).set_version_id(id.map(str::to_owned));
                let gone = self.answer(request.send())?;
                left += usize::from(gone.is_err());
            }
        }
        Ok(Said::Told(left))
    }

    /// Puts a small object as the settings say, with this checksum.
    pub(in crate::store) fn put_small(&self, name: &ObjectName) -> Result<()> {
        self.runtime
            .wait(self.connection.put_whole(name, Blob::from_static(b"1")))
    }
}

/// Whether a code of a refusal says that the body is not what was signed or summed.
fn says_other_sum(code: &str) -> bool {
    const CODES: [&str; 6] = [
        "BadDigest",
        "InvalidDigest",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
        "SignatureDoesNotMatch",
        "ChecksumMismatch",
    ];
    CODES.iter().any(|word| word.eq_ignore_ascii_case(code))
}

fn rule_of(rule: &LifecycleRule) -> BucketRule {
    let filter = rule.filter();
    let and = filter.and_then(|filter| filter.and());
    #[expect(deprecated, reason = "old rules say it there")]
    let of_old = rule.prefix();
    let prefix = filter.and_then(|filter| filter.prefix());
    let prefix = prefix
        .or_else(|| and.and_then(|and| and.prefix()))
        .or(of_old);
    let labelled = filter.is_some_and(|filter| filter.tag().is_some())
        || and.is_some_and(|and| !and.tags().is_empty());
    let expires = rule
        .expiration()
        .and_then(|end| match (end.days(), end.date()) {
            (Some(days), _) => Some(format!("{} after they were put", counted(days, "day"))),
            (None, Some(_)) => Some("on a day that it names".to_owned()),
            _ => None,
        });
    let moves = rule.transitions().iter();
    let moves = moves.filter_map(|one| Some(one.storage_class()?.as_str().to_owned()));
    let versions = rule.noncurrent_version_expiration();
    BucketRule {
        id: rule.id().unwrap_or_default().to_owned(),
        prefix: prefix.unwrap_or_default().to_owned(),
        labelled,
        expires,
        moves: moves.collect(),
        versions_expire: versions.and_then(|versions| versions.noncurrent_days()),
    }
}

/// Changes a byte of a body after it was signed.
#[derive(Debug)]
struct OtherByte;

impl Intercept for OtherByte {
    fn name(&self) -> &'static str {
        "OtherByte"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let request = context.request_mut();
        let mut bytes = request.body().bytes().unwrap_or_default().to_vec();
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 1;
        }
        *request.body_mut() = SdkBody::from(bytes);
        Ok(())
    }
}
