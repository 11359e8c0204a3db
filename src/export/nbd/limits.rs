//! What clients may take of a server.

use std::time::Duration;

/// What clients may take of a server.
#[derive(Clone, Copy, Debug)]
pub struct NbdLimits {
    /// How many there may be at once.
    pub clients: usize,
    /// How long one may take until it has agreed with the server.
    pub handshake: Duration,
    /// How long a request may take to arrive once its first byte has.
    pub arrival: Duration,
}

impl Default for NbdLimits {
    fn default() -> Self {
        Self {
            clients: 16,
            handshake: Duration::from_secs(15),
            arrival: Duration::from_secs(30),
        }
    }
}
