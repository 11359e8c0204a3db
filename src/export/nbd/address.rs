//! Where a server listens: a socket in the filesystem, or a port of the loopback. Nothing else:
//! what is served is a whole disk, unencrypted, to whoever connects.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path of a socket: `sun_path` of unix(7), and its end.
const MOST_PATH: usize = 107;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A socket that its owner alone can connect to.
    Unix(PathBuf),
    /// A port that every process of the host can connect to.
    Loopback(SocketAddr),
}

impl FromStr for ListenAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return of_path(path);
        }
        let usage = |what: String| Error::new(ErrorKind::Usage, what).with_hint(FORMS);
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(usage(format!("{text:?} is no address to listen at")));
        };
        let port: u16 = port
            .parse()
            .map_err(|_| usage(format!("{text:?} does not end in the number of a port")))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host
                .parse()
                .map_err(|_| usage(format!("{host:?} is no address of this host's loopback")))?,
        };
        let is_own = host.is_loopback() || host == IpAddr::V6(Ipv6Addr::LOCALHOST);
        if !is_own {
            let what = format!(
                "{host} can be reached from other machines, and whoever connects reads the whole \
                 disk: only a unix socket and the loopback are served"
            );
            let hint = "from another machine: ssh -L /run/disk.sock:/run/disk.sock THISHOST";
            return Err(Error::new(ErrorKind::Usage, what).with_hint(hint));
        }
        Ok(Self::Loopback(SocketAddr::new(host, port)))
    }
}

const FORMS: &str = "--listen unix:/run/disk.sock, or 127.0.0.1:10809";

fn of_path(path: &str) -> Result<ListenAddress> {
    let what = if path.is_empty() {
        "the socket has no path"
    } else if !path.starts_with('/') {
        "a socket's path begins with /"
    } else if path.len() > MOST_PATH {
        "a socket's path has 107 bytes at most"
    } else if path.ends_with('/') || path.contains('\0') {
        "that is no path of a socket"
    } else {
        return Ok(ListenAddress::Unix(path.into()));
    };
    Err(Error::new(ErrorKind::Usage, format!("unix:{path}: {what}")).with_hint(FORMS))
}

impl ListenAddress {
    /// What NBD clients are told to reach a disk of that name: a URI, by `doc/uri.md` of the
    /// NetworkBlockDevice project.
    pub fn uri(&self, disk: &str) -> String {
        let name = escaped(disk, b"");
        match self {
            Self::Unix(path) => {
                let socket = path_escaped(path);
                format!("nbd+unix:///{name}?socket={socket}")
            }
            Self::Loopback(address) => format!("nbd://{address}/{name}"),
        }
    }
}

fn path_escaped(path: &Path) -> String {
    escaped(&path.to_string_lossy(), b"/")
}

/// Percent-encoded, but for what is never special in a URI, and `besides`.
fn escaped(text: &str, besides: &[u8]) -> String {
    let mut all = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || besides.contains(&byte) {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
    }
    all
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_other_machines_cannot_reach_is_listened_at() {
        let parse = |text: &str| text.parse::<ListenAddress>();
        let socket = ListenAddress::Unix("/run/a b.sock".into());
        assert_eq!(parse("unix:/run/a b.sock").unwrap(), socket);
        assert_eq!(
            socket.uri("vd a"),
            "nbd+unix:///vd%20a?socket=/run/a%20b.sock"
        );
        for (text, uri) in [
            ("127.0.0.1:10809", "nbd://127.0.0.1:10809/vda"),
            ("127.3.2.1:0", "nbd://127.3.2.1:0/vda"),
            ("localhost:9", "nbd://127.0.0.1:9/vda"),
            ("[::1]:9", "nbd://[::1]:9/vda"),
        ] {
            assert_eq!(parse(text).unwrap().uri("vda"), uri);
        }
        for (text, words) in [
            ("0.0.0.0:10809", "other machines"),
            ("192.168.1.9:1", "other machines"),
            ("[::]:9", "other machines"),
            ("[::ffff:127.0.0.1]:9", "other machines"),
            ("example.org:9", "loopback"),
            ("127.0.0.1", "no address"),
            ("127.0.0.1:x", "number of a port"),
            ("127.0.0.1:70000", "number of a port"),
            ("unix:", "no path"),
            ("unix:a", "begins with /"),
            ("unix:/a/", "no path of a socket"),
            ("", "no address"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert!(error.hint().is_some(), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(parse(&long).is_err() && parse(&long[..long.len() - 1]).is_ok());
    }
}
