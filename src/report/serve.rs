//! A server of disks: what it serves, told when it listens, and its end.

use super::Report;
use super::text::counted;
use crate::engine::DiskServerOptions;
use crate::error::Error;
use crate::export::ListenAddress;
use crate::format::{DiskRecord, Manifest};
use crate::model::exit::code;
use crate::model::printable::one_line;
use serde_json::{Value, json};
use std::fmt::Write;

/// What `serve` reports when clients may come; `options.listen` is where it listens.
pub fn listening(
    manifest: &Manifest,
    disks: &[&DiskRecord],
    options: &DiskServerOptions,
) -> Report {
    let id = manifest.snapshot;
    let (address, overlay) = (&options.listen, options.overlay.as_deref());
    let is_secured = options.certificates.is_some();
    let uri = |disk: &DiskRecord| match is_secured {
        true => address.secured_uri(&disk.identity.name),
        false => address.uri(&disk.identity.name),
    };
    let served = disks.iter().map(|disk| {
        json!({
            "disk": disk.identity.name,
            "size_bytes": disk.identity.size,
            "uri": uri(disk),
        })
    });
    let json = json!({
        "snapshot": id.to_string(),
        "host": manifest.host,
        "time": manifest.time,
        "listen": address.to_string(),
        "open_to_host": !matches!(address, ListenAddress::Unix(_)),
        "open_to_network": matches!(address, ListenAddress::Network(_)),
        "tls": is_secured,
        "read_only": overlay.is_none(),
        "overlay": overlay.map(|path| path.display().to_string()),
        "disks": served.collect::<Vec<Value>>(),
    });
    let first = disks.first().map(|disk| uri(disk));
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
        let _ = writeln!(text, "{name}, {size}: {}", uri(disk));
    }
    if let Some(overlay) = overlay.map(|path| path.display().to_string()) {
        let _ = writeln!(text, "what is written goes to {}", one_line(&overlay));
    }
    text.push_str(&who_can(options));
    Report::done(json, text)
}

/// Who can connect, and do what.
fn who_can(options: &DiskServerOptions) -> String {
    let who = match options.listen {
        ListenAddress::Unix(_) => "only its owner can connect",
        ListenAddress::Loopback(_) => "every process of this host can connect",
        ListenAddress::Network(_) => "every machine that reaches this one can connect",
    };
    let what = match (&options.listen, &options.overlay) {
        (ListenAddress::Unix(_), _) => "",
        (_, Some(_)) => ", read it all and write to it",
        (_, None) => ", and read it all",
    };
    let with = match options.certificates {
        Some(_) => ", with a certificate of that CA alone",
        None => "",
    };
    format!("{who}{what}{with}; Ctrl-C or SIGTERM ends it")
}

/// What it says at its end, after a signal. Its document was printed when it began.
pub fn ended(why: &Error) -> Report {
    Report {
        json: Value::Null,
        text: format!("{why}; nobody is served any more, and the vault is as it was"),
        code: code(why.kind()),
    }
}
