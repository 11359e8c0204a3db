//! What several test areas need. It must never leave anything behind.

pub mod tracked;
