//! The arguments of `schema`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint schema snapshot\n  stillpoint schema job status")]
pub struct SchemaArgs {
    /// A command, or error, detach or notification; none given: all, by command
    #[arg(num_args = 0..=2)]
    pub command: Vec<String>,
}
