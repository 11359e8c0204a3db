//! Where a server listens: a socket in the filesystem, or a port. One that other machines reach
//! must never be served without TLS: what is served is a whole disk, to whoever connects.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::machine::host_name;
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
    /// A port that other machines may reach.
    Network(SocketAddr),
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
            host => host.parse().map_err(|_| {
                usage(format!(
                    "{host:?} is no address of this host's: a number is meant"
                ))
            })?,
        };
        let is_own = host.is_loopback() || host == IpAddr::V6(Ipv6Addr::LOCALHOST);
        let at = SocketAddr::new(host, port);
        Ok(match is_own {
            true => Self::Loopback(at),
            false => Self::Network(at),
        })
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
    /// Refuses an address that other machines may reach.
    ///
    /// # Errors
    /// `Usage`: they may.
    pub fn refuse_others(&self) -> Result<()> {
        let Self::Network(at) = self else {
            return Ok(());
        };
        let what = format!(
            "{} can be reached from other machines, and whoever connects reads the whole disk: \
             without TLS only a unix socket and the loopback are served",
            at.ip()
        );
        let hint = "--tls-certificates DIR lets in who has a certificate; or, from the other \
                    machine: ssh -L /run/disk.sock:/run/disk.sock THISHOST";
        Err(Error::new(ErrorKind::Usage, what).with_hint(hint))
    }

    /// What NBD clients are told to reach a disk of that name: a URI, by `doc/uri.md` of the
    /// NetworkBlockDevice project.
    pub fn uri(&self, disk: &str) -> String {
        self.uri_of("nbd", disk)
    }

    /// The same where the server demands TLS.
    pub fn secured_uri(&self, disk: &str) -> String {
        self.uri_of("nbds", disk)
    }

    fn uri_of(&self, scheme: &str, disk: &str) -> String {
        let name = escaped(disk, b"");
        match self {
            Self::Unix(path) => {
                let socket = path_escaped(path);
                format!("{scheme}+unix:///{name}?socket={socket}")
            }
            // All addresses of the host: others know it by its name.
            Self::Network(at) if at.ip().is_unspecified() => {
                let host = escaped(&host_name(), b"");
                format!("{scheme}://{host}:{}/{name}", at.port())
            }
            Self::Loopback(at) | Self::Network(at) => format!("{scheme}://{at}/{name}"),
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
            Self::Loopback(at) | Self::Network(at) => at.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_only_what_other_machines_cannot_reach_is_listened_at() {
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
            let address = parse(text).unwrap();
            assert_eq!(address.uri("vda"), uri);
            assert!(address.refuse_others().is_ok(), "{text}");
        }
        for text in [
            "0.0.0.0:10809",
            "192.168.1.9:1",
            "[::]:9",
            "[::ffff:127.0.0.1]:9",
        ] {
            let error = parse(text).unwrap().refuse_others().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains("other machines"), "{error}");
            assert!(error.hint().unwrap().contains("--tls-certificates"));
        }
        let uri = |text: &str| parse(text).unwrap().secured_uri("vda");
        assert_eq!(uri("192.168.1.9:1"), "nbds://192.168.1.9:1/vda");
        assert_eq!(uri("unix:/s"), "nbds+unix:///vda?socket=/s");
        assert!(!uri("0.0.0.0:7").contains("0.0.0.0") && uri("[::]:7").ends_with(":7/vda"));
        for (text, words) in [
            ("example.org:9", "no address of this host"),
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
