//! Which requests are made of a store, and how many: each costs money, and each kind that stores
//! disagree about is never made.

use super::proxy::{Plan, Proxy, Seen};
use super::server::{Server, place};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check, session_record, take, vault_options};
use std::collections::BTreeMap;
use std::sync::Arc;
use stillpoint::model::{BLOCK_SIZE, SnapshotId};
use stillpoint::store::{Blob, ObjectName, ObjectStore, PutChecksum, S3Place, S3Store, Vault};

fn peaceful(server: &Server) -> (Proxy, S3Place) {
    let plan = Plan {
        seed: 0,
        percent: 0,
        faults: Vec::new(),
    };
    let proxy = Proxy::start(&server.endpoint, plan);
    let place = place(&proxy.endpoint, &server.credentials(), "vault");
    (proxy, place)
}

/// What is asked of the vault, by method and folder.
fn counted(seen: &[Seen]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for one in seen {
        let (path, query) = one.path.split_once('?').unwrap_or((&one.path, ""));
        let below = path.strip_prefix("/bucket/vault/").unwrap_or_default();
        let folder = below.split('/').next().unwrap_or_default();
        let is_list = query.contains("list-type=2");
        let method = if is_list { "LIST" } else { &one.method };
        *counts
            .entry(format!("{method} {folder}").trim().to_owned())
            .or_default() += 1;
    }
    counts
}

/// No request is of a kind that some store refuses, changes or ignores.
fn all_are_plain(seen: &[Seen]) {
    for one in seen {
        let said = format!("{one:?}");
        assert!(
            ["GET", "PUT", "HEAD", "DELETE"].contains(&one.method.as_str()),
            "{said}"
        );
        for part in ["uploads", "uploadId", "partNumber", "delete="] {
            assert!(!one.path.contains(part), "{said}");
        }
        for header in [
            "transfer-encoding",
            "x-amz-trailer",
            "if-match",
            "if-none-match",
            "expect",
        ] {
            assert_eq!(one.header(header), None, "{said}");
        }
        assert_ne!(
            one.header("content-encoding"),
            Some("aws-chunked"),
            "{said}"
        );
        let signed = one.header("authorization").unwrap();
        assert!(!signed.contains("accept-encoding"), "{said}");
        let hash = one.header("x-amz-content-sha256").unwrap();
        assert!(
            hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
            "{said}"
        );
        if one.method == "PUT" {
            assert_eq!(
                one.header("content-length"),
                Some(one.body.to_string().as_str())
            );
            assert!(one.body <= 33 << 20, "{}", one.body);
        }
    }
}

#[test]
fn a_cycle_makes_few_requests_and_plain_ones() {
    let server = Server::start();
    let (proxy, place) = peaceful(&server);
    let counts = |proxy: &Proxy| {
        let seen = proxy.seen();
        all_are_plain(&seen);
        counted(&seen)
    };
    let expect = |counts: BTreeMap<String, u64>, wanted: &[(&str, u64)]| {
        let wanted = wanted
            .iter()
            .map(|(what, count)| ((*what).to_owned(), *count));
        assert_eq!(counts, wanted.collect());
    };
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::open(place).unwrap());
    let vault = Arc::new(Vault::create(Arc::clone(&store), vault_options()).unwrap());
    expect(
        counts(&proxy),
        &[("GET vault.json", 1), ("PUT vault.json", 1)],
    );

    let disks = [ModelDisk::new(0, 8 * BLOCK_SIZE, 3)];
    disks[0].write(0, &[7; 3 * BLOCK_SIZE as usize]);
    let first = take(&vault, &disks, Take::default()).unwrap();
    expect(
        counts(&proxy),
        &[
            ("LIST", 1),
            ("PUT segments", 1),
            ("HEAD segments", 1),
            ("PUT footers", 1),
            ("HEAD footers", 1),
            ("PUT index", 1),
            ("HEAD index", 1),
            ("PUT snapshots", 1),
            ("HEAD snapshots", 1),
        ],
    );
    disks[0].write(0, &[8; 100]);
    let run = SnapshotId::generate(1_800_000_000_000);
    let session = vault.begin_session(run, session_record()).unwrap();
    let options = Take {
        session: Some(session),
        ..Take::default()
    };
    let second = take(&vault, &disks, options).unwrap();
    let incremental = counts(&proxy);
    assert_eq!(incremental["PUT segments"], 1, "{incremental:?}");
    assert!(
        incremental.values().sum::<u64>() <= 14 + 5,
        "{incremental:?}"
    );
    // Before the manifest is put and after it; beats come each minute.
    assert_eq!(incremental["HEAD sessions"], 2, "{incremental:?}");
    assert_eq!(incremental.get("GET sessions"), None, "{incremental:?}");
    for taken in [&first, &second] {
        check(&vault, taken);
    }
    let read = counts(&proxy);
    assert!(read.values().sum::<u64>() <= 20, "{read:?}");
}

#[test]
fn checksums_are_sent_as_they_are_set() {
    let server = Server::start();
    let (proxy, place) = peaceful(&server);
    for (checksums, header) in [
        (PutChecksum::None, None),
        (PutChecksum::Crc32, Some("x-amz-checksum-crc32")),
        (PutChecksum::Md5, Some("content-md5")),
    ] {
        let mut place = place.clone();
        place.settings.checksums = checksums;
        place.settings.storage_class = Some("REDUCED_REDUNDANCY".into());
        let store = S3Store::open(place).unwrap();
        for name in ["index/x", "segments/ab/x"] {
            store
                .put(
                    &ObjectName::parse(name).unwrap(),
                    Blob::from_static(b"12345"),
                )
                .unwrap();
        }
        let seen = proxy.seen();
        all_are_plain(&seen);
        for (one, class) in seen.iter().zip([None, Some("REDUCED_REDUNDANCY")]) {
            for all in [
                "x-amz-checksum-crc32",
                "content-md5",
                "x-amz-sdk-checksum-algorithm",
            ] {
                assert_eq!(one.header(all).is_some(), header == Some(all), "{one:?}");
            }
            assert_eq!(one.header("x-amz-storage-class"), class, "{one:?}");
        }
    }
}
