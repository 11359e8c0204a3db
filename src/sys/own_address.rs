//! Whether a name of the network leads to this very host. It asks the resolver, and sends nothing
//! to the host that is named.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

/// Whether the host of an address of the web, like `http://127.0.0.1:9000/x`, is this one. What
/// cannot be told is not.
pub fn leads_here(url: &str) -> bool {
    let Some(host) = host_of(url) else {
        return false;
    };
    let found = (host, 0_u16).to_socket_addrs();
    found.is_ok_and(|mut all| all.any(|address| is_own(address.ip())))
}

/// A socket is bound to an address of this host alone, unless the kernel is told otherwise
/// (`ip_nonlocal_bind`).
fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let whole = rest.split(['/', '?', '#']).next()?;
    let host = whole.rsplit_once('@').map_or(whole, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    Some(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_host_leads_here() {
        for here in [
            "http://127.0.0.1:9000",
            "https://127.8.8.8/bucket",
            "http://[::1]:9000/x",
            "http://user@127.0.0.1",
            "127.0.0.1:9000",
        ] {
            assert!(leads_here(here), "{here}");
        }
        // Those of documents, which nobody has (RFC 5737).
        for other in [
            "http://192.0.2.1:9000",
            "https://203.0.113.7/x",
            "http://",
            "",
        ] {
            assert!(!leads_here(other), "{other}");
        }
    }
}
