//! Time-outs by progress: a request fails when nothing has moved for some time, however long the
//! whole takes. It stands between the SDK and its HTTP client, where the bytes go by and are
//! counted. How long each is: `settings.rs`; that of connecting is set in `connect.rs`.

use super::settings::Patience;
use super::traffic::Wire;
use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Most bytes that are handed to a connection at once: what counts as one step of progress.
const STEP: usize = 128 << 10;
/// Most bytes of an answer that says why something failed.
const MOST_REFUSAL: u64 = 1 << 20;
/// Most bytes of any other: a whole object, or a page of a listing.
const MOST_ANSWER: u64 = 64 << 20;

type BoxError = Box<dyn Error + Send + Sync>;

/// An HTTP client whose requests fail when nothing moves.
#[derive(Debug)]
pub(super) struct PatientClient {
    inner: SharedHttpClient,
    patience: Patience,
    wire: Arc<Wire>,
}

impl PatientClient {
    /// `inner` has a time-out of its own for connections.
    /// What goes by is noted on `wire`.
    pub(super) fn new(inner: SharedHttpClient, patience: Patience, wire: Arc<Wire>) -> Self {
        Self {
            inner,
            patience,
            wire,
        }
    }
}

impl HttpClient for PatientClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(PatientConnector {
            inner: self.inner.http_connector(settings, components),
            patience: self.patience,
            wire: Arc::clone(&self.wire),
        })
    }
}

#[derive(Debug)]
struct PatientConnector {
    inner: SharedHttpConnector,
    patience: Patience,
    wire: Arc<Wire>,
}

impl HttpConnector for PatientConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (patience, wire) = (self.patience, Arc::clone(&self.wire));
        wire.asks(&request);
        let sent = Arc::new(AtomicU64::new(0));
        let length = request.body().content_length().unwrap_or_default();
        let counted = Arc::clone(&sent);
        let request = request.map(|body| {
            let (counted, wire) = (Arc::clone(&counted), Arc::clone(&wire));
            match body.content_length() {
                // What has no length is none of ours, and what has no bytes needs no count.
                None | Some(0) => body,
                Some(left) => SdkBody::from_body_1_x(CountedBody {
                    inner: body,
                    step: Bytes::new(),
                    left,
                    sent: counted,
                    wire,
                }),
            }
        });
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            let mut answer = std::pin::pin!(answer);
            loop {
                let now = sent.load(Ordering::Relaxed);
                let most = match now == length {
                    true => patience.answer,
                    false => patience.stalled,
                };
                match timeout(most, answer.as_mut()).await {
                    Ok(answer) => {
                        return answer.map(|answer| {
                            wire.answered(&answer);
                            timed(answer, patience.stalled, &wire)
                        });
                    }
                    // Something has moved meanwhile.
                    Err(_) if sent.load(Ordering::Relaxed) != now => {}
                    Err(_) => return Err(ConnectorError::timeout(Box::new(Stalled(most)))),
                }
            }
        })
    }
}

/// Puts a limit on the time between two pieces of an answer, and on its length.
fn timed(answer: HttpResponse, most: Duration, wire: &Arc<Wire>) -> HttpResponse {
    let left = match answer.status().is_success() {
        true => MOST_ANSWER,
        false => MOST_REFUSAL,
    };
    answer.map(|body| {
        SdkBody::from_body_1_x(TimedBody {
            inner: body,
            most,
            left,
            clock: Box::pin(sleep(most)),
            wire: Arc::clone(wire),
        })
    })
}

/// Nothing has moved for so long.
#[derive(Debug)]
pub(super) struct Stalled(Duration);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing was heard of it for {} s", self.0.as_secs_f32())
    }
}

impl Error for Stalled {}

/// A body that is sent, in steps that are counted.
struct CountedBody {
    inner: SdkBody,
    step: Bytes,
    left: u64,
    sent: Arc<AtomicU64>,
    wire: Arc<Wire>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while self.step.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.step = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let most = self.step.len().min(STEP);
        let step = self.step.split_to(most);
        self.left = self.left.saturating_sub(step.len() as u64);
        self.sent.fetch_add(step.len() as u64, Ordering::Relaxed);
        self.wire.sends(step.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(step))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body that is received.
struct TimedBody {
    inner: SdkBody,
    most: Duration,
    left: u64,
    clock: Pin<Box<Sleep>>,
    wire: Arc<Wire>,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = &mut *self;
        match Pin::new(&mut body.inner).poll_frame(context) {
            Poll::Pending => {
                ready!(body.clock.as_mut().poll(context));
                Poll::Ready(Some(Err(Box::new(Stalled(body.most)))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(left) = body.left.checked_sub(length) else {
                    return Poll::Ready(Some(Err("the answer is too long".into())));
                };
                body.left = left;
                body.wire.receives(length);
                body.clock.as_mut().reset(Instant::now() + body.most);
                Poll::Ready(Some(Ok(frame)))
            }
            end => end,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.inner)
    }
}
