//! `restore`: writes disks of a snapshot to devices or files.

use super::args::{Common, FormatArg, RestoreArgs};
use super::confirm::Asking;
use super::context;
use super::find_snapshot::{find_disk, find_snapshot};
use super::may_lack;
use super::progress::ProgressDisplay;
use super::signals;
use crate::engine::{
    Destination, Event, Monitor, Overwritten, RestoreOptions, could_restore, is_stdout,
    refused_to_overwrite, restore,
};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::Manifest;
use crate::model::Cancel;
use crate::report::{self, Report};
use crate::store::Vault;
use crate::sys::locked::LockExt;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{fstat, stat};
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Held while targets are checked before a detached job says that it runs. The check opens them,
/// and the restore itself must not find them in use by it. True: the restore has begun, and a check
/// that comes late is not made any more.
static LOOKING: Mutex<bool> = Mutex::new(false);

pub fn run(args: &RestoreArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    check(args, common)?;
    let vault = context::open_vault(common)?;
    context::asking(&vault, progress, || put_back(args, &vault, progress))
}

fn put_back(args: &RestoreArgs, vault: &Vault, progress: &ProgressDisplay) -> Result<Report> {
    vault.need_to_read()?;
    let wanted: Vec<&str> = wanted(args).collect();
    let manifest = vault.manifest(&find_snapshot(vault, &args.id, &wanted, progress)?)?;
    *LOOKING.locked() = true;
    let options = options(args, vault, &manifest)?;
    let begun = Instant::now();
    let asking = Asking {
        progress,
        yes: args.yes,
    };
    let restored = restore(vault, &manifest, &options, &asking)?;
    let mut report = report::restore::report(&manifest, &restored, begun.elapsed());
    may_lack::warn_of_one(vault, &manifest, &mut report);
    Ok(report)
}

/// The disks that were named.
fn wanted(args: &RestoreArgs) -> impl Iterator<Item = &str> {
    let named = args.map.iter().map(|(disk, _)| disk).chain(&args.disk);
    named.map(String::as_str)
}

/// Whether the disk's bytes go to standard output, so that text must not.
pub fn to_stdout(args: &RestoreArgs) -> bool {
    args.target.as_deref().is_some_and(is_stdout)
}

/// Refuses what is wrong with the arguments and can be seen without asking any disk.
pub fn check(args: &RestoreArgs, common: &Common) -> Result<()> {
    if !to_stdout(args) {
        return Ok(());
    }
    let refused = |what: &str, hint: &str| {
        Err(Error::new(ErrorKind::Usage, format!("{what}; nothing was written")).with_hint(hint))
    };
    if common.json {
        return refused(
            "- with --json: standard output can hold the disk or the document, not both",
            "leave --json out, or restore to a file",
        );
    }
    if args.detach {
        return refused(
            "- with --detach: what goes on without its starter has no standard output",
            "leave --detach out, or restore to a file",
        );
    }
    if goes_nowhere() {
        return refused(
            "standard output is closed",
            "redirect it, or pipe it into a program: ... - > FILE",
        );
    }
    if std::io::stdout().is_terminal() {
        return refused(
            "a disk's bytes are not for a terminal",
            "redirect it, or pipe it into a program: ... - > FILE",
        );
    }
    Ok(())
}

/// Whether standard output was closed when the program began: what takes its place then (Rust's
/// runtime, `sys/pal/unix`, opens it) is /dev/null for reading and writing. A shell's redirection
/// there is for writing only.
fn goes_nowhere() -> bool {
    let out = std::io::stdout();
    let flags = fcntl(&out, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    let both = flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR);
    let (null, out) = (stat("/dev/null"), fstat(&out));
    both && null.is_ok_and(|null| out.is_ok_and(|out| out.st_rdev == null.st_rdev))
}

/// Checks what a job needs before it is said to have started: the snapshot has the disks, and their
/// targets may be overwritten.
pub fn foresee(args: &RestoreArgs, vault: &Vault) -> Result<()> {
    let begun = LOOKING.locked();
    if *begun {
        return Ok(());
    }
    let nobody = Nobody { yes: args.yes };
    let wanted: Vec<&str> = wanted(args).collect();
    let manifest = vault.manifest(&find_snapshot(vault, &args.id, &wanted, &nobody)?)?;
    let options = options(args, vault, &manifest)?;
    could_restore(vault, &manifest, &options, &nobody)
}

/// For a restore that cannot ask anybody.
struct Nobody {
    yes: bool,
}

impl Monitor for Nobody {
    fn tell(&self, _: Event) {}

    fn confirm(&self, lost: &[Overwritten]) -> Result<()> {
        match self.yes {
            true => Ok(()),
            false => Err(refused_to_overwrite(lost)),
        }
    }
}

impl Cancel for Nobody {
    fn check(&self) -> Result<()> {
        signals::check()
    }
}

fn options(args: &RestoreArgs, vault: &Vault, manifest: &Manifest) -> Result<RestoreOptions> {
    for name in wanted(args) {
        find_disk(vault, manifest, Some(name))?;
    }
    let stdout = match to_stdout(args) {
        true => {
            let out = std::io::stdout().as_fd().try_clone_to_owned();
            let out = out.io_context("open", Path::new("standard output"))?;
            Some(Arc::new(File::from(out)))
        }
        false => None,
    };
    Ok(RestoreOptions {
        destination: match &args.target {
            Some(target) => Destination::To {
                disk: args.disk.clone(),
                target: target.clone(),
            },
            None => Destination::Map(args.map.clone()),
        },
        format: args.format.map(FormatArg::format),
        stdout,
        force: args.force,
        keep_going: args.keep_going,
        move_gpt: !args.no_move_gpt,
        grow: args.grow,
        workers: context::workers(),
    })
}
