//! A program that a pinned link keeps attached. It must never take another's program for ours.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::bpf::LoadedProgram;
use aya::programs::links::{FdLink, PinnedLink};
use std::io;
use std::path::Path;

/// An error of the loader's crate, with what was tried.
pub(super) fn failed<E>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |error| Error::new(ErrorKind::Failed, format!("cannot {what}")).with_source(error)
}

/// A program of ours. It stays attached while this lives, whatever becomes of the pin.
pub(super) struct Attached {
    #[expect(dead_code, reason = "held: an open link keeps its program attached")]
    link: FdLink,
    program: LoadedProgram,
    /// The kernel's id of it.
    pub id: u32,
}

impl Attached {
    /// Opens the link that is pinned at `path`, if its program is the one called `name` that uses
    /// the map `disks`.
    pub fn open(path: &Path, name: &str, disks: u32) -> Result<Self> {
        let link = PinnedLink::from_pin(path).map_err(failed("open a link"))?;
        let link = FdLink::from(link);
        let info = link.info().map_err(failed("ask what a link is"))?;
        let program = LoadedProgram::by_id(info.program_id()).map_err(failed("open a program"))?;
        let facts = program.facts().map_err(failed("ask what a program is"))?;
        let ours = facts.is_tracing && facts.name == name && facts.maps.contains(&disks);
        if !ours {
            let message = format!("the pinned program {:?} is not {name}", facts.name);
            return Err(Error::new(ErrorKind::Failed, message));
        }
        Ok(Self {
            link,
            program,
            id: facts.id,
        })
    }

    /// How often the kernel skipped it.
    pub fn recursion_misses(&self) -> io::Result<u64> {
        self.program.recursion_misses()
    }
}
