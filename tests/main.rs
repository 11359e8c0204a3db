//! All tests that run the product as a whole, in one binary.

#[cfg(test)]
mod support;
#[cfg(test)]
mod track;
