//! How a vault writes its objects: the version that they bear, and how they are packed.

use super::VERSION;
use super::codec::Compression;

/// How a vault's objects are written. Reading needs none of it: each object says what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// The vault's version of the format, which its objects bear: who opens the vault reads them.
    pub version: u16,
    /// How they are packed.
    pub compression: Compression,
}

impl Style {
    /// That of this version, unless the user chose otherwise.
    pub const PRESENT: Self = Self {
        version: VERSION,
        compression: Compression::Lz4,
    };
}
