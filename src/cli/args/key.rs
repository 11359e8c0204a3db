//! The arguments of `key`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint key list --vault s3://bucket/prefix\n  \
    stillpoint key export --writer /etc/stillpoint/main.key"
)]
pub struct KeyArgs {
    #[command(subcommand)]
    pub action: KeyAction,
}

#[derive(Subcommand, Debug)]
pub enum KeyAction {
    /// List the keys of an encrypted vault; takes no key
    #[command(after_help = "Example:\n  stillpoint key list")]
    List,
    /// Have another passphrase or key file open the vault, too
    #[command(after_help = "Example:\n  stillpoint key add --label office \
        --new-password-file /root/office.key")]
    Add(NewKeyArgs),
    /// Take a key away; the one that is given stays, so that the last one never goes
    #[command(after_help = "Example:\n  stillpoint key remove 01KA")]
    Remove(KeyRemoveArgs),
    /// Put a new passphrase or key file in the place of the one that is given
    #[command(after_help = "Example:\n  stillpoint key change \
        --new-password-file /root/new.key")]
    Change(NewKeyArgs),
    /// Write a key for hosts: with it they take snapshots, and read no data of any
    #[command(after_help = "Example:\n  stillpoint key export --writer \
        /etc/stillpoint/main.key")]
    Export(KeyExportArgs),
}

#[derive(Args, Debug)]
pub struct NewKeyArgs {
    /// A file with the new passphrase or key, which its owner alone can read; else the terminal is
    /// asked
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
    /// What people call it; anyone who sees the vault can read it
    #[arg(long, default_value = "key")]
    pub label: String,
}

#[derive(Args, Debug)]
pub struct KeyRemoveArgs {
    /// A key: its ID, or the start of it
    pub key: String,
}

#[derive(Args, Debug)]
pub struct KeyExportArgs {
    /// The file, which must not be there yet; its owner alone can read it
    #[arg(long, value_name = "FILE")]
    pub writer: PathBuf,
}
