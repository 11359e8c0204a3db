//! What comes of waiting for a client: what it said, or that there is nobody to talk to.

/// What came of waiting for a client.
pub type Heard<T> = Result<T, Gone>;

/// The client is gone, or has not kept a deadline: there is nobody to talk to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;
