//! What a vault's store was asked, by kind: what a store far away sends its bill for.

use super::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Add;

/// Requests, each try of one that was tried again among them, and the bytes of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestCounts {
    /// Objects that were put.
    pub put: u64,
    /// Objects, or parts of them, that were asked for.
    pub get: u64,
    /// Objects whose size was asked for.
    pub size: u64,
    /// Pages of listings.
    pub list: u64,
    /// Objects that were deleted.
    pub delete: u64,
    /// Bytes sent.
    pub sent_bytes: Bytes,
    /// Bytes received.
    pub received_bytes: Bytes,
}

impl Add for RequestCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            put: self.put + other.put,
            get: self.get + other.get,
            size: self.size + other.size,
            list: self.list + other.list,
            delete: self.delete + other.delete,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
        }
    }
}

impl fmt::Display for RequestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} put, {} get, {} size, {} list, {} delete; {} sent, {} received",
            self.put,
            self.get,
            self.size,
            self.list,
            self.delete,
            self.sent_bytes,
            self.received_bytes
        )
    }
}
