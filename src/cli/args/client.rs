//! The arguments of `client`. A token is a secret: it comes from a file or standard input, and
//! never stands on a command line, which every user of the host can read.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint client token --token-file /root/web-1.token\n  \
    stillpoint client activate --token-file /root/web-1.token\n  stillpoint client status"
)]
pub struct ClientArgs {
    #[command(subcommand)]
    pub action: ClientAction,
}

#[derive(Subcommand, Debug)]
pub enum ClientAction {
    /// Write a token by which hosts are activated, where the vault can be opened
    Token(Box<ClientTokenArgs>),
    /// Have this host snapshot itself into the vault of a token
    Activate(ClientActivateArgs),
    /// Say whether this host is activated, why not, and what to do; for monitors too
    #[command(after_help = "Example:\n  stillpoint client status --json\n\n\
        Exit code 0: it is activated, and nothing is overdue or has failed. 3: anything else.")]
    Status,
    /// Replace this program by another version of it; only one that no package manager has
    Update(ClientUpdateArgs),
    /// Take back what activation did here; the vault keeps all that it has
    #[command(after_help = "Example:\n  stillpoint client deactivate")]
    Deactivate,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint client token --vault main --token-file /root/web.token\n  \
    stillpoint client token --token-file - --plan \"daily --start 02:30 --every 1d \
    --retention 30d\" \
    | ssh root@web-1 stillpoint client activate --token-file -\n\n\
    Of an encrypted vault it holds a writer's key, unless --key-file names another: a host with it \
    takes snapshots, and reads no block. It is a secret: who has it can write to the vault, also \
    after it has expired, as long as the credentials in it are good. `stillpoint help clients` \
    tells all."
)]
pub struct ClientTokenArgs {
    /// Where to write it: a file that is not there yet, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// What the hosts call the vault [default: its name here, or main]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How long hosts can be activated by it: two days at most
    #[arg(long, default_value = "2d", value_name = "TIME")]
    #[arg(value_parser = humantime::parse_duration)]
    pub valid: Duration,
    /// The only host that it activates, by its host name [default: any]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The key or passphrase for the hosts [default: the vault's writer key]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Credentials for the hosts, one NAME=value a line [default: none, they find their own]
    #[arg(long, value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,
    /// The plan for the hosts, in the words of `plan create`; none: no plan
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    #[arg(default_value = "daily --start 02:30 --every 1d --jitter 1h")]
    pub plan: String,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint client activate --token-file /root/web-1.token\n  \
    stillpoint client activate --token-file - <web-1.token\n\n\
    Run again it does what is missing. What fails leaves this host as it was."
)]
pub struct ClientActivateArgs {
    /// A file with the token, which its owner alone can read; - is standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// Run the plan at once, too
    #[arg(long)]
    pub snapshot_now: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint client update --from /root/stillpoint --sha256 \
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n\n\
    The one before stays beside it, with .before at the end of its name."
)]
pub struct ClientUpdateArgs {
    /// The other program: a file
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Its SHA-256, in 64 hexadecimal digits
    #[arg(long, value_name = "HASH")]
    pub sha256: Option<String>,
    /// Let it be an older version
    #[arg(long)]
    pub allow_older: bool,
}
