//! All tests that run the product as a whole, in one binary.

// Helpers of tests are test code too: `cfg(test)` is what tells the lints so.
#[cfg(test)]
mod alarm;
#[cfg(test)]
mod boots;
#[cfg(test)]
mod browse;
#[cfg(test)]
mod check;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod client;
#[cfg(test)]
mod collect;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crowded;
#[cfg(test)]
mod cycle;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod databases;
#[cfg(test)]
mod dedup;
#[cfg(test)]
mod device;
#[cfg(test)]
mod drills;
#[cfg(test)]
mod export;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod freeze;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod info;
#[cfg(test)]
mod instant;
#[cfg(test)]
mod job;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod old_formats;
#[cfg(test)]
mod packages;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod props;
#[cfg(test)]
mod prune;
#[cfg(test)]
mod read;
#[cfg(test)]
mod recover;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod restorable;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod s3;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod support;
#[cfg(test)]
mod throttle;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod track;
