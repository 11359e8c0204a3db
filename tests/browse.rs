//! Files and trees of snapshots: what a path of the host leads to, and copies of trees.

mod alike;
mod attached;
mod by_command;
mod copies;
mod hostile;
mod lost_files;
mod requests;
mod resolving;
mod shot;
mod stage;
