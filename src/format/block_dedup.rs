//! Across what equal blocks are stored once: what writers are told by `vault.json`. No reader needs
//! it, and nothing may rest on all writers having been told the same: who may write can change it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Across what equal blocks are stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockDedup {
    /// The snapshots of one disk.
    Disk,
    /// Everything in the vault.
    Vault,
}

impl fmt::Display for BlockDedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Vault => "vault",
        })
    }
}
