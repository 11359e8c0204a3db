//! `diff`: which places of a disk differ between two snapshots.

use super::args::{Common, DiffArgs};
use super::context;
use super::find_snapshot::{find_disk, find_snapshot};
use super::progress::ProgressDisplay;
use crate::engine::{diff, partitions_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::report::Report;
use crate::report::diff::{Difference, report};
use crate::report::diff_map::drawn;
use crate::store::{Dated, History};
use jiff::Timestamp;

pub fn run(args: &DiffArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    let disk = args.disk.as_deref();
    let find = |text: &str| -> Result<(Dated, Manifest)> {
        let found = find_snapshot(&vault, text, disk.as_slice(), progress)?;
        let manifest = vault.manifest(&found)?;
        Ok((Dated::new(&found, &manifest), manifest))
    };
    let ((older, one), (newer, two)) = (find(&args.one)?, find(&args.two)?);
    if one.host == two.host {
        refuse_backwards(older, newer)?;
    }
    let (from, to) = (
        find_disk(&vault, &one, disk)?,
        find_disk(&vault, &two, disk)?,
    );
    let places = diff(&vault, from, to, progress)?;
    // Without a table that can be read there are no partitions to name.
    let partitions = partitions_of(&vault, to, progress).unwrap_or_default();
    let size = from.identity.size.max(to.identity.size);
    let difference = Difference {
        from: one.snapshot,
        to: two.snapshot,
        places,
        partitions,
    };
    let map = args.map.then(|| drawn(&difference.places, size));
    Ok(report(&difference, map))
}

/// Refuses a newer snapshot that was named first.
fn refuse_backwards(one: Dated, two: Dated) -> Result<()> {
    let (first, second) = (one.snapshot.id, two.snapshot.id);
    let order = History::of(vec![one, two], Timestamp::now()).order;
    if order.first().is_none_or(|oldest| oldest.id == first) {
        return Ok(());
    }
    let message = format!("{first} is newer than {second}");
    let hint = format!("the older one comes first: stillpoint diff {second} {first}");
    Err(Error::new(ErrorKind::Usage, message).with_hint(hint))
}
