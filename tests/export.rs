//! Reading snapshots in place.

mod image;
mod reader;
