//! The arguments of `delete`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint delete 01KA")]
pub struct DeleteArgs {
    /// Snapshots
    #[arg(required = true)]
    pub ids: Vec<String>,
}
