//! Footers of segments that were read lately, in bounded memory. Many threads that want one footer
//! fetch it once.

use crate::error::Result;
use crate::format::Footer;
use crate::model::ObjectId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Most slots that the footers in the cache may have together: 56 bytes each, so 14 MiB.
const CACHE_SLOTS: usize = 1 << 18;

/// A footer, or why it could not be had; empty while it is on its way. A thread that wants it
/// meanwhile waits for the thread that fetches it.
type Flight = OnceLock<Result<Arc<Footer>>>;

#[derive(Default)]
struct Cached {
    footers: HashMap<ObjectId, Arc<Flight>>,
    /// Those that were fetched; one on its way is in neither this nor the sum.
    oldest_first: VecDeque<ObjectId>,
    slots: usize,
}

/// Footers of segments read lately.
#[derive(Default)]
pub(super) struct FooterCache(Mutex<Cached>);

impl FooterCache {
    /// The footer of a segment, from the cache or by `fetch`. A failure is returned to all threads
    /// that waited for it and is not kept: the next one fetches again.
    pub(super) fn get(
        &self,
        id: ObjectId,
        fetch: impl FnOnce() -> Result<Footer>,
    ) -> Result<Arc<Footer>> {
        let flight = Arc::clone(self.lock().footers.entry(id).or_default());
        let mut fetched_here = false;
        let footer = flight.get_or_init(|| {
            fetched_here = true;
            fetch().map(Arc::new)
        });
        if fetched_here {
            self.lock().keep(id, footer.as_deref().ok());
        }
        match footer {
            Ok(footer) => Ok(Arc::clone(footer)),
            Err(error) => Err(error.retold()),
        }
    }

    /// Whether a segment's footer is in the cache. One that is on its way is not.
    pub(super) fn has(&self, id: ObjectId) -> bool {
        let cached = self.lock();
        let flight = cached.footers.get(&id);
        matches!(flight.and_then(|flight| flight.get()), Some(Ok(_)))
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cached {
    /// Keeps a footer that was fetched, and forgets the oldest where there are too many; `None`:
    /// it could not be fetched.
    fn keep(&mut self, id: ObjectId, footer: Option<&Footer>) {
        let Some(footer) = footer else {
            self.footers.remove(&id);
            return;
        };
        self.slots += footer.slots().len();
        self.oldest_first.push_back(id);
        while self.slots > CACHE_SLOTS && self.oldest_first.len() > 1 {
            let Some(oldest) = self.oldest_first.pop_front() else {
                break;
            };
            let gone = self.footers.remove(&oldest);
            if let Some(Ok(footer)) = gone.as_deref().and_then(OnceLock::get) {
                self.slots -= footer.slots().len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::format::{Packed, Sealer, Trailer};
    use std::sync::atomic::{AtomicU64, Ordering};

    const THREADS: usize = 8;

    /// A footer of one slot.
    fn footer() -> (ObjectId, Footer) {
        let sealer = Sealer::without_keys();
        let mut packed = Packed::default();
        let mut writer = sealer.create_segment(Vec::new()).unwrap();
        let chunk = sealer.encode_chunk(&[7; 100], &mut packed).unwrap();
        writer.push(&chunk, &packed);
        let (id, bytes) = writer.finish();
        let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
        let tail = &bytes[trailer.footer_offset as usize..];
        (id, sealer.open_footer(tail, trailer, id).unwrap())
    }

    /// Lets many ask for one footer at once; returns what each got and how often it was fetched.
    /// The first fetch ends when all have asked, or when a second one begins.
    fn ask_at_once(broken: bool) -> (Vec<Result<usize>>, u64) {
        let (id, footer) = footer();
        let cache = FooterCache::default();
        let fetches = AtomicU64::new(0);
        let fetch = || {
            fetches.fetch_add(1, Ordering::SeqCst);
            // Each who asks holds the flight, and the cache does.
            let all = || cache.lock().footers.get(&id).map(Arc::strong_count) > Some(THREADS);
            while !all() && fetches.load(Ordering::SeqCst) == 1 {
                std::thread::yield_now();
            }
            match broken {
                true => Err(Error::new(ErrorKind::Io, "the test says so")),
                false => Ok(footer.clone()),
            }
        };
        let ask = || cache.get(id, fetch).map(|footer| footer.slots().len());
        let answers = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            let answers = threads.into_iter().map(|thread| thread.join().unwrap());
            answers.collect()
        });
        (answers, fetches.load(Ordering::SeqCst))
    }

    #[test]
    fn many_who_want_one_footer_fetch_it_once() {
        let (answers, fetches) = ask_at_once(false);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(1))));
        assert_eq!(fetches, 1);
    }

    #[test]
    fn all_who_waited_are_told_of_a_failure() {
        let (answers, fetches) = ask_at_once(true);
        for answer in answers {
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains("the test says so"), "{error}");
        }
        assert_eq!(fetches, 1);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let (id, footer) = footer();
        let cache = FooterCache::default();
        let fail = || Err(Error::new(ErrorKind::Io, "the test says so"));
        assert!(cache.get(id, fail).is_err());
        assert_eq!(cache.get(id, || Ok(footer)).unwrap().slots().len(), 1);
        assert_eq!(cache.lock().slots, 1);
    }
}
