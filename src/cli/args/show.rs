//! The arguments of `show`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint show latest")]
pub struct ShowArgs {
    /// A snapshot: its ID, the start of it, or latest
    pub id: String,
}
