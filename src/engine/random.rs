//! Random numbers for picking samples.

use crate::model::ObjectId;

/// A random number.
pub fn random() -> u64 {
    let ObjectId(bytes) = ObjectId::generate();
    u64::from_le_bytes(bytes[..8].try_into().expect("16 bytes are more than 8"))
}
