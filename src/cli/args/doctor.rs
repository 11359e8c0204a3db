//! The arguments of `doctor`.

use clap::Args;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint doctor\n  stillpoint doctor --freeze-test vda\n  \
    stillpoint doctor --restorable"
)]
pub struct DoctorArgs {
    /// Freeze and thaw, for an instant, everything mounted from these disks
    #[arg(long, value_name = "DISK", num_args = 1..)]
    pub freeze_test: Vec<String>,
    /// Look instead for what would keep this machine, restored, from booting elsewhere
    #[arg(long, conflicts_with = "freeze_test")]
    pub restorable: bool,
}
