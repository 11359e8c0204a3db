//! The configuration file: what an operator settles once for a host. What the command line says
//! goes before it. It must never be taken from a file that others than root can write to.

use super::args::{HookArgs, OnHookFailureArg, hook_time};
use crate::engine::HookSettings;
use crate::error::{Error, ErrorKind, IoContext, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where it is unless another one was named.
const USUAL: &str = "/etc/stillpoint/config.toml";
/// A configuration is no longer than this, in bytes.
const MOST: u64 = 64 << 10;

/// What may stand in it.
const KEYS: &str = "there may be a table [hooks] in it, with prescript, postscript, timeout and \
                    on_failure";

/// The file's content.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    hooks: HookConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookConfig {
    prescript: Option<PathBuf>,
    postscript: Option<PathBuf>,
    timeout: Option<String>,
    on_failure: Option<OnHookFailureArg>,
}

impl Config {
    /// Reads the one that was named, or else the usual one, if it is there.
    pub fn read(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(USUAL));
        let mut options = File::options();
        // Or a named pipe would be waited for.
        let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!(
                    "there is no configuration {}; nothing was done",
                    path.display()
                );
                let hint = "make it, or name another with --config or STILLPOINT_CONFIG";
                return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint));
            }
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let stat = file.metadata().io_context("look at", path)?;
        if !stat.is_file() {
            return Err(wrong(path, "it is no regular file"));
        }
        if stat.uid() != 0 || stat.mode() & 0o022 != 0 {
            return Err(wrong(path, "others than root can write to it")
                .with_hint(format!("chown root: {0} && chmod 0644 {0}", path.display())));
        }
        let mut text = String::new();
        file.take(MOST + 1)
            .read_to_string(&mut text)
            .io_context("read", path)?;
        if text.len() as u64 > MOST {
            return Err(wrong(path, "it is longer than 64 KiB"));
        }
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
            wrong(path, &format!("line {line}: {}", error.message())).with_hint(KEYS)
        })
    }

    /// The hooks that are meant by the command line, this file, and what is built in.
    pub fn hooks(&self, args: &HookArgs, named: Option<&Path>) -> Result<HookSettings> {
        let path = named.unwrap_or(Path::new(USUAL));
        let usual = HookSettings::default();
        let file = &self.hooks;
        let timeout = match (args.hook_timeout, &file.timeout) {
            (Some(timeout), _) => timeout,
            (None, Some(text)) => {
                hook_time(text).map_err(|why| wrong(path, &format!("hooks.timeout: {why}")))?
            }
            (None, None) => usual.timeout,
        };
        let choose = |said: &Option<PathBuf>, settled: &Option<PathBuf>, usual: PathBuf| {
            if let Some(said) = said {
                // What is typed is meant from where it is typed.
                let whole = std::path::absolute(said);
                return whole.map_err(|error| Error::io("name the hook", said, error));
            }
            match settled {
                Some(settled) if settled.is_relative() => {
                    let why = format!("hooks: {}: give the whole path", settled.display());
                    Err(wrong(path, &why).with_hint("a path that begins with / is meant"))
                }
                Some(settled) => Ok(settled.clone()),
                None => Ok(usual),
            }
        };
        Ok(HookSettings {
            prescript: choose(&args.prescript, &file.prescript, usual.prescript)?,
            postscript: choose(&args.postscript, &file.postscript, usual.postscript)?,
            timeout,
            on_failure: args
                .on_hook_failure
                .or(file.on_failure)
                .map_or(usual.on_failure, OnHookFailureArg::choice),
        })
    }
}

fn wrong(path: &Path, why: &str) -> Error {
    let message = format!(
        "the configuration {}: {why}; nothing was done",
        path.display()
    );
    Error::new(ErrorKind::Usage, message)
}
