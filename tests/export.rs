//! Reading snapshots in place.

mod clients;
mod hostile;
mod image;
mod reader;
mod server;
mod wire;
