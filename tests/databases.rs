//! Real database servers under a transactional load, on disks that are snapshotted meanwhile: what
//! was acknowledged before the cut is there when a server is started on the copy, nothing is there
//! by halves, and the example hooks do what they say. It must never use a server that is not its
//! own, nor a socket that others can reach.

mod cuts;
mod dispatch;
mod hooks;
mod ledger;
mod mariadb;
mod mongodb;
mod postgresql;
mod redis;
mod server;
