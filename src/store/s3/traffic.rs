//! What goes over the wire to a store in S3: each request by its kind, tries that failed and pages
//! of listings among them, the bytes of bodies, and what the store's clock said last.

use crate::model::{Bytes, RequestCounts};
use crate::sys::locked::LockExt;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use jiff::{SignedDuration, Timestamp};
use std::sync::Mutex;

/// What has gone over the wire so far.
#[derive(Debug, Default)]
pub(super) struct Wire(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    counts: RequestCounts,
    ahead: Option<SignedDuration>,
}

impl Wire {
    /// Notes a request that is about to be made.
    pub(super) fn asks(&self, request: &HttpRequest) {
        let mut seen = self.0.locked();
        let counts = &mut seen.counts;
        let query = request.uri().split_once('?').map_or("", |(_, query)| query);
        let lists = |word: &str| {
            let (key, _) = word.split_once('=').unwrap_or((word, ""));
            ["list-type", "versions"].contains(&key)
        };
        *match request.method() {
            "PUT" | "POST" => &mut counts.put,
            "HEAD" => &mut counts.size,
            "DELETE" => &mut counts.delete,
            _ if query.split('&').any(lists) => &mut counts.list,
            _ => &mut counts.get,
        } += 1;
    }

    /// Notes that an answer has begun.
    pub(super) fn answered(&self, answer: &HttpResponse) {
        let date = answer.headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        // It counts whole seconds: it may be past its middle.
        let date = date.and_then(|date| Timestamp::new(date.secs(), 500_000_000).ok());
        if let Some(date) = date {
            self.0.locked().ahead = Some(date.duration_since(Timestamp::now()));
        }
    }

    /// Notes bytes of a body that are handed to a connection.
    pub(super) fn sends(&self, bytes: u64) {
        self.0.locked().counts.sent_bytes += Bytes(bytes);
    }

    /// Notes bytes of a body that have come.
    pub(super) fn receives(&self, bytes: u64) {
        self.0.locked().counts.received_bytes += Bytes(bytes);
    }

    /// The sums so far.
    pub(super) fn counts(&self) -> RequestCounts {
        self.0.locked().counts
    }

    /// How far the store's clock was ahead of this host's when it last said its time, to half a
    /// second and the way of the answer.
    pub(super) fn ahead(&self) -> Option<SignedDuration> {
        self.0.locked().ahead
    }
}
