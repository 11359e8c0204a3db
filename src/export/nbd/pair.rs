//! A disk that one program alone is served, over a socket that has no name: nobody else can
//! connect. It must never keep whoever ends it waiting for a vault that hangs.

use super::connection::serve_client;
use super::handshake::ServedThings;
use super::limits::NbdLimits;
use super::socket::{ClientSocket, make_roomy};
use super::trouble::{ServedFailure, Troubles};
use crate::error::{Error, ErrorKind, Result};
use crate::export::nbd_disk::NbdDisk;
use crossbeam_channel::{Receiver, bounded};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

/// How long its end waits for the threads: one may wait for a vault that hangs.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a program may take until it asks.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// One disk, served to one client until this is dropped.
pub struct PairedServer {
    socket: Arc<ClientSocket>,
    troubles: Arc<Troubles>,
    has_ended: Receiver<()>,
    client: Option<OwnedFd>,
}

impl PairedServer {
    /// Begins to serve a disk.
    ///
    /// # Errors
    /// No socket, or no thread, can be had.
    pub fn start(disk: NbdDisk) -> Result<Self> {
        let failed = |error| {
            let what = format!("{} cannot be served", disk.name);
            Error::new(ErrorKind::Failed, what).with_source(error)
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        make_roomy(&ours);
        let socket = Arc::new(ClientSocket::new(ours.into()));
        let troubles = Arc::new(Troubles::default());
        let (ended, has_ended) = bounded::<()>(1);
        let (served, told) = (Arc::clone(&socket), Arc::clone(&troubles));
        let name = disk.name.clone();
        let disks = [Arc::new(disk)];
        let serve = move || {
            let limits = NbdLimits {
                handshake: HANDSHAKE,
                ..NbdLimits::default()
            };
            let things = ServedThings {
                disks: &disks,
                certificates: None,
                troubles: &told,
            };
            serve_client(&served, &things, limits);
            drop(disks);
            let _ = ended.send(());
        };
        let begun = Builder::new().name("nbd".into()).spawn(serve);
        begun.map_err(|error| {
            let what = format!("{name} cannot be served");
            Error::new(ErrorKind::Failed, what).with_source(error)
        })?;
        Ok(Self {
            socket,
            troubles,
            has_ended,
            client: Some(theirs.into()),
        })
    }

    /// The client's end, once. Nobody else may keep it: its end is the client's.
    pub fn take_client(&mut self) -> Option<OwnedFd> {
        self.client.take()
    }

    /// The longest that the program has waited for an answer, or still waits.
    pub fn longest_wait(&self) -> Duration {
        self.troubles.longest_wait()
    }

    /// Which requests failed so far: of each kind the first one.
    pub fn failures(&self) -> Vec<ServedFailure> {
        self.troubles.failures()
    }
}

impl Drop for PairedServer {
    fn drop(&mut self) {
        self.socket.end();
        let _ = self.has_ended.recv_timeout(FAREWELL);
    }
}
