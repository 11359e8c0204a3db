//! A server of disks for NBD clients (QEMU, libnbd, the kernel): fixed newstyle, structured and
//! extended replies, `base:allocation`, several connections. It must never write to a vault, nor
//! wait for one client while another one waits for it, nor be open to other machines without TLS.

mod address;
mod answer;
mod certificates;
mod connection;
mod handshake;
mod heard;
mod limits;
mod listener;
mod pair;
mod protocol;
mod secured;
mod server;
mod socket;
mod trouble;

pub use address::ListenAddress;
pub use certificates::ServerCertificates;
pub use limits::NbdLimits;
pub use pair::PairedServer;
pub use server::NbdServer;
pub use trouble::ServedFailure;
