//! A vault in an object store that speaks S3. It rests on little: whole objects that are put by one
//! request, got, listed and deleted one by one. It must never use several parts, conditional
//! requests, bulk deletes or bodies without a length, nor believe an ETag: stores disagree about
//! them.

mod bucket;
mod connect;
mod credentials;
mod failure;
mod patience;
mod runtime;
mod settings;
mod wire;

pub use bucket::{BucketLock, BucketRule, Condition, Said, Versioning, WrongBody};
pub use settings::{CredentialSource, Patience, PutChecksum, S3Place, S3Settings};

use super::name::ObjectName;
use super::object_store::{Blob, Capabilities, ObjectInfo, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::model::RequestCounts;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{Object, StorageClass};
use base64_simd::STANDARD as BASE64;
use failure::{Tried, archived, broken, failure};
use jiff::Timestamp;
use md5::{Digest, Md5};
use runtime::Runtime;
use std::sync::Arc;
use wire::Wire;

/// Most objects of a page of a listing.
const PAGE: i32 = 1000;
/// Most bytes that an object may have: a segment, and a little.
const MOST_PUT: usize = 40 << 20;

/// A vault in S3.
pub struct S3Store {
    place: S3Place,
    client: Client,
    runtime: Runtime,
    wire: Arc<Wire>,
}

/// What an answer says of the object's length.
struct Got {
    body: ByteStream,
    /// Of this answer.
    length: u64,
    /// Of the whole object.
    whole: u64,
}

impl S3Store {
    /// A store at a place. Nothing is asked of it yet.
    pub fn open(place: S3Place) -> Result<Self> {
        let runtime = Runtime::start()?;
        let wire = Arc::<Wire>::default();
        let client = runtime.wait(connect::client(&place.settings, Arc::clone(&wire)))?;
        Ok(Self {
            place,
            client,
            runtime,
            wire,
        })
    }

    fn key(&self, name: &ObjectName) -> String {
        match self.place.prefix.as_str() {
            "" => name.as_str().to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn url(&self, name: &ObjectName) -> String {
        format!("s3://{}/{}", self.place.bucket, self.key(name))
    }

    fn tried<'a>(&'a self, verb: &'static str, url: &'a str) -> Tried<'a> {
        Tried {
            verb,
            url,
            bucket: &self.place.bucket,
        }
    }

    async fn page(
        &self,
        prefix: &str,
        token: Option<String>,
        most: i32,
    ) -> std::result::Result<Page, ListError> {
        let listing = self.client.list_objects_v2();
        let listing = listing.bucket(&self.place.bucket).prefix(prefix);
        let listing = listing.max_keys(most).set_continuation_token(token);
        listing.send().await
    }

    /// How long an object is.
    async fn head(&self, name: &ObjectName) -> Result<u64> {
        let url = self.url(name);
        let tried = self.tried("look at", &url);
        let request = self.client.head_object().bucket(&self.place.bucket);
        let answer = request.key(self.key(name)).send().await;
        let answer = answer.map_err(|error| failure(&error, tried))?;
        let length = answer.content_length().and_then(|n| u64::try_from(n).ok());
        length.ok_or_else(|| broken("the answer has no length", tried))
    }

    /// Asks for an object, or the part of it that `range` says.
    async fn request(&self, name: &ObjectName, range: Option<String>) -> Result<Got> {
        let url = self.url(name);
        let tried = self.tried("get", &url);
        let request = self.client.get_object().bucket(&self.place.bucket);
        let answer = request.key(self.key(name)).set_range(range).send().await;
        let answer = answer.map_err(|error| match error.as_service_error() {
            Some(GetObjectError::InvalidObjectState(state)) => {
                let class = state.storage_class().map(StorageClass::as_str);
                archived(
                    class.or(self.place.settings.storage_class.as_deref()),
                    tried,
                )
            }
            _ => failure(&error, tried),
        })?;
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
    async fn read(&self, name: &ObjectName, got: Got, into: &mut Vec<u8>) -> Result<()> {
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

    fn other_part(&self, name: &ObjectName) -> Error {
        let url = self.url(name);
        broken(
            "another part came than was asked for",
            self.tried("get", &url),
        )
    }

    async fn put_whole(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let url = self.url(name);
        let request = self.client.put_object().bucket(&self.place.bucket);
        let mut request = request
            .key(self.key(name))
            .content_length(bytes.len() as i64);
        match self.place.settings.checksums {
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
        let answer = answer.map_err(|error| failure(&error, self.tried("put", &url)));
        answer.map(drop)
    }

    async fn list_below(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        let url = self.url(prefix);
        let tried = self.tried("list", &url);
        let below = format!("{}/", self.key(prefix));
        let mut token = None;
        loop {
            let page = self.page(&below, token.clone(), PAGE).await;
            let page = page.map_err(|error| failure(&error, tried))?;
            for object in page.contents() {
                if let Some(info) = self.info(object, tried)? {
                    each(info)?;
                }
            }
            let next = next_page(&page, tried)?;
            if next.is_none() {
                return Ok(());
            }
            if next == token {
                return Err(broken("the listing goes round in circles", tried));
            }
            token = next;
        }
    }

    /// What a listing says of an object; `None`: it is none of the vault's.
    fn info(&self, object: &Object, tried: Tried<'_>) -> Result<Option<ObjectInfo>> {
        let key = object.key().unwrap_or_default();
        let name = match self.place.prefix.as_str() {
            "" => Some(key),
            prefix => key
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('/')),
        };
        let Some(name) = name.and_then(|name| ObjectName::parse(name).ok()) else {
            return Ok(None);
        };
        let size = object.size().and_then(|size| u64::try_from(size).ok());
        let modified = object.last_modified().and_then(timestamp);
        match (size, modified) {
            (Some(size), Some(modified)) => Ok(Some(ObjectInfo {
                name,
                size,
                modified,
            })),
            _ => Err(broken(
                format!("{name} is listed without size or time"),
                tried,
            )),
        }
    }
}

type Page = aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
type ListError = aws_sdk_s3::error::SdkError<
    aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Error,
    aws_smithy_runtime_api::client::orchestrator::HttpResponse,
>;

/// Where a listing goes on. One that was cut short and does not say where is an error: what is
/// missing from it would be taken for lost, or for garbage.
fn next_page(page: &Page, tried: Tried<'_>) -> Result<Option<String>> {
    let token = page
        .next_continuation_token()
        .filter(|token| !token.is_empty());
    match (page.is_truncated(), token) {
        (Some(true), Some(token)) => Ok(Some(token.to_owned())),
        (Some(false), _) => Ok(None),
        (None, _) if page.contents().len() < PAGE as usize => Ok(None),
        _ => {
            let what = format!(
                "cannot list {}: the store cuts the listing short and does not say where it goes \
                 on",
                tried.url
            );
            Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("nothing was done; this store cannot keep a vault")
                .at(tried.verb, tried.url))
        }
    }
}

/// The length of the whole object in `bytes 0-9/100`.
fn total(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.parse().ok()
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), time.subsec_nanos().try_into().ok()?).ok()
}

/// Whether an error may mean that an object is shorter than what was asked for.
fn may_be_short(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Archived)
}

fn cut_short(name: &ObjectName) -> Error {
    Error::new(ErrorKind::Damaged, format!("{name} is cut short"))
}

impl ObjectStore for S3Store {
    fn location(&self) -> String {
        match self.place.prefix.as_str() {
            "" => format!("s3://{}", self.place.bucket),
            prefix => format!("s3://{}/{prefix}", self.place.bucket),
        }
    }

    fn capabilities(&self) -> Capabilities {
        // Four segments on their way take 128 MiB; eight manifests as much.
        Capabilities {
            puts: 4,
            gets: 8,
            confirms: true,
        }
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        if bytes.len() > MOST_PUT {
            let what = format!("{name} has {} bytes: too many for one request", bytes.len());
            return Err(Error::new(ErrorKind::Failed, what));
        }
        self.runtime.wait(self.put_whole(name, bytes))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        self.runtime.wait(async {
            let got = self.request(name, None).await?;
            if got.length > limit {
                let what = format!(
                    "{name} is {} bytes long, more than an object of its kind can be",
                    got.length
                );
                return Err(Error::new(ErrorKind::Damaged, what));
            }
            let mut bytes = Vec::new();
            self.read(name, got, &mut bytes).await?;
            Ok(bytes.into())
        })
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let mut bytes = Vec::new();
        self.get_range_into(name, offset, length, &mut bytes)?;
        Ok(bytes.into())
    }

    fn get_range_into(
        &self,
        name: &ObjectName,
        offset: u64,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let end = offset.checked_add(length).ok_or_else(|| cut_short(name))?;
        if length == 0 {
            into.clear();
            let whole = self.size(name)?;
            return if end > whole {
                Err(cut_short(name))
            } else {
                Ok(())
            };
        }
        self.runtime.wait(async {
            let range = format!("bytes={offset}-{}", end - 1);
            let got = self.request(name, Some(range)).await?;
            if got.whole < end {
                return Err(cut_short(name));
            }
            if got.length != length {
                return Err(self.other_part(name));
            }
            self.read(name, got, into).await
        })
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        if length == 0 {
            return Ok((Blob::new(), self.size(name)?));
        }
        self.runtime.wait(async {
            let tail = self.request(name, Some(format!("bytes=-{length}"))).await;
            let got = match tail {
                // Some fail where an object is shorter than the tail that is asked for.
                Err(error) if may_be_short(&error) => match self.head(name).await {
                    Ok(0) => return Ok((Blob::new(), 0)),
                    Ok(whole) if whole < length => {
                        self.request(name, Some(format!("bytes=0-{}", whole - 1)))
                            .await?
                    }
                    _ => return Err(error),
                },
                other => other?,
            };
            let whole = got.whole;
            if got.length != length.min(whole) {
                return Err(self.other_part(name));
            }
            let mut bytes = Vec::new();
            self.read(name, got, &mut bytes).await?;
            Ok((bytes.into(), whole))
        })
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.runtime.wait(async {
            match self.head(name).await {
                // An answer to HEAD has no body that says why: a store that wants fewer requests
                // says so to a GET.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    let one = self.request(name, Some("bytes=0-0".into())).await;
                    match one {
                        Err(why) if why.kind() == ErrorKind::Damaged => Ok(0),
                        one => one.map(|one| one.whole),
                    }
                }
                other => other,
            }
        })
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        self.runtime.wait(self.list_below(prefix, each))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let url = self.url(name);
        let request = self.client.delete_object().bucket(&self.place.bucket);
        let answer = self.runtime.wait(request.key(self.key(name)).send());
        match answer.map_err(|error| failure(&error, self.tried("delete", &url))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn requests(&self) -> Option<RequestCounts> {
        Some(self.wire.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: Tried<'_> = Tried {
        verb: "list",
        url: "s3://bucket/vault/index",
        bucket: "bucket",
    };

    #[test]
    fn a_listing_that_was_cut_short_is_not_taken_as_whole() {
        let page = || Page::builder();
        let next = |page: Page| next_page(&page, TRIED);
        assert_eq!(next(page().is_truncated(false).build()).unwrap(), None);
        assert_eq!(next(page().build()).unwrap(), None);
        let more = page().is_truncated(true).next_continuation_token("on");
        assert_eq!(next(more.build()).unwrap().as_deref(), Some("on"));
        let full = vec![Object::builder().build(); PAGE as usize];
        for cut in [
            page().is_truncated(true).build(),
            page()
                .is_truncated(true)
                .next_continuation_token("")
                .build(),
            // A full page that does not say whether it is all.
            page().set_contents(Some(full)).build(),
        ] {
            assert_eq!(next(cut).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn the_whole_length_stands_behind_the_slash() {
        assert_eq!(total("bytes 0-9/100"), Some(100));
        assert_eq!(total("bytes 0-9/*"), None);
        assert_eq!(total("bytes 0-9"), None);
    }
}
