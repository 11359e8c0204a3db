//! The arguments of `list`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint list --disk vda --tag why=upgrade")]
pub struct ListArgs {
    /// Only snapshots with this disk (name, or serial number)
    #[arg(long)]
    pub disk: Option<String>,
    /// Only snapshots of this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only snapshots with this label
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
}
