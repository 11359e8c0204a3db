//! The `stillpoint` command: parse, run, exit code. It must never do work of its own.

fn main() -> std::process::ExitCode {
    stillpoint::cli::main()
}
