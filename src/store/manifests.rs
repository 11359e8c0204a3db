//! Reading many manifests: several are fetched at once, and one is decoded at a time, in order.
//! A stored manifest has at most 16 MiB and a little, a decoded one takes up to some 116 MiB: it
//! must never hold more stored ones than are fetched at once, nor more than one decoded.

use super::catalog::{HashedManifest, SnapshotRef};
use super::object_store::{Blob, ObjectStore};
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, ManifestHash, ObjectKind};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Most manifests that are fetched at once.
const MOST_FETCHED: usize = 8;

/// Snapshots with their manifests, in the order in which they were named. The number that is
/// fetched ahead doubles with each manifest that is taken, so that a caller that takes only the
/// first one costs the store one request.
pub struct Manifests<'a> {
    vault: &'a Vault,
    rest: std::vec::IntoIter<SnapshotRef>,
    fetched: VecDeque<Fetched>,
    /// How many may be fetched now.
    ahead: usize,
    most: usize,
    fetchers: Option<Fetchers>,
    hash: Option<ManifestHash>,
}

/// A manifest on its way.
struct Fetched {
    snapshot: SnapshotRef,
    bytes: Receiver<Result<Blob>>,
}

/// A manifest to be fetched, and where it goes.
struct Request {
    snapshot: SnapshotRef,
    to: Sender<Result<Blob>>,
}

impl Vault {
    /// Reads the manifests of these snapshots, in their order.
    pub fn manifests(&self, snapshots: Vec<SnapshotRef>) -> Manifests<'_> {
        Manifests {
            vault: self,
            rest: snapshots.into_iter(),
            fetched: VecDeque::new(),
            ahead: 1,
            most: self.store.capabilities().gets.clamp(1, MOST_FETCHED),
            fetchers: None,
            hash: None,
        }
    }
}

impl Manifests<'_> {
    /// Requests as many as may be on their way.
    fn request(&mut self) -> Result<()> {
        if self.fetchers.is_none() && self.rest.len() > 0 {
            let count = self.most.min(self.rest.len());
            self.fetchers = Some(Fetchers::start(&self.vault.store, count)?);
        }
        while let Some(fetchers) = &self.fetchers
            && self.fetched.len() < self.ahead
            && let Some(snapshot) = self.rest.next()
        {
            let (to, bytes) = bounded(1);
            fetchers.request(Request {
                snapshot: snapshot.clone(),
                to,
            });
            self.fetched.push_back(Fetched { snapshot, bytes });
        }
        self.ahead = self.most.min(2 * self.ahead);
        Ok(())
    }

    fn take(&mut self) -> Option<(SnapshotRef, Result<Manifest>)> {
        let Fetched { snapshot, bytes } = self.fetched.pop_front()?;
        let lost = |_| {
            Err(Error::new(
                ErrorKind::Failed,
                "a reading thread ended early",
            ))
        };
        let bytes = bytes.recv().unwrap_or_else(lost);
        let read = bytes.and_then(|bytes| self.vault.decode_hashed(&snapshot, &bytes));
        Some((snapshot, self.note(read)))
    }

    fn note(&mut self, read: Result<HashedManifest>) -> Result<Manifest> {
        self.hash = None;
        let HashedManifest { manifest, hash } = read?;
        self.hash = Some(hash);
        Ok(manifest)
    }

    /// Which bytes the manifest is that was taken last; `None`: it could not be read.
    pub fn hash(&self) -> Option<&ManifestHash> {
        self.hash.as_ref()
    }
}

impl Iterator for Manifests<'_> {
    type Item = (SnapshotRef, Result<Manifest>);

    fn next(&mut self) -> Option<Self::Item> {
        // A host without a thread left can still read, one after another.
        if self.request().is_err() && self.fetched.is_empty() {
            let snapshot = self.rest.next()?;
            let read = self.vault.manifest_hashed(&snapshot);
            return Some((snapshot, self.note(read)));
        }
        self.take()
    }
}

/// The threads that fetch. Dropping them waits until all requests are done, so that the requests
/// that a store gets do not depend on which thread is faster.
struct Fetchers {
    requests: Option<Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

impl Fetchers {
    fn start(store: &Arc<dyn ObjectStore>, count: usize) -> Result<Self> {
        let (requests, requested) = unbounded::<Request>();
        let mut fetchers = Self {
            requests: Some(requests),
            threads: Vec::new(),
        };
        for _ in 0..count {
            let (store, requested) = (Arc::clone(store), requested.clone());
            let fetch = move || {
                for Request { snapshot, to } in requested {
                    let most = ObjectKind::Manifest.most_stored();
                    // An error here says that the caller has ended.
                    let _ = to.send(store.get(&snapshot.manifest, most));
                }
            };
            let thread = std::thread::Builder::new().name("manifest".into());
            let thread = thread.spawn(fetch).map_err(|error| {
                Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error)
            })?;
            fetchers.threads.push(thread);
        }
        Ok(fetchers)
    }

    fn request(&self, request: Request) {
        if let Some(requests) = &self.requests {
            // There are threads until the sender is dropped. The caller notices a lost request.
            let _ = requests.send(request);
        }
    }
}

impl Drop for Fetchers {
    fn drop(&mut self) {
        self.requests = None;
        for thread in self.threads.drain(..) {
            // A panicked thread has answered its request with nothing.
            let _ = thread.join();
        }
    }
}
