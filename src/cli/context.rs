//! What several commands ask for before they begin: the vault that was named, root, threads.

use super::args::Common;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{self, Location, Vault};
use std::sync::Arc;

/// The vault that `--vault` or `STILLPOINT_VAULT` names.
pub fn open_vault(common: &Common) -> Result<Arc<Vault>> {
    open_named(common.vault.as_deref())
}

pub fn open_named(name: Option<&str>) -> Result<Arc<Vault>> {
    let named = name.filter(|name| !name.is_empty());
    let vault = named.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "no vault was named")
            .with_hint("give --vault DIRECTORY, or set STILLPOINT_VAULT")
    })?;
    store::open(&Location::parse(vault)?).map(Arc::new)
}

/// Only root may read disks, freeze and track.
pub fn need_root() -> Result<()> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "only root can read, freeze and track disks",
    )
    .with_hint("run it as root, with sudo for example"))
}

/// How many threads to use.
pub fn workers() -> usize {
    // More would only wait: each takes its share of memory too.
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(1, 8)
}
