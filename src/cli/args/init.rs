//! The arguments of `init`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint init /backup/vault --name production")]
pub struct InitArgs {
    /// An empty directory, or one that is not there yet
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub directory: String,
    /// The vault's name, 1 to 64 characters
    #[arg(long, default_value = "vault")]
    pub name: String,
    /// What it is for
    #[arg(long)]
    pub description: Option<String>,
}
