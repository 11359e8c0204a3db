//! The disks of this host: which there are, what lives on them, how their blocks are read.

pub mod read;
