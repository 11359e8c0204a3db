//! The options of `snapshot` that name hooks.

use crate::engine::OnHookFailure;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// What can be said of the hooks of the level application. What is not said here is taken from the
/// configuration file, and then from what is built in.
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
    #[arg(long, value_parser = hook_time, value_name = "TIME")]
    pub hook_timeout: Option<Duration>,
    /// When they are missing, unfit, or fail [default: filesystem]
    #[arg(long, value_enum)]
    pub on_hook_failure: Option<OnHookFailureArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHookFailureArg {
    /// Go on without them
    Filesystem,
    /// Take no snapshot
    Fail,
}

impl HookArgs {
    /// Whether anything was said.
    pub fn any(&self) -> bool {
        self.prescript.is_some()
            || self.postscript.is_some()
            || self.hook_timeout.is_some()
            || self.on_hook_failure.is_some()
    }
}

impl OnHookFailureArg {
    pub fn choice(self) -> OnHookFailure {
        match self {
            Self::Filesystem => OnHookFailure::Filesystem,
            Self::Fail => OnHookFailure::Fail,
        }
    }
}

pub fn hook_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&time) {
        Ok(time)
    } else {
        Err("a hook may take from 1s to 1h".into())
    }
}
