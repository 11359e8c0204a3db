//! A server of disks: what it serves, told when it listens, and its end.

use super::Report;
use super::text::counted;
use crate::error::Error;
use crate::export::ListenAddress;
use crate::format::{DiskRecord, Manifest};
use crate::model::exit::code;
use crate::model::printable::one_line;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// What `serve` reports when clients may come.
pub fn listening(
    manifest: &Manifest,
    disks: &[&DiskRecord],
    address: &ListenAddress,
    overlay: Option<&Path>,
) -> Report {
    let id = manifest.snapshot;
    let served = disks.iter().map(|disk| {
        json!({
            "disk": disk.identity.name,
            "size_bytes": disk.identity.size,
            "uri": address.uri(&disk.identity.name),
        })
    });
    let json = json!({
        "snapshot": id.to_string(),
        "host": manifest.host,
        "time": manifest.time,
        "listen": address.to_string(),
        "open_to_host": matches!(address, ListenAddress::Loopback(_)),
        "read_only": overlay.is_none(),
        "overlay": overlay.map(|path| path.display().to_string()),
        "disks": served.collect::<Vec<Value>>(),
    });
    let first = disks.first().map(|disk| address.uri(&disk.identity.name));
    let mut text = format!(
        "serving {} of snapshot {id}, {}: nbdinfo '{}'\n",
        counted(disks.len(), "disk"),
        if overlay.is_some() {
            "writable"
        } else {
            "read-only"
        },
        first.unwrap_or_default()
    );
    // Writing to a string cannot fail.
    for disk in disks {
        let (name, size) = (one_line(&disk.identity.name), disk.identity.size);
        let uri = address.uri(&disk.identity.name);
        let _ = writeln!(text, "{name}, {size}: {uri}");
    }
    if let Some(overlay) = overlay.map(|path| path.display().to_string()) {
        let _ = writeln!(text, "what is written goes to {}", one_line(&overlay));
    }
    text.push_str(match address {
        ListenAddress::Unix(_) => "only its owner can connect; Ctrl-C or SIGTERM ends it",
        ListenAddress::Loopback(_) if overlay.is_some() => {
            "every process of this host can connect, read it all and write to it; Ctrl-C or \
             SIGTERM ends it"
        }
        ListenAddress::Loopback(_) => {
            "every process of this host can connect, and read it all; Ctrl-C or SIGTERM ends it"
        }
    });
    Report::done(json, text)
}

/// What it says at its end, after a signal. Its document was printed when it began.
pub fn ended(why: &Error) -> Report {
    Report {
        json: Value::Null,
        text: format!("{why}; nobody is served any more, and the vault is as it was"),
        code: code(why.kind()),
    }
}
