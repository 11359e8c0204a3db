//! The arguments of `init`.

use crate::format::{BlockDedup, Compression};
use crate::model::LockRule;
use crate::store::Location;
use clap::{Args, ValueEnum};
use std::str::FromStr;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint init /backup/vault --name production\n  \
    stillpoint init s3://bucket/prefix --encrypt --password-file /root/vault.key\n  \
    stillpoint init s3://bucket/fleet --dedup vault\n  \
    stillpoint init s3://bucket/prefix --lock compliance:30d"
)]
pub struct InitArgs {
    /// An empty directory or one that is not there yet, s3://bucket/prefix, or a name from the
    /// configuration
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    #[arg(value_name = "VAULT")]
    pub place: String,
    /// The vault's name, 1 to 64 characters
    #[arg(long, default_value = "vault")]
    pub name: String,
    /// What it is for
    #[arg(long)]
    pub description: Option<String>,
    /// Encrypt it: only who has a passphrase or key of it can read it. What --password-file says is
    /// the first one; else the terminal is asked
    #[arg(long)]
    pub encrypt: bool,
    /// What people call the first passphrase or key; anyone who sees the vault can read it
    #[arg(long, default_value = "first", requires = "encrypt")]
    pub label: String,
    /// Lock what snapshots need in the bucket, against everybody (compliance) or all but whom it
    /// lets pass (governance), for so many days: compliance:30d. The bucket must have object lock
    #[arg(long, value_name = "MODE:DAYS")]
    pub lock: Option<LockRule>,
    /// How what is stored is packed: auto, lz4, zstd, zstd:LEVEL (-7 to 19), none
    #[arg(long, default_value = "auto", allow_hyphen_values = true)]
    pub compression: CompressionChoice,
    /// Across what equal blocks are stored once: the snapshots of one disk, or all that is in the
    /// vault, whichever host has stored it
    #[arg(long, value_enum, default_value = "disk", value_name = "WHAT")]
    pub dedup: DedupArg,
}

/// Across what equal blocks are stored once.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DedupArg {
    /// The snapshots of one disk
    Disk,
    /// Everything in the vault: for many machines of one image
    Vault,
}

impl From<DedupArg> for BlockDedup {
    fn from(across: DedupArg) -> Self {
        match across {
            DedupArg::Disk => Self::Disk,
            DedupArg::Vault => Self::Vault,
        }
    }
}

/// How a new vault shall pack.
#[derive(Clone, Copy, Debug)]
pub enum CompressionChoice {
    /// By what suits its place.
    Auto,
    /// In this way.
    Chosen(Compression),
}

impl CompressionChoice {
    /// The compression for a vault at this place.
    pub fn resolve(self, place: &Location) -> Compression {
        match self {
            Self::Chosen(compression) => compression,
            Self::Auto => place.usual_compression(),
        }
    }
}

impl FromStr for CompressionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Chosen),
        }
    }
}
