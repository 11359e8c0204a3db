//! The decoders, what is valid for each, and what must hold of what it understands. Checksums are
//! made right first, so that what lies behind them is reached.

use super::lvm::{lvm_label, lvm_text, md_label};
use super::sealed::{key_entry, sealed_object};
use crate::damage::hostile::mend_segment;
use jiff::Timestamp;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use stillpoint::device::{Host, Mounts, NoTables, Topology, has_mbr, table_id};
use stillpoint::format::{
    BlockDedup, CHUNK_HEADER, Compression, KeepRecord, Manifest, ObjectKind, Packed, Sealer,
    SessionRecord, Trailer, VERSION, VaultInfo, decode_index, encode_index,
};
use stillpoint::job::{JobDirectory, JobId, JobProcess, JobRecord, JobState};
use stillpoint::model::{
    BLOCK_SIZE, BlockIndex, Content, ObjectId, Run, RunMap, SnapshotId, printable,
};
use stillpoint::store::ObjectName;

/// No vault of these tests is encrypted.
pub const SEALER: Sealer = Sealer::without_keys();

/// A decoder.
pub struct Target {
    /// Its name, also that of its folder of inputs.
    pub name: &'static str,
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Feeds it; answers whether the input was understood.
    pub feed: fn(&[u8]) -> bool,
}

macro_rules! target {
    ($name:ident) => {
        Target {
            name: stringify!($name),
            seeds: $name::seeds,
            feed: $name::feed,
        }
    };
}

pub const TARGETS: &[Target] = &[
    target!(chunk),
    target!(envelope),
    target!(index),
    target!(job_record),
    target!(keep),
    target!(key_entry),
    target!(lvm_label),
    target!(lvm_text),
    target!(manifest),
    target!(md_label),
    target!(mounts),
    target!(names),
    target!(sealed_object),
    target!(segment),
    target!(session),
    target!(table),
    target!(vault_info),
];

const SNAPSHOT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const VAULT: ObjectId = ObjectId([7; 16]);

/// A text in a place where checksums are those of the text.
fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

mod manifest {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        // The whole one is kept with the others.
        Vec::new()
    }

    pub fn feed(json: &[u8]) -> bool {
        let id: SnapshotId = SNAPSHOT.parse().unwrap();
        let bytes = SEALER.seal_object(ObjectKind::Manifest, json).unwrap();
        let Ok(manifest) = Manifest::decode(&bytes, &SEALER, id, VAULT) else {
            return false;
        };
        let again =
            Manifest::decode(&manifest.encode(&SEALER).unwrap(), &SEALER, id, VAULT).unwrap();
        assert_eq!(again, manifest);
        // What is shown of it can be made of all that can be read.
        printable::copy(&manifest).unwrap();
        true
    }
}

mod keep {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let record = KeepRecord {
            snapshot: SNAPSHOT.parse().unwrap(),
            host: "host".into(),
            until: Some(Timestamp::UNIX_EPOCH),
            hold: Some("audit \u{1b}".into()),
            time: Timestamp::UNIX_EPOCH,
            by: "host".into(),
        };
        let bytes = record.encode(&SEALER).unwrap();
        vec![SEALER.open_object(ObjectKind::Keep, None, &bytes).unwrap()]
    }

    pub fn feed(json: &[u8]) -> bool {
        let id: SnapshotId = SNAPSHOT.parse().unwrap();
        let Ok(bytes) = SEALER.seal_object(ObjectKind::Keep, json) else {
            return false;
        };
        let Ok(record) = KeepRecord::decode(&bytes, &SEALER, id) else {
            return false;
        };
        let again = KeepRecord::decode(&record.encode(&SEALER).unwrap(), &SEALER, id).unwrap();
        assert_eq!(again, record);
        true
    }
}

mod session {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let record = SessionRecord {
            host: "host".into(),
            pid: 7,
            boot_id: "e1f2".into(),
            command: "snapshot".into(),
            started: Timestamp::UNIX_EPOCH,
            heartbeat: Timestamp::UNIX_EPOCH,
        };
        let bytes = record.encode(&SEALER).unwrap();
        vec![
            SEALER
                .open_object(ObjectKind::Session, None, &bytes)
                .unwrap(),
        ]
    }

    pub fn feed(json: &[u8]) -> bool {
        let Ok(bytes) = SEALER.seal_object(ObjectKind::Session, json) else {
            return false;
        };
        let Ok(record) = SessionRecord::decode(&bytes, &SEALER) else {
            return false;
        };
        let again = SessionRecord::decode(&record.encode(&SEALER).unwrap(), &SEALER).unwrap();
        assert_eq!(again, record);
        true
    }
}

mod vault_info {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let info = VaultInfo {
            format: VERSION,
            id: VAULT,
            name: "name \u{1b}".into(),
            description: Some("for \u{202e}people".into()),
            block_size: BLOCK_SIZE,
            created: Timestamp::UNIX_EPOCH,
            dedup: BlockDedup::Disk,
            compression: Compression::Lz4,
            encryption: None,
            lock: "compliance:30d".parse().ok(),
        };
        let bytes = info.encode().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let end = text.rfind(",\"blake3\"").unwrap();
        vec![text["{\"vault\":".len()..end].into(), bytes]
    }

    pub fn feed(text: &[u8]) -> bool {
        let hash = blake3::hash(text.trim_ascii()).to_hex();
        let head = b"{\"vault\":".as_slice();
        let tail = format!(",\"blake3\":\"{hash}\"}}\n");
        let wrapped = [head, text, tail.as_bytes()].concat();
        let _ = VaultInfo::decode(text);
        let Ok(info) = VaultInfo::decode(&wrapped) else {
            return false;
        };
        assert_eq!(VaultInfo::decode(&info.encode().unwrap()).unwrap(), info);
        true
    }
}

mod index {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let mut map = RunMap::new();
        for start in 0..40_u64 {
            let segment = ObjectId([(start % 3) as u8; 16]);
            let slot = start as u32 * 9;
            let content = match start % 4 {
                0 => Content::Zero,
                1 => Content::Free,
                _ => Content::Data { segment, slot },
            };
            let (start, count) = (BlockIndex(start * 5), 1 + start % 5);
            map.insert(Run {
                start,
                count,
                content,
            });
        }
        [encode_index(&map, 500), encode_index(&RunMap::new(), 1)].concat()
    }

    pub fn feed(body: &[u8]) -> bool {
        let Some(blocks) = body.first_chunk() else {
            return false;
        };
        let blocks = u64::from_le_bytes(*blocks);
        let mut map = RunMap::new();
        let understood = decode_index(body, blocks, &mut map).is_ok();
        assert!(map.iter().all(|run| run.end() <= blocks));
        let mut again = RunMap::new();
        for part in encode_index(&map, blocks) {
            if understood {
                decode_index(&part, blocks, &mut again).unwrap();
            }
        }
        assert!(!understood || again == map);
        understood
    }
}

mod envelope {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let zeros = vec![0; 100_000];
        let all = [&b"some body "[..], &zeros, &b"abc".repeat(99)];
        let seal = |plain: &&[u8]| SEALER.seal_object(ObjectKind::Condemned, plain).unwrap();
        all.iter().map(seal).collect()
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        if let Some(end) = bytes.len().checked_sub(32) {
            let hash = blake3::hash(&bytes[..end]);
            put(&mut bytes, end, hash.as_bytes());
        }
        let kinds = [
            ObjectKind::Index,
            ObjectKind::Manifest,
            ObjectKind::Session,
            ObjectKind::Condemned,
        ];
        let mut opened = kinds.iter().filter_map(|kind| {
            let plain = SEALER.open_object(*kind, None, &bytes).ok()?;
            assert!(plain.len() as u64 <= kind.most_plain());
            Some(plain)
        });
        opened.next().is_some()
    }
}

mod chunk {
    use super::*;

    fn stored(plain: &[u8]) -> Vec<u8> {
        let mut writer = SEALER.create_segment(Vec::new()).unwrap();
        let mut packed = Packed::default();
        let chunk = SEALER.encode_chunk(plain, &mut packed).unwrap();
        writer.push(&chunk, &packed);
        let (_, bytes) = writer.finish();
        let length = chunk.stored_len();
        bytes[stillpoint::format::SEGMENT_HEADER..][..length].to_vec()
    }

    pub fn seeds() -> Vec<Vec<u8>> {
        let long = b"stillpoint ".repeat(5000);
        [&b"short"[..], &long, &[7; 65536]].map(stored).to_vec()
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        if bytes.len() >= CHUNK_HEADER {
            let length: [u8; 4] = bytes[12..16].try_into().unwrap();
            let length = u32::from_le_bytes(length) as usize;
            let end = bytes.len().min(CHUNK_HEADER.saturating_add(length));
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[..20]);
            crc.update(&bytes[CHUNK_HEADER..end]);
            put(&mut bytes, 20, &crc.finalize().to_le_bytes());
        }
        let mut room = Vec::new();
        let Ok(chunk) = SEALER.decode_chunk(&bytes, &mut room) else {
            return false;
        };
        assert!(!chunk.plain.is_empty() && chunk.plain.len() as u64 <= BLOCK_SIZE);
        assert!(chunk.stored_len <= bytes.len());
        true
    }
}

mod segment {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let segment = |count: u8| {
            let mut writer = SEALER.create_segment(Vec::new()).unwrap();
            let mut packed = Packed::default();
            for n in 1..=count {
                packed.clear();
                let chunk = SEALER.encode_chunk(&[n; 3000], &mut packed).unwrap();
                writer.push(&chunk, &packed);
            }
            writer.finish().1
        };
        vec![segment(0), segment(1), segment(30)]
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        let id = mend_segment(&mut bytes);
        let Ok(trailer) = Trailer::decode(&bytes, bytes.len() as u64) else {
            return false;
        };
        let tail = &bytes[trailer.footer_offset as usize..];
        let Ok(footer) = SEALER.open_footer(tail, trailer, id) else {
            return false;
        };
        let _ = footer.check_header(&bytes);
        let mut room = Vec::new();
        for (n, slot) in footer.slots().iter().enumerate() {
            assert_eq!(footer.slot(n as u32).unwrap(), slot);
            let stored = &bytes[slot.offset as usize..][..slot.length as usize];
            if let Ok(chunk) = SEALER.decode_chunk(stored, &mut room) {
                let _ = SEALER.hash_of(chunk.plain) == slot.hash;
            }
        }
        true
    }
}

mod job_record {
    use super::*;

    fn folder() -> (tempfile::TempDir, JobDirectory) {
        let outside = tempfile::tempdir_in("/dev/shm").unwrap();
        let folder = JobDirectory::make(&outside.path().join("jobs")).unwrap();
        (outside, folder)
    }

    fn id() -> JobId {
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    pub fn seeds() -> Vec<Vec<u8>> {
        let me = JobProcess::of(std::process::id()).unwrap();
        let mut record = JobRecord::new(id(), me, "snapshot", &["snapshot".into(), "vda".into()]);
        record.state = JobState::Failed;
        record.exit_code = Some(1);
        record.error = Some(serde_json::json!({"kind": "io", "message": "m", "hint": "h"}));
        record.warnings = vec!["w\u{1b}".into()];
        let (_outside, folder) = folder();
        folder.write(&record).unwrap();
        let path = folder.path().join(format!("{}.json", id()));
        vec![fs::read(path).unwrap()]
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let (_outside, folder) = folder();
        fs::write(folder.path().join(format!("{}.json", id())), bytes).unwrap();
        let Ok(record) = folder.read(id()) else {
            return false;
        };
        assert_eq!(record.job, id());
        folder.write(&record).unwrap();
        // It may have been cut shorter, and stays as it is then.
        let again = folder.read(id()).unwrap();
        folder.write(&again).unwrap();
        assert_eq!(folder.read(id()).unwrap(), again);
        true
    }
}

mod table {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let mut mbr = vec![0; 4096];
        put(&mut mbr, 440, &[1, 2, 3, 4]);
        put(
            &mut mbr,
            446,
            &[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0],
        );
        put(&mut mbr, 510, &[0x55, 0xaa]);
        let mut gpt = mbr.clone();
        gpt[450] = 0xee;
        put(&mut gpt, 512, b"EFI PART\0\0\x01\0\x5c\0\0\0");
        put(&mut gpt, 512 + 24, &1_u64.to_le_bytes());
        put(&mut gpt, 512 + 56, &[9; 16]);
        vec![mbr, gpt]
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        if let Some(header) = bytes.get_mut(512..1024) {
            let length: [u8; 4] = header[12..16].try_into().unwrap();
            let length = (u32::from_le_bytes(length) as usize).min(512);
            header[16..20].fill(0);
            let crc = crc32fast::hash(&header[..length]);
            put(header, 16, &crc.to_le_bytes());
        }
        if let Some(sector) = bytes.first_chunk() {
            has_mbr(sector);
        }
        let sizes = [0, 512, 4096, 1 << 20];
        let named = sizes.map(|size| table_id(&mut Cursor::new(&bytes), size));
        for id in named.iter().flatten() {
            assert!(
                id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()),
                "{id}"
            );
        }
        named.iter().any(Option::is_some)
    }
}

mod mounts {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let text = "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                    22 21 254:1 /sub /mnt/a\\040b rw - xfs /dev/vdb ro,logdev=/dev/vdc\n\
                    23 22 0:40 / /mnt/a\\040b/c rw master:7 - fuse.x /dev/loop0 rw\n\
                    24 21 254:0 / /mnt/a\\040b rw - ext4 /dev/vda rw\n";
        vec![text.into()]
    }

    pub fn feed(table: &[u8]) -> bool {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let host = Host::at(root.path());
        let make = |path: &Path| fs::create_dir_all(path).unwrap();
        make(&host.sys.join("block"));
        make(&host.proc.join("self/ns"));
        fs::write(host.proc.join("self/mountinfo"), table).unwrap();
        let topology = Topology::scan(&host, &NoTables).unwrap();
        Mounts::read(&host, &topology).is_ok()
    }
}

mod names {
    use super::*;

    pub fn seeds() -> Vec<Vec<u8>> {
        let host = ObjectName::manifest("a host/of ../mine", SNAPSHOT.parse().unwrap());
        let all = [
            SNAPSHOT,
            "segments/07/0707",
            &VAULT.to_string(),
            &host.to_string(),
        ];
        all.map(Into::into).to_vec()
    }

    pub fn feed(text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let line = printable::one_line(&text);
        assert!(!line.chars().any(char::is_control));
        let id = text.parse::<SnapshotId>();
        if let Ok(id) = &id {
            assert_eq!(id.to_string().parse::<SnapshotId>().unwrap(), *id);
        }
        if let Ok(id) = text.parse::<ObjectId>() {
            assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
        }
        let name = ObjectName::parse(&text);
        if let Ok(name) = &name {
            assert!(name.components().all(|part| !part.starts_with('.')));
            assert_eq!(&ObjectName::parse(&name.to_string()).unwrap(), name);
        }
        let _ = ObjectName::manifest(&text, SNAPSHOT.parse().unwrap());
        id.is_ok() || name.is_ok()
    }
}
