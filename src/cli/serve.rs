//! `serve`: serves disks of a snapshot to NBD clients until a signal comes.

use super::args::{Common, ServeArgs};
use super::context;
use super::find_snapshot::{find_disk, find_snapshot};
use super::may_lack;
use super::output::{PATIENCE, print_report};
use super::progress::ProgressDisplay;
use crate::engine::{DiskServerOptions, serve};
use crate::error::{ErrorKind, Result};
use crate::format::DiskRecord;
use crate::report::Report;
use crate::report::serve::{ended, listening};

pub fn run(args: &ServeArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let options = DiskServerOptions {
        listen: args.listen.parse()?,
        overlay: args.overlay.clone(),
        certificates: args.tls_certificates.clone(),
    };
    if options.certificates.is_none() {
        options.listen.refuse_others()?;
    }
    let vault = context::open_vault(common)?;
    vault.need_to_read()?;
    let disk = args.disk.as_deref();
    let snapshot = find_snapshot(&vault, &args.id, disk.as_slice(), progress)?;
    let manifest = vault.manifest(&snapshot)?;
    let disks: Vec<&DiskRecord> = match disk {
        Some(_) => vec![find_disk(&vault, &manifest, disk)?],
        None => manifest.disks.iter().collect(),
    };
    let mut is_told = false;
    let result = serve(
        &vault,
        &manifest,
        &disks,
        &options,
        progress,
        &mut |address| {
            let options = DiskServerOptions {
                listen: address.clone(),
                ..options.clone()
            };
            let mut report = listening(&manifest, &disks, &options);
            may_lack::warn_of_one(&vault, &manifest, &mut report);
            is_told = true;
            print_report(&report, common.json, PATIENCE);
            Ok(())
        },
    );
    match result {
        // Its document was printed when it began: there is just one.
        Err(error) if is_told && matches!(error.kind(), ErrorKind::Interrupted(_)) => {
            Ok(ended(&error))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Report::done(serde_json::Value::Null, "")),
    }
}
