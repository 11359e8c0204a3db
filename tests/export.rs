//! Reading snapshots in place.

mod clients;
mod hostile;
mod image;
mod overlay;
mod reader;
mod room;
mod server;
mod wire;
