//! The arguments of `lock`.

use crate::model::LockRule;
use clap::Args;

#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  stillpoint lock --dry-run\n  \
    stillpoint lock\n\n\
    Each snapshot is locked until the rule's time has passed since the store got it, and as long \
    as somebody keeps it; nothing for longer than the rule's time from now on and a quarter of it. \
    Run it each day, on the machine of the retention: hosts need no part in it.")]
pub struct LockArgs {
    /// Go by this rule, like compliance:30d, and not by the vault's own
    #[arg(long, value_name = "MODE:DAYS")]
    pub rule: Option<LockRule>,
    /// Say what would be locked, and lock nothing
    #[arg(long)]
    pub dry_run: bool,
}
