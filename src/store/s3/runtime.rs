//! The threads on which requests to a distant store make progress. No other file of the house knows
//! that there are any: whoever calls a store waits for it.

use crate::error::{Error, ErrorKind, Result};
use crate::store::layer::StopCheck;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::time::timeout;

/// Threads that move bytes of all connections. Hashing is done by those that wait.
const THREADS: usize = 2;

/// How often is asked whether to stop.
const ASKED: Duration = Duration::from_millis(100);
/// What is on its way when the run is told to stop may still arrive: a manifest, say.
const LAST_SECONDS: Duration = Duration::from_secs(5);

/// An asynchronous runtime.
pub(super) struct Runtime {
    stop: StopCheck,
    /// `None` while it is dropped.
    inner: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Starts the threads. Nobody waits long once `stop` says to stop.
    pub(super) fn start(stop: StopCheck) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("s3")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start threads for the network").with_source(error)
        })?;
        Ok(Self {
            stop,
            inner: Some(runtime),
        })
    }

    /// Waits for a future. Many threads may wait at once.
    pub(super) fn wait<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.wait_at_most(LAST_SECONDS, future)
    }

    fn wait_at_most<T>(
        &self,
        last: Duration,
        future: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let wait = async {
            let mut future = pin!(future);
            let mut noticed = None;
            loop {
                if let Ok(done) = timeout(ASKED, future.as_mut()).await {
                    return done;
                }
                if let Err(stop) = (self.stop)()
                    && noticed.get_or_insert_with(Instant::now).elapsed() >= last
                {
                    return Err(stop);
                }
            }
        };
        let runtime = self.inner.as_ref();
        runtime
            .expect("the runtime lives as long as this")
            .block_on(wait)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.inner.take() {
            // A name server that does not answer keeps its thread for long.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[test]
    fn nobody_waits_for_ever_once_it_is_told_to_stop() {
        let stopped = || Err(Error::new(ErrorKind::Interrupted(2), "stopped"));
        let runtime = Runtime::start(stopped).unwrap();
        let hangs = runtime.wait_at_most(Duration::ZERO, pending::<Result<()>>());
        assert_eq!(hangs.unwrap_err().kind(), ErrorKind::Interrupted(2));
        assert_eq!(runtime.wait(ready(Ok(7))).unwrap(), 7);
        // What is on its way arrives.
        let late = async {
            tokio::time::sleep(3 * ASKED).await;
            Ok(8)
        };
        assert_eq!(runtime.wait(late).unwrap(), 8);
    }
}
