//! Jobs: records that are whole at any moment, runs that go on without their starter, and what can
//! be done with them from outside.

mod begun;
pub mod detached;
mod directory;
mod ended;
mod gate;
mod matrix;
mod records;
mod short;
