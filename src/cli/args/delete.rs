//! The arguments of `delete`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint delete 01KA\n  stillpoint delete 01KA --dry-run")]
pub struct DeleteArgs {
    /// Snapshots
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// Say whether they could be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}
