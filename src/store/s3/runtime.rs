//! The threads on which requests to a distant store make progress. No other file of the house knows
//! that there are any: whoever calls a store waits for it.

use crate::error::{Error, ErrorKind, Result};
use std::future::Future;
use tokio::runtime::Builder;

/// Threads that move bytes of all connections. Hashing is done by those that wait.
const THREADS: usize = 2;

/// An asynchronous runtime.
pub(super) struct Runtime {
    /// `None` while it is dropped.
    inner: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Starts the threads.
    pub(super) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("s3")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start threads for the network").with_source(error)
        })?;
        Ok(Self {
            inner: Some(runtime),
        })
    }

    /// Waits for a future. Many threads may wait at once.
    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        let runtime = self.inner.as_ref();
        runtime
            .expect("the runtime lives as long as this")
            .block_on(future)
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
