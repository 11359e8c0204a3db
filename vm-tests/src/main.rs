//! Stillpoint in virtual machines. Runs scenarios one after another, each with one verdict, and
//! lists them as `cargo test` does. It must never call a scenario good that did not run.

mod agent;
mod cache;
mod channel;
mod disk;
mod lab;
mod machine;
mod monitor;
mod product;
mod runner;
mod scenarios;
mod writelog;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tests of Stillpoint in virtual machines.
#[derive(Parser, Debug)]
struct Line {
    /// Only a subset that takes about a quarter of an hour
    #[arg(long)]
    fast: bool,
    /// List the scenarios and run none
    #[arg(long)]
    list: bool,
    /// Only with this kernel: 6.1, 6.12 or 7
    #[arg(long)]
    kernel: Option<String>,
    /// Keep the files of scenarios that went well, too
    #[arg(long)]
    keep: bool,
    /// Take away what each scenario proves: it is good only if it fails then
    #[arg(long = "break")]
    broken: bool,
    /// The program to test
    #[arg(long)]
    program: PathBuf,
    /// The project's own test program, to run some of its tests in guests
    #[arg(long)]
    test_program: Option<PathBuf>,
    /// Why no guest can be run here: everything is skipped, loudly
    #[arg(long)]
    skip_all: Option<String>,
    /// Scenarios with one of these in their name
    names: Vec<String>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    match runner::run(&line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the tests in virtual machines cannot be run: {error:#}");
            ExitCode::FAILURE
        }
    }
}
