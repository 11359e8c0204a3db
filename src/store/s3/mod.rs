//! A vault in an object store that speaks S3. It rests on little: whole objects that are put by one
//! request, got, listed and deleted one by one. It must never use several parts, conditional
//! requests, bulk deletes or bodies without a length, nor believe an ETag: stores disagree about
//! them.

mod bucket;
mod connect;
mod connection;
mod credentials;
mod failure;
mod listing;
mod locks;
mod no_credentials;
mod odd_keys;
mod runtime;
mod settings;
mod timeouts;
mod traffic;
mod versions;

pub use bucket::{BucketRule, Condition, Said, Versioning, WrongBody};
pub use connect::web_connector;
pub use settings::{CredentialSource, Patience, PutChecksum, S3Place, S3Settings};

use super::layer::{Retrier, RetryPolicy, StopCheck};
use super::object_name::ObjectName;
use super::object_store::{Blob, Capabilities, ObjectInfo, ObjectStore, VersionedStore};
use crate::error::{Error, ErrorKind, Result};
use crate::model::RequestCounts;
use connection::{Connection, PageAt};
use listing::list_below;
use runtime::Runtime;
use std::sync::Arc;
use traffic::Wire;

/// Most bytes that an object may have: a segment, and a little.
const MOST_PUT: usize = 40 << 20;

/// A vault in S3.
pub struct S3Store {
    connection: Connection,
    runtime: Runtime,
    wire: Arc<Wire>,
    /// Pages of a listing after the first: what was handed out cannot be taken back, so nobody
    /// above can begin the listing again.
    later_pages: Retrier,
}

impl S3Store {
    /// A store at a place. Nothing is asked of it yet.
    pub fn open(place: S3Place) -> Result<Self> {
        Self::open_until(place, || Ok(()))
    }

    /// The same; nobody waits long for it once `stop` says to stop.
    pub fn open_until(place: S3Place, stop: StopCheck) -> Result<Self> {
        let runtime = Runtime::start(stop)?;
        let wire = Arc::<Wire>::default();
        let connection = runtime.wait(Connection::open(place, Arc::clone(&wire)))?;
        Ok(Self {
            connection,
            runtime,
            wire,
            later_pages: Retrier::new(RetryPolicy::DISTANT, stop).of_one_that_answers(),
        })
    }
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
        self.connection.location()
    }

    fn storage_class(&self) -> Option<&str> {
        self.connection.storage_class()
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
        self.runtime.wait(self.connection.put_whole(name, bytes))
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.put(name, bytes)
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        self.runtime.wait(async {
            let got = self.connection.request(name, None).await?;
            if got.length > limit {
                let what = format!(
                    "{name} is {} bytes long, more than an object of its kind can be",
                    got.length
                );
                return Err(Error::new(ErrorKind::Damaged, what));
            }
            let mut bytes = Vec::new();
            self.connection.read(name, got, &mut bytes).await?;
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
            let got = self.connection.request(name, Some(range)).await?;
            if got.whole < end {
                return Err(cut_short(name));
            }
            if got.length != length {
                return Err(self.connection.other_part(name));
            }
            self.connection.read(name, got, into).await
        })
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        if length == 0 {
            return Ok((Blob::new(), self.size(name)?));
        }
        self.runtime.wait(async {
            let tail = self
                .connection
                .request(name, Some(format!("bytes=-{length}")))
                .await;
            let got = match tail {
                // Some fail where an object is shorter than the tail that is asked for.
                Err(error) if may_be_short(&error) => match self.connection.head(name).await {
                    Ok(0) => return Ok((Blob::new(), 0)),
                    Ok(whole) if whole < length => {
                        self.connection
                            .request(name, Some(format!("bytes=0-{}", whole - 1)))
                            .await?
                    }
                    _ => return Err(error),
                },
                other => other?,
            };
            let whole = got.whole;
            if got.length != length.min(whole) {
                return Err(self.connection.other_part(name));
            }
            let mut bytes = Vec::new();
            self.connection.read(name, got, &mut bytes).await?;
            Ok((bytes.into(), whole))
        })
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.runtime.wait(async {
            match self.connection.head(name).await {
                // An answer to HEAD has no body that says why: a store that wants fewer requests,
                // or other keys, says so to a GET.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Failed) =>
                {
                    let one = self
                        .connection
                        .request(name, Some("bytes=0-0".into()))
                        .await;
                    match one {
                        Err(why) if why.kind() == ErrorKind::Damaged => Ok(0),
                        // What lies in an archive is there: a HEAD tells how long it is.
                        Err(why) if why.kind() == ErrorKind::Archived => {
                            self.connection.head(name).await
                        }
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
        let fetch = |ask: PageAt<'_>| {
            let page = || self.runtime.wait(self.connection.page(ask));
            match ask.token {
                None => page(),
                Some(_) => self.later_pages.attempt("list", page),
            }
        };
        list_below(&self.connection, prefix, &fetch, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.runtime.wait(self.connection.delete(name))
    }

    fn versioned(&self) -> Option<&dyn VersionedStore> {
        Some(self)
    }

    fn requests(&self) -> Option<RequestCounts> {
        Some(self.wire.counts())
    }
}
