//! The options of `snapshot` that name hooks.

use crate::config::{GivenHooks, parse_hook_time};
use crate::engine::OnHookFailure;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// The hooks of the level application. What is not given here is taken from the configuration file,
/// and then from the defaults.
#[derive(Args, Debug)]
#[command(next_help_heading = "Hooks, with --level application")]
pub struct HookArgs {
    /// The script that holds applications still [default: /tmp/prescript.sh]
    #[arg(long, value_name = "FILE")]
    pub prescript: Option<PathBuf>,
    /// The script that lets them go on [default: /tmp/postscript.sh]
    #[arg(long, value_name = "FILE")]
    pub postscript: Option<PathBuf>,
    /// How long each script may take [default: 30s]
    #[arg(long, value_parser = parse_hook_time, value_name = "TIME")]
    pub hook_timeout: Option<Duration>,
    /// When they are missing, unfit, or fail [default: filesystem]
    #[arg(long, value_enum)]
    pub on_hook_failure: Option<OnHookFailureArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnHookFailureArg {
    /// Go on without them
    Filesystem,
    /// Take no snapshot
    Fail,
}

impl HookArgs {
    /// What was given, as settings.
    pub fn given(&self) -> GivenHooks {
        GivenHooks {
            prescript: self.prescript.clone(),
            postscript: self.postscript.clone(),
            timeout: self.hook_timeout,
            on_failure: self.on_hook_failure.map(OnHookFailureArg::choice),
        }
    }
}

impl OnHookFailureArg {
    fn choice(self) -> OnHookFailure {
        match self {
            Self::Filesystem => OnHookFailure::Filesystem,
            Self::Fail => OnHookFailure::Fail,
        }
    }
}
