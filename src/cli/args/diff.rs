//! The arguments of `diff`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint diff 01KA latest --disk vda\n  \
    stillpoint diff 01KA latest --map")]
pub struct DiffArgs {
    /// The older snapshot
    pub one: String,
    /// The newer snapshot
    pub two: String,
    /// Which disk, if they have several
    #[arg(long)]
    pub disk: Option<String>,
    /// Draw the disk, and where on it they differ
    #[arg(long)]
    pub map: bool,
}
