//! `serve`: disks of a snapshot, for NBD clients, until it is told to stop.

use super::monitor::{Event, Monitor};
use super::restore::refuse_the_vault;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{
    ChunkPool, Image, ListenAddress, NbdDisk, NbdLimits, NbdServer, Overlay, OverlayOf,
    ServerCertificates,
};
use crate::format::{DiskRecord, Manifest};
use crate::model::printable::one_line;
use crate::store::Vault;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct DiskServerOptions {
    /// Where clients come to.
    pub listen: ListenAddress,
    /// The file that what they write goes to; `None`: they can write nothing.
    pub overlay: Option<PathBuf>,
    /// The folder of the certificates that clients and server show one another; `None`: no TLS.
    pub certificates: Option<PathBuf>,
}

/// Serves these disks of a snapshot until the monitor says to stop, and returns its error.
/// `listening` is told where the server listens once clients may come; its error ends all.
///
/// # Errors
/// `Usage`: several disks, and one overlay; an overlay or a socket inside the vault. Else as
/// [`Image::open`], [`Overlay::open`], [`ServerCertificates::read`] and [`NbdServer::listen`].
pub fn serve(
    vault: &Arc<Vault>,
    manifest: &Manifest,
    disks: &[&DiskRecord],
    options: &DiskServerOptions,
    monitor: &dyn Monitor,
    listening: &mut dyn FnMut(&ListenAddress) -> Result<()>,
) -> Result<()> {
    let certificates = options.certificates.as_deref();
    let certificates = certificates.map(ServerCertificates::read).transpose()?;
    if let ListenAddress::Unix(path) = &options.listen {
        refuse_the_vault(vault, path)?;
    }
    if let Some(path) = &options.overlay {
        refuse_the_vault(vault, path)?;
        if disks.len() != 1 {
            let what = "an overlay is of one disk, and the snapshot has several";
            return Err(Error::new(ErrorKind::Usage, what).with_hint("say which with --disk"));
        }
    }
    let names: BTreeSet<&str> = disks
        .iter()
        .map(|disk| disk.identity.name.as_str())
        .collect();
    if names.len() != disks.len() {
        let what = "the snapshot has two disks of one name";
        return Err(Error::new(ErrorKind::Damaged, what));
    }
    let pool = Arc::new(ChunkPool::new(vault));
    let serve_one = |disk: &&DiskRecord| {
        let name = &disk.identity.name;
        let image = Image::open_in(&pool, vault, disk, monitor);
        let overlay = options.overlay.as_deref();
        let described = format!(
            "{name} of {}, snapshot {}",
            manifest.host, manifest.snapshot
        );
        Ok(NbdDisk {
            name: name.clone(),
            description: one_line(&described).into_owned(),
            image: image.map_err(|error| error.on_disk(name))?,
            overlay: overlay
                .map(|path| open_overlay(path, manifest, disk))
                .transpose()?,
        })
    };
    let served: Result<Vec<NbdDisk>> = disks.iter().map(serve_one).collect();
    let server =
        NbdServer::listen_with(&options.listen, served?, NbdLimits::default(), certificates)?;
    listening(server.address())?;
    server.run(monitor, &|what| monitor.tell(Event::Warning(what)))
}

fn open_overlay(path: &Path, manifest: &Manifest, disk: &DiskRecord) -> Result<Overlay> {
    let named = |snapshot| OverlayOf {
        vault: manifest.vault,
        snapshot,
        disk: disk.identity.name.clone(),
        size: disk.identity.size,
    };
    // Under each name it shows the same.
    let before: Vec<OverlayOf> = manifest.rewrites.iter().copied().map(named).collect();
    Overlay::open(path, &named(manifest.snapshot), &before)
}
