//! Reading snapshots in place.

mod image;
