//! `ls`: what is at a path in a snapshot. Lines are written as they are found, so that a tree of
//! any size takes little memory.

use super::args::{Common, LsArgs};
use super::browse::{find_manifest, find_scope};
use super::context;
use super::output::write_on;
use super::progress::ProgressDisplay;
use super::signals;
use crate::engine::{BrowseOptions, Event, ListOutcome, ListRequest, Monitor, list_tree};
use crate::error::{Error, ErrorKind, Result};
use crate::report::Report;
use crate::report::ls::{TreeListing, line, mounts};
use crate::store::Vault;
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Bytes of text that are written at once.
const PIECE: usize = 16 << 10;

pub fn run(args: &LsArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    if args.what.path.is_none() && args.inside.disk.is_none() {
        let manifest = find_manifest(&vault, &args.what, &args.inside, progress)?;
        return Ok(mounts(&manifest));
    }
    let listed = list(args, common, &vault, progress);
    let asked = vault.requests();
    if let Some(asked) = asked {
        progress.tell(Event::Asked(asked));
    }
    let mut report = listed?;
    if let Value::Object(document) = &mut report.json {
        document.insert("requests".into(), json!(asked));
    }
    // Lines that programs read have nothing else among them.
    for line in std::mem::take(&mut report.text).lines() {
        progress.tell(Event::Warning(line.to_owned()));
    }
    Ok(report)
}

fn list(
    args: &LsArgs,
    common: &Common,
    vault: &Arc<Vault>,
    progress: &ProgressDisplay,
) -> Result<Report> {
    let manifest = find_manifest(vault, &args.what, &args.inside, progress)?;
    let path = args.what.path.as_deref().unwrap_or(Path::new("/"));
    context::need_root()?;
    vault.need_to_read()?;
    let options = BrowseOptions {
        vault,
        manifest: &manifest,
        scope: find_scope(vault, &manifest, &args.inside)?,
        run_dir: &common.run_dir,
    };
    let request = ListRequest {
        path,
        recursive: args.recursive,
    };
    let mut listing = TreeListing::new(&manifest, path);
    let mut lines = Lines::default();
    let listed = list_tree(&options, &request, progress, &mut |entry| {
        match common.json {
            true => listing.add(&entry, path),
            false => lines.add(&line(&entry, path, args.long))?,
        }
        Ok(())
    });
    match listed {
        _ if lines.reader_is_gone => Ok(listing.report(&ListOutcome::default())),
        listed => {
            let listed = listed?;
            lines.write()?;
            Ok(listing.report(&listed))
        }
    }
}

/// Lines on their way to standard output.
#[derive(Default)]
struct Lines {
    text: String,
    reader_is_gone: bool,
}

impl Lines {
    fn add(&mut self, line: &str) -> Result<()> {
        self.text.push_str(line);
        self.text.push('\n');
        match self.text.len() {
            0..PIECE => Ok(()),
            _ => self.write(),
        }
    }

    /// # Errors
    /// Nobody reads any more: the walk is to end.
    fn write(&mut self) -> Result<()> {
        let text = std::mem::take(&mut self.text);
        if write_on(std::io::stdout().as_fd(), &text, &signals::check)? {
            return Ok(());
        }
        self.reader_is_gone = true;
        let what = "the reader of the list is gone";
        Err(Error::io(
            "write",
            Path::new("standard output"),
            nix::errno::Errno::EPIPE.into(),
        )
        .context(what)
        .with_kind(ErrorKind::Failed))
    }
}
