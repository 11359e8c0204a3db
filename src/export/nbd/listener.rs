//! The socket at which clients arrive. One in the filesystem belongs to its owner alone from the
//! first moment on, takes nothing's place, and goes when the server ends.

use super::address::ListenAddress;
use super::socket::make_roomy;
use crate::error::{Error, ErrorKind, IoContext, Result};
use nix::errno::Errno;
use nix::sys::socket::sockopt::KeepAlive;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt, socket,
};
use nix::sys::stat::{Mode, fchmod};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

/// Clients that may wait to be let in.
const WAITING: i32 = 16;

/// A socket at which clients arrive.
pub struct Listener {
    socket: ListeningSocket,
    address: ListenAddress,
    /// The numbers of a socket's file, and of its filesystem.
    file: Option<SocketFile>,
}

enum ListeningSocket {
    Unix(UnixListener),
    Port(TcpListener),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct SocketFile {
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens there. A socket that a server left which was killed is taken away first.
    pub fn open(address: &ListenAddress) -> Result<Self> {
        match address {
            ListenAddress::Unix(path) => Self::at_path(path),
            ListenAddress::Loopback(at) => Self::at_port(*at, ListenAddress::Loopback),
            ListenAddress::Network(at) => Self::at_port(*at, ListenAddress::Network),
        }
    }

    /// Where it listens; port 0 has become a true one.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The next client, if one waits. Its socket does not block.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            ListeningSocket::Unix(socket) => {
                let (client, _) = socket.accept()?;
                client.set_nonblocking(true)?;
                make_roomy(&client);
                Ok(client.into())
            }
            ListeningSocket::Port(socket) => {
                let (client, _) = socket.accept()?;
                client.set_nonblocking(true)?;
                client.set_nodelay(true)?;
                // So that it is heard of when the other end is gone.
                let _ = setsockopt(&client, KeepAlive, &true);
                Ok(client.into())
            }
        }
    }

    fn at_path(path: &Path) -> Result<Self> {
        refuse_others_folder(path)?;
        let address = UnixAddr::new(path).io_context("listen at", path)?;
        let socket = new_socket().io_context("listen at", path)?;
        // Its file gets the mode that the socket has (`unix_bind_bsd` in net/unix/af_unix.c), so
        // that no path is looked up once more.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).io_context("listen at", path)?;
        match bind(socket.as_raw_fd(), &address) {
            Err(Errno::EADDRINUSE) => {
                take_away_a_dead_one(path, &address)?;
                bind(socket.as_raw_fd(), &address)
            }
            other => other,
        }
        .io_context("listen at", path)?;
        let found = fs::symlink_metadata(path).io_context("look at", path)?;
        let file = Some(SocketFile::of(&found));
        let kept = match found.file_type().is_socket() && found.mode() & 0o177 == 0 {
            true => Backlog::new(WAITING)
                .and_then(|waiting| listen(&socket, waiting))
                .io_context("listen at", path),
            false => {
                let what = format!("others could connect to {}", path.display());
                Err(Error::new(ErrorKind::Failed, what).with_hint(ELSEWHERE))
            }
        };
        let listener = Self {
            socket: ListeningSocket::Unix(socket.into()),
            address: ListenAddress::Unix(path.into()),
            file,
        };
        kept.map(|()| listener)
    }

    fn at_port(at: SocketAddr, address: fn(SocketAddr) -> ListenAddress) -> Result<Self> {
        let bound = TcpListener::bind(at).and_then(|socket| {
            socket.set_nonblocking(true)?;
            let at = socket.local_addr()?;
            Ok(Self {
                socket: ListeningSocket::Port(socket),
                address: address(at),
                file: None,
            })
        });
        bound.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                let what = format!("{at} is in use by another process");
                Error::new(ErrorKind::Busy, what).with_hint("name another port, or 0 for any")
            }
            _ => Error::io("listen at", Path::new(&at.to_string()), error),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ListeningSocket::Unix(socket) => socket.as_fd(),
            ListeningSocket::Port(socket) => socket.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let (ListenAddress::Unix(path), Some(file)) = (&self.address, self.file) else {
            return;
        };
        // What somebody else has put there meanwhile stays.
        if fs::symlink_metadata(path).is_ok_and(|found| SocketFile::of(&found) == file) {
            let _ = fs::remove_file(path);
        }
    }
}

impl SocketFile {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// Refuses a folder in which somebody else could put another file in the socket's place.
fn refuse_others_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let found = fs::metadata(folder).io_context("look at", folder)?;
    let is_owners = [0, nix::unistd::geteuid().as_raw()].contains(&found.uid());
    let is_sticky = found.mode() & 0o1000 != 0;
    if is_owners && (is_sticky || found.mode() & 0o022 == 0) {
        return Ok(());
    }
    let what = format!("others can change what is in {}", folder.display());
    Err(Error::new(ErrorKind::Usage, what).with_hint(ELSEWHERE))
}

const ELSEWHERE: &str = "name a path in a folder of your own, or in /run";

fn new_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Takes away a socket of ours at which nobody listens any more; anything else is an error.
fn take_away_a_dead_one(path: &Path, address: &UnixAddr) -> Result<()> {
    let found = fs::symlink_metadata(path).io_context("look at", path)?;
    let shown = path.display();
    let ours = found.uid() == nix::unistd::geteuid().as_raw();
    if !found.file_type().is_socket() || !ours {
        let what = format!("{shown} is there, and is no socket of ours; it was left alone");
        let hint = "name another path with --listen";
        return Err(Error::new(ErrorKind::Exists, what).with_hint(hint));
    }
    // One that is about to listen refuses, too.
    let ask = || new_socket().and_then(|socket| connect(socket.as_raw_fd(), address));
    let mut asked = ask();
    if asked == Err(Errno::ECONNREFUSED) {
        std::thread::sleep(Duration::from_millis(200));
        asked = ask();
    }
    match asked {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).io_context("take away", path),
        // Somebody listens, and may be too busy to answer.
        _ => {
            let what = format!("another process listens at {shown}");
            let hint = "name another path with --listen, or end that process";
            Err(Error::new(ErrorKind::Busy, what).with_hint(hint))
        }
    }
}
