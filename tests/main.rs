//! All tests that run the product as a whole, in one binary.
#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking that it failed"
)]

mod device;
mod support;
