//! A host as a client of a vault: the token that activates it, the files that activation writes,
//! the note of them, and the program that is replaced by another version. It asks no vault, and
//! must never print a token or a secret in one.

mod host_files;
mod machine;
mod note;
mod program;
mod settings_text;
#[cfg(test)]
mod tests;
mod token;
mod token_text;

pub use host_files::{
    ClientFile, FileToPut, PlacedFile, TakenFile, hash_of, place, standing, take_away,
};
pub use note::{ClientNote, ClientStage, DEFAULT_CLIENT_NOTE, plan_part};
pub use program::{InstallOptions, ProgramSwap, RunVersion, belongs_to_packages, swap_program};
pub use settings_text::{BlockFound, BlockPlaces, SettingsText, block};
pub use token::{
    ClientToken, LONGEST_VALID, TokenLimits, TokenPlan, TokenSecret, TokenVault, TokenVaultSettings,
};
pub use token_text::{MOST_TOKEN, decode, encode};
