//! What a fleet is billed for: the requests of each run in a bucket, counted before the store, and
//! the sums that the operators' page works out of them.

use super::proxy::{Plan, Proxy, Seen};
use super::server::{BUCKET, Server, environment};
use crate::cli::lab::{Lab, PROGRAM, Run, finish, noise};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, take, vault_options};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use stillpoint::model::{BLOCK_SIZE, SnapshotId};
use stillpoint::store::{ObjectStore, Vault};

/// Requests of a run, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Requests {
    put: u64,
    get: u64,
    size: u64,
    list: u64,
    delete: u64,
}

impl Requests {
    fn of(seen: &[Seen]) -> Self {
        let count = |is: &dyn Fn(&Seen) -> bool| seen.iter().filter(|one| is(one)).count() as u64;
        let is_list = |one: &Seen| one.path.contains("list-type=2");
        Self {
            put: count(&|one| one.method == "PUT"),
            get: count(&|one| one.method == "GET" && !is_list(one)),
            size: count(&|one| one.method == "HEAD"),
            list: count(&|one| one.method == "GET" && is_list(one)),
            delete: count(&|one| one.method == "DELETE"),
        }
    }
}

/// Objects of copies of so many segments' footers: 8 MiB each, of about 24 KiB a footer.
fn copies(segments: u64) -> u64 {
    let footer = 31 * MIB as u64 / BLOCK_SIZE * 48;
    (segments * footer).div_ceil(8 << 20)
}

/// A full of so many segments.
fn full(segments: u64) -> Requests {
    Requests {
        // The session, the segments, copies of their footers, the index object, the manifest.
        put: segments + copies(segments) + 3,
        // `vault.json`.
        get: 1,
        // Whether the store has kept segments, copies, index object and manifest, and the session
        // stands, twice.
        size: segments + copies(segments) + 2 + 2,
        // The host's snapshots, the sessions.
        list: 2,
        // The session.
        delete: 1,
    }
}

/// An incremental that puts so many segments, of a disk that stands in so many others: fewer than
/// are worth a page of a listing.
fn incremental(segments: u64, others: u64) -> Requests {
    let index = u64::from(segments > 0);
    Requests {
        put: segments + copies(segments) + index + 2,
        // `vault.json`: the rest is kept on the host.
        get: 1,
        // The parent's index objects and segments, whether they are there; what was put; the
        // session, twice.
        size: 1 + others + segments + copies(segments) + index + 1 + 2,
        // As above, what is known to be damaged, and twice what collectors mean to delete.
        list: 5,
        delete: 1,
    }
}

fn peaceful(server: &Server) -> Proxy {
    let plan = Plan {
        seed: 0,
        percent: 0,
        faults: Vec::new(),
    };
    Proxy::start(&server.endpoint, plan)
}

const MIB: usize = 1 << 20;

#[test]
fn runs_ask_for_what_they_are_billed_for() {
    let Some(lab) = Lab::new("runs_ask_for_what_they_are_billed_for") else {
        return;
    };
    let server = Server::start();
    let proxy = peaceful(&server);
    let run = |args: &[&str]| -> (Run, Requests) {
        proxy.seen();
        let mut command = lab.command(args);
        environment(&mut command, &proxy.endpoint);
        let run = finish(command.env("STILLPOINT_VAULT", format!("s3://{BUCKET}/v")));
        (run, Requests::of(&proxy.seen()))
    };
    run(&["init", "s3://bucket/v"]).0.expect(0);
    // 100 MiB that do not pack: four segments.
    let disk = lab.disk("a", 100 << 20);
    let device = std::fs::File::options()
        .write(true)
        .open(&disk.device)
        .unwrap();
    device.write_all_at(&noise(100 * MIB, 1), 0).unwrap();
    device.sync_all().unwrap();
    let snapshot = |mode: &str| {
        for _ in 0..5 {
            let (taken, asked) = run(&["snapshot", &disk.device, "--json"]);
            let taken = taken.expect(0).json();
            if taken["disks"][0]["mode"] == mode {
                return asked;
            }
        }
        panic!("writes were hidden from tracking five times in a row");
    };
    assert_eq!(snapshot("full"), full(4));
    assert_eq!(snapshot("incremental"), incremental(0, 4));
    // 1 %.
    device
        .write_all_at(&noise(MIB, 2), 50 * MIB as u64)
        .unwrap();
    device.sync_all().unwrap();
    assert_eq!(snapshot("incremental"), incremental(1, 4));
    // A host that has the disk's footers, and one that has nothing.
    let read = |cache: &str| {
        proxy.seen();
        let mut command = lab.command(&[
            "restore",
            "latest",
            &lab.at(&format!("of-{cache}")),
            "--json",
        ]);
        environment(&mut command, &proxy.endpoint);
        let command = command.env("STILLPOINT_VAULT", format!("s3://{BUCKET}/v"));
        finish(command.env("STILLPOINT_CACHE_DIR", lab.at(cache))).expect(0);
        Requests::of(&proxy.seen())
    };
    // `latest` is found among the manifests of this host.
    let manifests = 3;
    // Up to 4 MiB each of four segments, the second of which has another's MiB in its middle.
    let parts = 8 + (5 + 1 + 3) + 8 + 2;
    let copies = 2;
    assert_eq!(read("cache"), restore(parts, 2, None));
    assert_eq!(read("nothing"), restore(parts, 2, Some(manifests + copies)));
}

/// A restore of so many parts of a disk with so many index objects, where so many manifests and
/// objects of copies of footers are not known.
fn restore(parts: u64, index: u64, unknown: Option<u64>) -> Requests {
    Requests {
        // `vault.json`, what is not known; a part a request.
        get: 1 + parts + unknown.map_or(0, |others| index + others),
        // Of an index object that is known it is asked whether it is there.
        size: if unknown.is_some() { 0 } else { index },
        list: 1,
        ..Requests::default()
    }
}

/// 1,000 snapshots of one host; the manifests are made by hand.
#[test]
fn a_list_of_a_thousand_asks_for_each_once_and_then_for_none() {
    let server = Server::start();
    let store: Arc<dyn ObjectStore> = Arc::new(server.store("v"));
    let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
    let disk = ModelDisk::new(0, 8 * BLOCK_SIZE, 3);
    let mut manifest = take(&vault, &[disk], Take::default()).unwrap().manifest;
    let folder = server.files("v/snapshots/host");
    for number in 1..1000 {
        manifest.snapshot = SnapshotId::generate(1_900_000_000_000 + number);
        let bytes = manifest.encode(vault.sealer()).unwrap();
        std::fs::write(folder.join(manifest.snapshot.to_string()), bytes).unwrap();
    }
    let proxy = peaceful(&server);
    let cache = tempfile::tempdir().unwrap();
    let list = || {
        let mut command = Command::new(PROGRAM);
        environment(&mut command, &proxy.endpoint);
        command
            .args(["list", "--json", "--vault", "s3://bucket/v"])
            .env("STILLPOINT_CONFIG_DIR", "/nowhere")
            .env("STILLPOINT_CACHE_DIR", cache.path());
        let listed = finish(&mut command).json();
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1000);
        Requests::of(&proxy.seen())
    };
    // `vault.json` comes first, and a page holds them all; another one what is kept, which is none,
    // one more what was found damaged, and one what was drilled.
    let asked = |manifests: u64| Requests {
        get: 1 + manifests,
        list: 4,
        ..Requests::default()
    };
    assert_eq!(list(), asked(1000), "cold");
    assert_eq!(list(), asked(0), "warm");
}

/// `1,234,500`.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn dollars(price: f64) -> String {
    let cents = (price * 100.0).round() as u64;
    format!("${}.{:02}", with_commas(cents / 100), cents % 100)
}

/// The page's table is what the asserted counts of one run come to in a year. Of the listing that
/// a run makes to know its parent's segments, all pages are counted, and none of what they save.
#[test]
fn the_operators_page_has_the_bill_of_these_counts() {
    const DISKS: u64 = 100;
    const MOST_PAGES: u64 = 16;
    let segments = |gib: u64| (gib * 1024).div_ceil(31);
    let (first, daily) = (segments(50), segments(1));
    let mut sum = full(first);
    // 50 MB/s: a beat for each of 17 minutes, and a question for the one before it.
    sum.put += 50 * 1024 / 50 / 60;
    sum.size += 50 * 1024 / 50 / 60;
    for day in 1..365 {
        let run = incremental(daily, first + (day - 1) * daily);
        sum.put += run.put;
        sum.get += run.get;
        sum.size += run.size;
        sum.list += run.list + MOST_PAGES;
    }
    let gib = 50 + 182;
    let asked = |what: &str, count: u64, price: f64| {
        let all = DISKS * count;
        format!(
            "| {what} | {} | {} |",
            with_commas(all),
            dollars(all as f64 / 1000.0 * price)
        )
    };
    let stored = (DISKS * gib * 12) as f64 * 0.023;
    let lines = [
        format!(
            "| stored, {gib} GiB a disk on average | {} GiB | {} |",
            with_commas(DISKS * gib),
            dollars(stored)
        ),
        asked("put", sum.put, 0.005),
        asked("list", sum.list, 0.005),
        asked("get, size", sum.get + sum.size, 0.0004),
    ];
    let page = include_str!("../../src/cli/pages/operators.md");
    for line in lines {
        assert!(
            page.contains(&format!("\n{line}\n")),
            "the page lacks: {line}"
        );
    }
    for (claim, count, price) in [
        ("1,652 segments, $0.01", first + 3, 0.005),
        ("$0.0004, and nothing", 1000, 0.0004),
        ("$0.005 for a disk", restore(50 * 256, 2, None).get, 0.0004),
    ] {
        assert!(page.contains(claim), "{claim}");
        let price = count as f64 / 1000.0 * price;
        let told = claim.rsplit_once('$').unwrap().1;
        let told: f64 = told.split([',', ' ']).next().unwrap().parse().unwrap();
        assert!((price - told).abs() < told / 2.0, "{claim}: {price}");
    }
    assert!(page.contains("puts 2 objects. One of 1 GiB puts 38."));
    assert_eq!((incremental(0, 1).put, incremental(daily, 1).put), (2, 38));
}
