//! The server: lets clients in, a bounded number of them, and ends all when it is told to. Clients
//! know nothing of one another: one that hangs, or sends rubbish, costs itself.

use super::address::ListenAddress;
use super::certificates::ServerCertificates;
use super::connection::serve_client;
use super::handshake::ServedThings;
use super::limits::NbdLimits;
use super::listener::Listener;
use super::socket::ClientSocket;
use super::trouble::Troubles;
use crate::error::{Error, ErrorKind, Result};
use crate::export::nbd_disk::NbdDisk;
use crate::model::Cancel;
use crate::sys::locked::LockExt;
use crossbeam_channel::bounded;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How often the server looks whether it shall end.
const LOOK_EVERY: u16 = 100;
/// How long it waits at its end until what was written lasts: its filesystem may hang.
const LAST_FLUSH: Duration = Duration::from_secs(60);
/// How long it waits for the last moments of threads that have nothing more to do.
const LET_GO: Duration = Duration::from_secs(1);
/// How long it waits for clients' threads when it ends: one may wait for a vault that hangs.
const FAREWELL: Duration = Duration::from_secs(5);

/// A server that listens.
pub struct NbdServer {
    listener: Listener,
    room: Arc<ServerRoom>,
}

/// What all threads of a server share.
struct ServerRoom {
    disks: Vec<Arc<NbdDisk>>,
    certificates: Option<ServerCertificates>,
    limits: NbdLimits,
    troubles: Troubles,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    sockets: HashMap<u64, Arc<ClientSocket>>,
    next: u64,
}

impl NbdServer {
    /// Begins to listen. Clients wait until it [runs](Self::run).
    ///
    /// # Errors
    /// `Usage` without a disk, and where other machines could connect. `Busy` where another process
    /// listens there, `Exists` where something else is.
    pub fn listen(address: &ListenAddress, disks: Vec<NbdDisk>, limits: NbdLimits) -> Result<Self> {
        Self::listen_with(address, disks, limits, None)
    }

    /// The same. With certificates clients say and hear nothing but by TLS, and each must have one
    /// of the CA; other machines may connect then.
    pub fn listen_with(
        address: &ListenAddress,
        disks: Vec<NbdDisk>,
        limits: NbdLimits,
        certificates: Option<ServerCertificates>,
    ) -> Result<Self> {
        if disks.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "there is no disk to serve"));
        }
        if certificates.is_none() {
            address.refuse_others()?;
        }
        Ok(Self {
            listener: Listener::open(address)?,
            room: Arc::new(ServerRoom {
                disks: disks.into_iter().map(Arc::new).collect(),
                certificates,
                limits,
                troubles: Troubles::default(),
                clients: Mutex::default(),
            }),
        })
    }

    /// Where it listens; port 0 has become a true one.
    pub fn address(&self) -> &ListenAddress {
        self.listener.address()
    }

    /// Serves clients until `cancel` says to stop, whose error is returned. `tell` gets what goes
    /// wrong meanwhile.
    pub fn run(self, cancel: &dyn Cancel, tell: &dyn Fn(String)) -> Result<()> {
        let ended = loop {
            self.room.troubles.take().into_iter().for_each(tell);
            if let Err(error) = cancel.check() {
                break error;
            }
            let listener = PollFd::new(self.listener.as_fd(), PollFlags::POLLIN);
            if poll(&mut [listener], PollTimeout::from(LOOK_EVERY)).is_ok_and(|ready| ready > 0) {
                self.let_in();
            }
        };
        // Nobody comes in any more.
        drop(self.listener);
        self.room.end_all();
        self.room.flush_all();
        // Who returns here has let go of overlays, but for threads that hang.
        let until = Instant::now() + LET_GO;
        while Arc::strong_count(&self.room) > 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.room.troubles.take().into_iter().for_each(tell);
        Err(ended)
    }

    fn let_in(&self) {
        let client = match self.listener.accept() {
            Ok(client) => client,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                // No descriptor is left, for example: the client waits.
                let what = format!("a client could not be let in: {error}");
                self.room.troubles.tell(&what);
                std::thread::sleep(Duration::from_millis(LOOK_EVERY.into()));
                return;
            }
        };
        let socket = Arc::new(ClientSocket::new(client));
        let Some(number) = self.room.enter(&socket) else {
            let most = self.room.limits.clients;
            let what = format!("more than {most} clients: another one was sent away");
            self.room.troubles.tell(&what);
            return;
        };
        let visit = Visit {
            room: Arc::clone(&self.room),
            number,
        };
        let thread = Builder::new().name("nbd".into());
        let begun = thread.spawn(move || {
            let room = &visit.room;
            let served = ServedThings {
                disks: &room.disks,
                certificates: room.certificates.as_ref(),
                troubles: &room.troubles,
            };
            serve_client(&socket, &served, room.limits);
        });
        if let Err(error) = begun {
            let what = format!("a client was sent away, as there is no thread for it: {error}");
            self.room.troubles.tell(&what);
        }
    }
}

/// A client's place among others, until this is dropped.
struct Visit {
    room: Arc<ServerRoom>,
    number: u64,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.room.clients.locked().sockets.remove(&self.number);
    }
}

impl ServerRoom {
    /// Gives a client a place; `None`: there is none.
    fn enter(&self, socket: &Arc<ClientSocket>) -> Option<u64> {
        let mut clients = self.clients.locked();
        if clients.sockets.len() >= self.limits.clients {
            return None;
        }
        clients.next += 1;
        let number = clients.next;
        clients.sockets.insert(number, Arc::clone(socket));
        Some(number)
    }

    /// Makes all last that was written, as far as that comes to an end.
    fn flush_all(self: &Arc<Self>) {
        let room = Arc::clone(self);
        let (done, is_done) = bounded::<()>(1);
        let flush = move || {
            for disk in &room.disks {
                if let Err(error) = disk.flush() {
                    room.troubles.tell(&error.to_string());
                }
            }
            let _ = done.send(());
        };
        let begun = Builder::new().name("flush".into()).spawn(flush);
        if begun.is_err() || is_done.recv_timeout(LAST_FLUSH).is_err() {
            let what = "it is not known whether what was written since the last flush will last";
            self.troubles.tell(what);
        }
    }

    /// Ends all connections, and waits for their threads, but not for ever.
    fn end_all(&self) {
        let until = Instant::now() + FAREWELL;
        loop {
            let clients = self.clients.locked();
            if clients.sockets.is_empty() || Instant::now() >= until {
                return;
            }
            clients.sockets.values().for_each(|socket| socket.end());
            drop(clients);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
