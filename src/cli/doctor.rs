//! `doctor`: what this host can and cannot do, and the remedy. It changes nothing, and freezes
//! nothing unless `--freeze-test` asks for it.

use super::args::{Common, DoctorArgs};
use super::context;
use crate::device::read::io_uring_available;
use crate::device::{Host, HostChecks, HostLayout};
use crate::engine::{
    RestorableOptions, VaultPlace, check_freezing, freeze_test, look_at_restorability,
};
use crate::error::Result;
use crate::model::Bytes;
use crate::report::Report;
use crate::report::doctor::Checkup;
use crate::report::restorable;
use crate::track::{obstacles, uncounted, unwatched};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use std::time::Duration;

/// A vault with less free space than this is as good as full: a run has nearly as much in flight.
const LITTLE: Bytes = Bytes(256 << 20);
const OWN_DISK: &str = "put the vault on a disk of its own: on one of a snapshot it would be lost \
                        with it";

/// Longest wait for all that `--restorable` reads.
const PATIENCE: Duration = Duration::from_secs(240);

pub fn run(args: &DoctorArgs, common: &Common) -> Result<Report> {
    if args.restorable {
        let options = RestorableOptions {
            root: "/".into(),
            patience: PATIENCE,
        };
        return Ok(restorable::report(&look_at_restorability(&options)?));
    }
    let mut found = Checkup::default();
    for finding in HostChecks::gather(&Host::here())?.findings() {
        // A snapshot mounts it where it is missing.
        let ok = finding.ok || finding.name == "bpf filesystem";
        found.add(finding.name, &finding.value, ok, finding.remedy);
    }
    add_tracking(&mut found);
    match io_uring_available() {
        Ok(()) => found.add("io_uring at work", "yes", true, None),
        Err(error) => found.add(
            "io_uring at work",
            &error.to_string(),
            false,
            Some("disks are read by threads instead, which is slower and safe"),
        ),
    }
    if context::has_vault(common) {
        add_vault(&mut found, common);
    }
    if args.freeze_test.is_empty() {
        add_look(&mut found, common)?;
    } else {
        context::need_root()?;
        found.add_freeze_test(&freeze_test(&args.freeze_test, &common.places()?)?);
    }
    Ok(found.report())
}

fn add_tracking(found: &mut Checkup) {
    let fatal: Vec<_> = obstacles().into_iter().filter(|one| one.fatal).collect();
    for obstacle in fatal.iter().chain(&uncounted()) {
        let remedy = format!("{}; until then snapshots are refused", obstacle.remedy);
        found.add("tracking", &obstacle.what, false, Some(&remedy));
    }
    if fatal.is_empty() {
        found.add("tracking", "can be started", true, None);
    }
    if let Some(limit) = unwatched().filter(|_| fatal.is_empty()) {
        found.add("tracking", &limit.what, true, Some(&limit.remedy));
    }
}

/// Adds what a freeze would meet.
fn add_look(found: &mut Checkup, common: &Common) -> Result<()> {
    match check_freezing(&common.places()?) {
        Ok(all) => {
            for one in all {
                let (name, remedy) = (format!("freezing {}", one.what), one.remedy.as_deref());
                found.add(&name, &one.found, remedy.is_none(), remedy);
            }
        }
        Err(error) => found.add("freezing", &error.to_string(), false, error.hint()),
    }
    let others = "not known without trying: --freeze-test DISK freezes and thaws for an instant";
    found.add("frozen by others, or stuck", others, true, None);
    Ok(())
}

/// Adds whether the vault can be read and written to, how much room it has, and where it lies.
fn add_vault(found: &mut Checkup, common: &Common) {
    let vault = match context::open_vault(common) {
        Ok(vault) => vault,
        Err(error) => return found.add("vault", &error.to_string(), false, error.hint()),
    };
    found.add(
        "vault",
        &format!("{} can be read", vault.location()),
        true,
        None,
    );
    let Some(path) = vault.local_path() else {
        return;
    };
    match access(path, AccessFlags::W_OK) {
        Ok(()) => found.add("vault writable", "yes", true, None),
        Err(errno) => found.add(
            "vault writable",
            &format!("no: {}", errno.desc()),
            false,
            Some("is its disk mounted, and not read-only? Snapshots cannot be stored until then"),
        ),
    }
    if let Ok(space) = statvfs(path) {
        let free = Bytes(
            space
                .blocks_available()
                .saturating_mul(space.fragment_size()),
        );
        let remedy = "make room there: a snapshot that finds none fails, and is taken out again";
        let ok = free >= LITTLE;
        let value = format!("{free} free");
        found.add("vault space", &value, ok, (!ok).then_some(remedy));
    }
    let place = HostLayout::scan_mounts().and_then(|layout| {
        let place = VaultPlace::find(&vault, &layout)?;
        let names = place
            .disks
            .iter()
            .filter_map(|dev| layout.topology.disk(*dev));
        let names: Vec<String> = names.map(|disk| disk.name().to_owned()).collect();
        Ok((place.doubt, names.join(", ")))
    });
    match place {
        Ok((Some(doubt), _)) => found.add("vault lies on", &doubt, false, Some(OWN_DISK)),
        Ok((None, names)) if names.is_empty() => {
            found.add("vault lies on", "no disk of this host", true, None);
        }
        Ok((None, names)) => {
            let value = format!("{names}, of which no snapshot can be stored there");
            found.add("vault lies on", &value, true, None);
        }
        Err(error) => found.add("vault lies on", &error.to_string(), false, error.hint()),
    }
}
