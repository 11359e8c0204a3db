//! Freezing filesystems for an instant, and thawing them whatever happens.
