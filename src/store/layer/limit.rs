//! Keeps a store's share of a network small: bytes a second each way, and requests a second. What
//! is over the limit waits; nothing is refused.

use super::stop::{Stop, StopCheck};
use super::{Around, Layered, StoreCall};
use crate::error::Result;
use crate::model::{Bytes, Meter};
use crate::store::object_store::ObjectStore;
use std::sync::Arc;
use std::time::Instant;

/// Most that is used; `None`: there is no limit. Zero counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes put a second.
    pub upload: Option<Bytes>,
    /// Bytes got a second.
    pub download: Option<Bytes>,
    /// Requests a second, of all sorts.
    pub requests: Option<u64>,
}

/// The limits, and what was used of them.
pub struct Limiter {
    upload: Option<Meter>,
    download: Option<Meter>,
    requests: Option<Meter>,
    stop: Stop,
}

/// A store that is used slowly.
pub type LimitStore = Layered<Limiter>;

impl LimitStore {
    /// `limits` says how slowly.
    pub fn new(inner: Arc<dyn ObjectStore>, limits: StoreLimits) -> Self {
        let bytes = |limit: Option<Bytes>| limit.map(|most| Meter::new(most.0));
        let layer = Limiter {
            upload: bytes(limits.upload),
            download: bytes(limits.download),
            requests: limits.requests.map(Meter::new),
            stop: Stop::new(|| Ok(())),
        };
        Self { inner, layer }
    }

    /// The same; `stop` is asked while an operation waits, and its error ends the wait. Deletes do
    /// not wait any more then.
    #[must_use]
    pub fn until(mut self, stop: StopCheck) -> Self {
        self.layer.stop = Stop::new(stop);
        self
    }
}

impl Around for Limiter {
    fn around(
        &self,
        call: StoreCall<'_>,
        operation: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        // A run that is not heard of is over: its beats wait for nothing that is large.
        let meter = match call.verb {
            _ if call.name.is_session() => None,
            "put" => self.upload.as_ref(),
            _ => self.download.as_ref(),
        };
        let now = Instant::now();
        let waits = [
            self.requests.as_ref().map(|meter| meter.take(now, 1)),
            meter.map(|meter| meter.take(now, call.bytes)),
        ];
        if let Some(wait) = waits.into_iter().flatten().max()
            && let Err(stop) = self.stop.pause(wait)
            && call.verb != "delete"
        {
            return Err(stop);
        }
        let moved = operation()?;
        // What was not known before is paid for by those that come next.
        if let Some(meter) = meter {
            meter.take(Instant::now(), moved.saturating_sub(call.bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::store::{Blob, MemoryStore, ObjectName};

    #[test]
    fn who_is_stopped_does_not_wait_for_his_turn() {
        let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let slow = StoreLimits {
            requests: Some(1),
            ..StoreLimits::default()
        };
        let store = LimitStore::new(Arc::clone(&inner), slow)
            .until(|| Err(Error::new(ErrorKind::Interrupted(2), "stopped")));
        // Longer than any test may take.
        let meter = store.layer.requests.as_ref().unwrap();
        meter.take(Instant::now(), 100_000);
        let name = ObjectName::parse("index/x").unwrap();
        inner.put(&name, Blob::from_static(b"x")).unwrap();
        let error = store.get(&name, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
        store.delete(&name).unwrap();
        assert_eq!(inner.size(&name).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn beats_do_not_wait_behind_segments() {
        let slow = StoreLimits {
            upload: Some(Bytes(1)),
            ..StoreLimits::default()
        };
        let store = LimitStore::new(Arc::new(MemoryStore::new()), slow)
            .until(|| Err(Error::new(ErrorKind::Interrupted(2), "it has waited")));
        let meter = store.layer.upload.as_ref().unwrap();
        meter.take(Instant::now(), 4096);
        let segment = ObjectName::parse("segments/aa/x").unwrap();
        let beat = ObjectName::parse("sessions/x-00000001").unwrap();
        store.put(&beat, Blob::from_static(b"beat")).unwrap();
        let error = store.put(&segment, Blob::from_static(b"x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
    }

    #[test]
    fn each_way_has_a_limit_of_its_own() {
        let store = LimitStore::new(
            Arc::new(MemoryStore::new()),
            StoreLimits {
                upload: Some(Bytes(1 << 40)),
                download: Some(Bytes(1 << 40)),
                requests: Some(1 << 40),
            },
        );
        let used = |meter: &Option<Meter>| meter.as_ref().unwrap().used_until();
        let before = [used(&store.layer.upload), used(&store.layer.download)];
        let name = ObjectName::parse("index/x").unwrap();
        store.put(&name, Blob::from_static(&[7; 4096])).unwrap();
        assert!(used(&store.layer.upload) > before[0]);
        assert_eq!(used(&store.layer.download), before[1]);
        let requests = used(&store.layer.requests);
        assert_eq!(store.get(&name, 4096).unwrap().len(), 4096);
        assert!(used(&store.layer.download) > before[1]);
        assert!(used(&store.layer.requests) > requests);
    }
}
