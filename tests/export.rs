//! Reading snapshots in place.

mod clients;
mod hostile;
mod image;
mod killed;
mod options;
mod overlay;
mod power;
mod reader;
mod room;
mod server;
mod volatile;
mod wire;
