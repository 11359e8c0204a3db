//! A server of disks for NBD clients (QEMU, libnbd, the kernel): fixed newstyle, structured and
//! extended replies, `base:allocation`, several connections. It must never write to a vault, nor
//! wait for one client while another one waits for it.

mod address;
mod answer;
mod connection;
mod handshake;
mod limits;
mod listener;
mod pair;
mod protocol;
mod server;
mod socket;
mod trouble;

pub use address::ListenAddress;
pub use limits::NbdLimits;
pub use pair::PairedServer;
pub use server::NbdServer;
pub use trouble::ServedFailure;
