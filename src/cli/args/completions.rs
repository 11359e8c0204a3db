//! The arguments of `completions`.

use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    stillpoint completions bash >/usr/share/bash-completion/completions/stillpoint\n  \
    stillpoint completions zsh >/usr/local/share/zsh/site-functions/_stillpoint\n  \
    stillpoint completions fish >/etc/fish/completions/stillpoint.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: ShellArg,
}

/// The shells in which completion is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShellArg {
    Bash,
    Zsh,
    Fish,
}
