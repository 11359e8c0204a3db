//! `serve`: disks of a snapshot, for NBD clients, until it is told to stop.

use super::monitor::{Event, Monitor};
use crate::error::Result;
use crate::export::{ChunkPool, Image, ListenAddress, NbdDisk, NbdLimits, NbdServer};
use crate::format::{DiskRecord, Manifest};
use crate::store::Vault;
use std::sync::Arc;

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct DiskServerOptions {
    /// Where clients come to.
    pub listen: ListenAddress,
}

/// Serves these disks of a snapshot until the monitor says to stop, and returns its error.
/// `listening` is told where the server listens once clients may come; its error ends all.
pub fn serve(
    vault: &Arc<Vault>,
    manifest: &Manifest,
    disks: &[&DiskRecord],
    options: &DiskServerOptions,
    monitor: &dyn Monitor,
    listening: &mut dyn FnMut(&ListenAddress) -> Result<()>,
) -> Result<()> {
    let pool = Arc::new(ChunkPool::new(vault));
    let served: Result<Vec<NbdDisk>> = disks
        .iter()
        .map(|disk| {
            let image = Image::open_in(&pool, vault, disk, monitor);
            Ok(NbdDisk {
                name: disk.identity.name.clone(),
                description: described(manifest, disk),
                image: image.map_err(|error| error.on_disk(&disk.identity.name))?,
            })
        })
        .collect();
    let server = NbdServer::listen(&options.listen, served?, NbdLimits::default())?;
    listening(server.address())?;
    server.run(monitor, &|what| monitor.tell(Event::Warning(what)))
}

fn described(manifest: &Manifest, disk: &DiskRecord) -> String {
    let (name, host) = (&disk.identity.name, &manifest.host);
    format!("{name} of {host}, snapshot {}", manifest.snapshot)
}
