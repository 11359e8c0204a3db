//! Vaults in S3: real servers over HTTP, whole cycles by the command line, and every fault that a
//! network and a store may have, against a model.

mod archived;
mod check;
mod collected;
pub mod confirmed;
mod costs;
mod cycle;
mod faults;
mod fleet;
mod instance;
mod keys;
mod killed;
mod lock_forged;
mod locked;
mod named;
mod odd_keys;
mod policies;
pub mod proxy;
mod rados;
mod recover_beside;
mod recover_early;
mod recovered;
mod refused;
mod requests;
pub mod server;
mod stolen;
mod stopped;
mod suite;
