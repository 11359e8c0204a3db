//! `info`: what it says of a vault is what a slow count says, and what a collection then frees;
//! what it cannot read it tells.

mod damaged;
mod fleet;
mod grown;
mod late;
mod oracle;
mod room;
mod slow_count;
mod yard;
