//! Reading snapshots in place.

pub mod authority;
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
mod tls;
mod volatile;
mod wire;
