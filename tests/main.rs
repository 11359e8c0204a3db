//! All tests that run the product as a whole, in one binary.

mod support;
mod track;
