//! Which hooks are run, and how.

use super::invalid::wrong;
use crate::engine::{HookSettings, OnHookFailure};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a source that goes before the file sets. `None`: it leaves that to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenHooks {
    /// The script that holds applications still.
    pub prescript: Option<PathBuf>,
    /// The script that lets them go on.
    pub postscript: Option<PathBuf>,
    /// How long each may take.
    pub timeout: Option<Duration>,
    /// What follows when they are missing, unfit, or fail.
    pub on_failure: Option<OnHookFailure>,
}

/// The table `[hooks]` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HookTable {
    prescript: Option<PathBuf>,
    postscript: Option<PathBuf>,
    timeout: Option<String>,
    on_failure: Option<OnFailureWord>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnFailureWord {
    Filesystem,
    Fail,
}

impl GivenHooks {
    /// Whether anything is set.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

impl HookTable {
    /// The hooks to run: as `given`, then as in this table of the file at `path`, then the
    /// defaults.
    pub(super) fn settings(&self, path: &Path, given: &GivenHooks) -> Result<HookSettings> {
        let file = self;
        let usual = HookSettings::default();
        let timeout = match (given.timeout, &file.timeout) {
            (Some(timeout), _) => timeout,
            (None, Some(text)) => parse_hook_time(text)
                .map_err(|why| wrong(path, &format!("hooks.timeout: {why}")))?,
            (None, None) => usual.timeout,
        };
        let script = |given: &Option<PathBuf>, file: &Option<PathBuf>, usual: PathBuf| {
            match (given, file) {
                // A relative path on the command line is relative to the working directory.
                (Some(given), _) => std::path::absolute(given)
                    .map_err(|error| Error::io("name the hook", given, error)),
                (None, Some(script)) => absolute_in(path, script),
                (None, None) => Ok(usual),
            }
        };
        let on_failure = file.on_failure.map(|word| match word {
            OnFailureWord::Filesystem => OnHookFailure::Filesystem,
            OnFailureWord::Fail => OnHookFailure::Fail,
        });
        Ok(HookSettings {
            prescript: script(&given.prescript, &file.prescript, usual.prescript)?,
            postscript: script(&given.postscript, &file.postscript, usual.postscript)?,
            timeout,
            on_failure: given.on_failure.or(on_failure).unwrap_or(usual.on_failure),
        })
    }
}

/// A script that the file at `path` names: there is no directory that a relative path could mean.
fn absolute_in(path: &Path, script: &Path) -> Result<PathBuf> {
    if script.is_relative() {
        let why = format!("hooks: {}: give the whole path", script.display());
        return Err(wrong(path, &why).with_hint("a path that begins with / is meant"));
    }
    Ok(script.into())
}

/// Parses how long a hook may take.
///
/// # Errors
/// It is no time, or out of range.
pub fn parse_hook_time(text: &str) -> std::result::Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&time) {
        Ok(time)
    } else {
        Err("a hook may take from 1s to 1h".into())
    }
}
