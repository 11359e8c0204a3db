//! What distinguishes a disk from others, read from sysfs and udev. It must never make a name up.

use super::host::Host;
use super::table::{self, OpenDisk};
use crate::model::{Bytes, DevNumber, DiskIdentity};
use std::path::Path;

/// Longest name kept: a VPD page holds at most 252 bytes.
const NAME_LIMIT: usize = 252;

/// What is known before the names are looked up.
pub(super) struct Basics<'a> {
    /// The disk's folder in sysfs.
    pub folder: &'a Path,
    /// Its name there.
    pub name: &'a str,
    /// Its number.
    pub dev: DevNumber,
    /// Its size.
    pub size: Bytes,
}

/// Collects the identity of one whole disk.
pub(super) fn identify(host: &Host, basics: &Basics<'_>, tables: &dyn OpenDisk) -> DiskIdentity {
    let folder = basics.folder;
    let logical_block = Host::number(&folder.join("queue/logical_block_size"))
        .and_then(|size| u32::try_from(size).ok())
        .unwrap_or(512);
    let udev = UdevRecord::read(host, basics.dev);
    let table_id = (basics.size.0 > 0)
        .then(|| table::of_disk(folder, basics.name, logical_block, tables))
        .flatten();
    DiskIdentity {
        name: basics.name.to_owned(),
        dev: basics.dev,
        size: basics.size,
        logical_block,
        serial: serial(folder).or_else(|| udev.get("ID_SERIAL_SHORT")),
        wwn: wwn(folder).or_else(|| udev.get("ID_WWN")),
        diskseq: Host::number(&folder.join("diskseq")),
        table_id,
    }
}

/// virtio has the serial at the disk, NVMe and MMC at the device behind it, SCSI in VPD page 80h.
fn serial(folder: &Path) -> Option<String> {
    let text = |name: &str| tidy(&Host::bytes(&folder.join(name))?);
    let serial = text("serial").or_else(|| text("device/serial"));
    let serial = match Host::number(&folder.join("nsid")) {
        // The namespaces of one NVMe controller share its serial.
        Some(namespace) if namespace > 1 => serial.map(|serial| format!("{serial}_{namespace}")),
        _ => serial,
    };
    serial.or_else(|| vpd_serial(&Host::bytes(&folder.join("device/vpd_pg80"))?))
}

/// SPC-4, 7.8.15: byte 1 the page's code, bytes 2 and 3 its length, then the serial number.
fn vpd_serial(page: &[u8]) -> Option<String> {
    let (header, body) = page.split_at_checked(4)?;
    if header.get(1) != Some(&0x80) {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*header.get(2)?, *header.get(3)?]));
    tidy(body.get(..length.min(body.len()))?)
}

/// NVMe has it at the disk, SCSI at the device.
fn wwn(folder: &Path) -> Option<String> {
    let text = |name: &str| tidy(&Host::bytes(&folder.join(name))?);
    text("wwid").or_else(|| text("device/wwid"))
}

/// Without what surrounds it, with each run of white space inside as one `_`, as udev does; other
/// characters that do not print are dropped.
fn tidy(bytes: &[u8]) -> Option<String> {
    let text: String = bytes
        .iter()
        .take(NAME_LIMIT)
        .map(|byte| if *byte == 0 { ' ' } else { char::from(*byte) })
        .filter(|letter| letter.is_ascii_graphic() || letter.is_ascii_whitespace())
        .collect();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    (!words.is_empty()).then(|| words.join("_"))
}

/// The model's name, for people.
pub(super) fn model(folder: &Path) -> Option<String> {
    Host::text(&folder.join("device/model")).or_else(|| Host::text(&folder.join("device/name")))
}

/// What udev wrote down about a device.
struct UdevRecord(String);

impl UdevRecord {
    fn read(host: &Host, dev: DevNumber) -> Self {
        let path = host.run.join(format!("udev/data/b{dev}"));
        Self(Host::text(&path).unwrap_or_default())
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.lines().find_map(|line| {
            let (name, value) = line.strip_prefix("E:")?.split_once('=')?;
            (name == key).then(|| tidy(value.as_bytes())).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vpd_page_gives_its_serial_and_nothing_behind_it() {
        let page = b"\x00\x80\x00\x0c  WD-1234 5  garbage";
        assert_eq!(vpd_serial(page).as_deref(), Some("WD-1234_5"));
        assert_eq!(vpd_serial(b"\x00\x83\x00\x04abcd"), None);
        assert_eq!(vpd_serial(b"\x00\x80\xff\xffab").as_deref(), Some("ab"));
        assert_eq!(vpd_serial(b"\x00\x80"), None);
        assert_eq!(vpd_serial(b"\x00\x80\x00\x04    "), None);
    }

    #[test]
    fn what_does_not_print_is_no_part_of_a_name() {
        assert_eq!(
            tidy(b"t10.ATA     QEMU\x1b DISK\0\0").as_deref(),
            Some("t10.ATA_QEMU_DISK")
        );
        assert_eq!(tidy(b"\0 \n"), None);
    }
}
