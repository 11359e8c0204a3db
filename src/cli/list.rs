//! `list`: the snapshots of a vault.

use super::args::{Common, ListArgs, tags};
use super::{context, signals};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::report::Report;
use crate::report::list::Listing;
use crate::store::{Dated, DrillsWanted, KeptBy, Vault};
use std::collections::{BTreeMap, BTreeSet};

/// Most names of disks in a hint.
const MOST_NAMES: usize = 16;

pub fn run(args: &ListArgs, common: &Common) -> Result<Report> {
    let tags = tags(&args.tags)?;
    let vault = context::open_vault(common)?;
    let mut stored = vault.stored_snapshots(args.host.as_deref())?;
    let mut listing = Listing::new(common.json);
    let mut there = There::default();
    let mut drills = Vec::new();
    // Newest first, about: if not all documents have room, the newest do.
    stored.reverse();
    let snapshots = stored.iter().map(|one| one.snapshot.clone()).collect();
    let mut manifests = vault.manifests(snapshots);
    for stored in &stored {
        let Some((snapshot, manifest)) = manifests.next() else {
            break;
        };
        signals::check()?;
        match manifest {
            Ok(manifest) => {
                listing.note(Dated::new(&snapshot, &manifest), &manifest);
                there.add(&manifest, args);
                if fits(&manifest, args, &tags) {
                    let kept = KeptBy::manifest(&manifest, Some(stored.received));
                    listing.show(&manifest, kept);
                    drills.extend(manifests.hash().map(|hash| DrillsWanted {
                        snapshot: snapshot.id,
                        manifest: hash.clone(),
                    }));
                }
            }
            // It was deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Damaged => {
                listing.damaged(snapshot.id, error);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(last) = args.last {
        listing.only_last(last);
    }
    let shown = listing.shown();
    if !shown.is_empty() {
        let keeps = vault.list_keeps(&|id| shown.contains(&id))?;
        listing.add_keeps(vault.read_keeps(&keeps, &signals::check)?);
        listing.add_drills(vault.drilled(&drills, &signals::check)?);
    }
    if !listing.is_empty() && vault.has_noted_damage()? {
        listing.note_damage();
    }
    if !listing.has_damage() {
        there.check(args, &vault)?;
    }
    Ok(listing.report(&vault.location()))
}

fn fits(manifest: &Manifest, args: &ListArgs, tags: &BTreeMap<String, String>) -> bool {
    has_disk(manifest, args)
        && args.since.is_none_or(|since| manifest.time >= since)
        && tags
            .iter()
            .all(|(key, value)| manifest.tags.get(key) == Some(value))
}

/// Whether the snapshot has the disk that was named, if one was.
fn has_disk(manifest: &Manifest, args: &ListArgs) -> bool {
    let disk = args
        .disk
        .as_deref()
        .map(|disk| disk.strip_prefix("/dev/").unwrap_or(disk));
    disk.is_none_or(|wanted| {
        manifest.disks.iter().any(|disk| {
            disk.identity.name == wanted || disk.identity.serial.as_deref() == Some(wanted)
        })
    })
}

/// The disks of all snapshots, listed or not.
#[derive(Default)]
struct There {
    /// The first names.
    names: BTreeSet<String>,
    snapshots: usize,
    has_the_disk: bool,
}

impl There {
    fn add(&mut self, manifest: &Manifest, args: &ListArgs) {
        self.snapshots += 1;
        self.has_the_disk |= has_disk(manifest, args);
        for disk in &manifest.disks {
            if self.names.len() < MOST_NAMES {
                self.names.insert(disk.identity.name.clone());
            }
        }
    }

    /// Refuses a disk that no snapshot has, and a host without snapshots: the name is wrong.
    fn check(&self, args: &ListArgs, vault: &Vault) -> Result<()> {
        let location = vault.location();
        match (&args.disk, &args.host) {
            (Some(disk), _) if self.snapshots > 0 && !self.has_the_disk => {
                let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
                let message = format!("no snapshot in {location} has a disk {disk:?}");
                let hint = format!("those there have: {}", names.join(", "));
                Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
            }
            (_, Some(host)) if self.snapshots == 0 && !vault.snapshots()?.is_empty() => {
                let message = format!("no snapshot in {location} is of a host {host:?}");
                let hint = "`stillpoint list` shows the host of each";
                Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
            }
            _ => Ok(()),
        }
    }
}
