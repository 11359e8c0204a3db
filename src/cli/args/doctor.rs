//! The arguments of `doctor`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint doctor\n  stillpoint doctor --freeze-test vda")]
pub struct DoctorArgs {
    /// Freeze and thaw, for an instant, everything mounted from these disks
    #[arg(long, value_name = "DISK", num_args = 1..)]
    pub freeze_test: Vec<String>,
}
