//! The sequences: what happens, in which order, for each command.
