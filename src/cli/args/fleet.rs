//! The arguments of `fleet`. No secret is among them: a token comes from a file.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    stillpoint fleet template hosts.csv\n  \
    stillpoint fleet apply hosts.csv --runner ssh --package stillpoint_0.1.0_amd64.deb \
    --token-file /root/main.token\n  \
    stillpoint fleet status hosts.csv --runner ssh")]
pub struct FleetArgs {
    #[command(subcommand)]
    pub action: FleetAction,
}

#[derive(Subcommand, Debug)]
pub enum FleetAction {
    /// Write an empty list of instances, as CSV
    Template(FleetTemplateArgs),
    /// Install and activate the instances of a list; what is done is only looked at
    Apply(FleetApplyArgs),
    /// Ask the instances of a list how they stand; for monitors too
    Status(FleetStatusArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint fleet template hosts.csv\n  \
    stillpoint fleet template >hosts.csv")]
pub struct FleetTemplateArgs {
    /// A file that is not there yet [default: print it]
    pub file: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    stillpoint fleet apply hosts.csv --runner ssh --package stillpoint_0.1.0_amd64.deb \
    --token-file /root/main.token\n  \
    stillpoint fleet apply hosts.csv --runner \
    'exec:ssh -o BatchMode=yes -J bastion root@{address} {command}' \
    --token-file '/root/tokens/{instance}.token' --at-once 20\n\n\
    What becomes of each instance stands in FILE.results as soon as it is known. Exit code 3: \
    some failed, or were not begun by --deadline; 1: all failed. The same command goes on. \
    `stillpoint help fleets` tells all.")]
pub struct FleetApplyArgs {
    #[command(flatten)]
    pub reach: FleetReachArgs,
    /// The token, a file of your own; with {instance}, {plan} or {vault} in its name: several
    #[arg(long, value_name = "FILE", conflicts_with = "remote_token_file")]
    pub token_file: Option<String>,
    /// Where on each instance its token lies already, for runners that send nothing
    #[arg(long, value_name = "FILE")]
    pub remote_token_file: Option<String>,
    /// What is installed where nothing is: a .deb, a .rpm, a .tar.gz or a program
    #[arg(long, value_name = "FILE")]
    pub package: Option<PathBuf>,
    /// How long each step may take on an instance
    #[arg(long, value_name = "TIME", default_value = "10m")]
    #[arg(value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint fleet status hosts.csv --runner ssh --json\n\n\
    Exit code 0: all are activated, and say that nothing is wrong. 3: anything else."
)]
pub struct FleetStatusArgs {
    #[command(flatten)]
    pub reach: FleetReachArgs,
    /// How long an instance may take to answer
    #[arg(long, value_name = "TIME", default_value = "1m")]
    #[arg(value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// How instances are reached.
#[derive(Args, Debug)]
pub struct FleetReachArgs {
    /// The list: CSV, as `fleet template` writes it
    pub file: PathBuf,
    /// What brings a command there: ssh, or exec: and a command line with placeholders
    #[arg(long, value_name = "RUNNER")]
    pub runner: String,
    /// Become root there by `sudo -n`
    #[arg(long)]
    pub sudo: bool,
    /// No instance is begun after this time; those under way end by --timeout [default: all are]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// So many instances at once
    #[arg(long, value_name = "N", default_value = "8")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub at_once: u16,
}
