//! Vaults in S3: real servers over HTTP, whole cycles by the command line, and every fault that a
//! network and a store may have, against a model.

pub mod confirmed;
mod cycle;
mod faults;
mod killed;
mod named;
mod proxy;
mod rados;
mod refused;
mod requests;
pub mod server;
mod suite;
