//! `gc`: nothing that a reported snapshot needs is ever deleted, whoever else is at work; what
//! nothing needs goes in the end; it may be killed at any moment.

pub mod actors;
mod asleep;
mod beside;
mod by_command;
mod by_hand;
pub mod fleet;
mod late;
mod model_check;
mod moved;
mod peek;
mod rewriting;
pub mod stage;
mod two_places;
mod world;
mod year;
