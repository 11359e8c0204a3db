//! What it costs to look: requests, counted on a vault of a thousand hosts, with the cache of the
//! host cold and warm; and what is lost where not all is looked at.

use super::*;
use stillpoint::format::{FooterCopiesRef, FooterCopiesWriter, Packed, Trailer};
use stillpoint::model::Bytes;
use stillpoint::store::{CacheStore, ChunksElsewhere, CountStore, Draft, LookOptions, LookedFor};

/// Hosts that are there.
const HOSTS: u64 = 1000;

impl Fleet {
    /// A vault of a thousand hosts that were made from one image, which the first of them has
    /// stored; each has put a segment of its own besides.
    fn of_a_thousand() -> Self {
        let fleet = Self::new();
        let first = take_on(&fleet.vault(), "host", &disk_of(1));
        let image = first.manifest.disks[0].footers[0];
        let vault = fleet.vault();
        for number in 0..HOSTS {
            let run = SnapshotId::generate(1_900_000_000_000 + number * 1000);
            let own = fleet.put_segment(&vault, run, number);
            let mut manifest = first.manifest.clone();
            manifest.host = format!("host{number}");
            manifest.snapshot = run;
            manifest.disks[0].footers = vec![image, own];
            let name = ObjectName::manifest(&manifest.host, run);
            let bytes = manifest.encode(vault.sealer()).unwrap();
            fleet.store.put(&name, bytes.into()).unwrap();
        }
        fleet
    }

    /// A segment of one chunk, and a copy of its footer.
    fn put_segment(&self, vault: &Arc<Vault>, run: SnapshotId, seed: u64) -> FooterCopiesRef {
        let draft = Draft::begin(vault);
        let mut packed = Packed::default();
        let mut writer = draft.sealer().create_segment(Vec::new()).unwrap();
        let chunk = draft
            .sealer()
            .encode_chunk(&noise(100, 1000 + seed), &mut packed);
        writer.push(&chunk.unwrap(), &packed);
        let (id, bytes) = writer.finish();
        let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
        let mut copies = FooterCopiesWriter::default();
        copies.push(id, &bytes[trailer.footer_offset as usize..]);
        let copies = copies.take().unwrap();
        let named = FooterCopiesRef {
            run,
            part: 0,
            bytes: copies.len() as u64,
        };
        self.store
            .put(&ObjectName::segment(id), bytes.into())
            .unwrap();
        let name = ObjectName::parse(&format!("footers/{run}-00000000")).unwrap();
        self.store.put(&name, copies.into()).unwrap();
        named
    }
}

/// How often each verb was used.
fn asked(counted: &CountStore) -> [u64; 4] {
    let counts = counted.take();
    let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
    ["put", "get", "size", "list"].map(of)
}

#[test]
fn a_new_host_among_a_thousand_asks_for_little_and_finds_the_image() {
    let fleet = Fleet::of_a_thousand();
    let folder = tempfile::tempdir().unwrap();
    let counted = Arc::new(CountStore::new(fleet.store.clone()));
    let open = || {
        let cache = CacheStore::open(counted.clone(), &folder.path().join("cache")).unwrap();
        let vault = Arc::new(Vault::open(Arc::new(cache)).unwrap());
        asked(&counted);
        vault
    };
    let mut taken = Vec::new();
    for (host, got) in [
        // 16 manifests, 16 objects of copies, the chunk that is compared.
        ("new", 16 + 16 + 1),
        // The chunk; all else comes from the cache, but for the manifest of the host before, if it
        // is drawn.
        ("newer", 1 + 1),
    ] {
        let vault = open();
        taken.push(try_on(&vault, host, &disk_of(1), |_| ()).unwrap());
        let [put, get, size, list] = asked(&counted);
        // The session, the index object, the manifest.
        assert_eq!(put, 3, "{host}");
        assert!(get <= got, "{host}: {get}");
        // The segment, when it is found and before the manifest is put; the session, twice.
        assert_eq!(size, 4, "{host}");
        // What the store may list as pages of 1000: the host's snapshots, sessions, what is
        // condemned (twice), what is damaged, copies of footers, snapshots.
        assert_eq!(list, 7, "{host}");
        let last = taken.last().unwrap();
        assert_eq!(counts(last), [0, BLOCKS - 19], "{host}");
        let looked = last.manifest.looked.unwrap();
        assert_eq!(looked.read, 16, "{host}");
        assert!(looked.left_out >= HOSTS + 1 - 16, "{host}: {looked:?}");
    }
    for one in &taken {
        check(&fleet.vault(), one);
    }
}

#[test]
fn a_run_that_reads_little_asks_for_nothing_more() {
    let fleet = Fleet::new();
    let disk = disk_of(1);
    take_on(&fleet.vault(), "first", &disk);
    disk.write(0, &noise(10 * BLOCK_SIZE, 2));
    let counted = Arc::new(CountStore::new(fleet.store.clone()));
    let vault = Arc::new(Vault::open(counted.clone()).unwrap());
    let taken = try_on(&vault, "first", &disk, |_| ()).unwrap();
    assert_eq!(counts(&taken), [10, 0]);
    assert_eq!(taken.manifest.looked, None);
    let lists = asked(&counted)[3];
    // The host's snapshots, sessions, what is damaged.
    assert_eq!(lists, 3);
}

/// What looking may cost is bounded: who may put can have each block found in footers that are not
/// in memory.
#[test]
fn looking_ends_where_it_has_cost_what_it_may() {
    let fleet = Fleet::of_a_thousand();
    let image = noise(BLOCKS * BLOCK_SIZE, 1);
    let found = |least: u64| {
        let counted = Arc::new(CountStore::new(fleet.store.clone()));
        let vault = Arc::new(Vault::open(counted.clone()).unwrap());
        let session = session(&vault);
        let look = LookOptions {
            run: session.run(),
            wanted: Bytes(0),
            least: Bytes(least),
            named: &[],
            cancel: &|| Ok(()),
        };
        let elsewhere = ChunksElsewhere::load(&vault, &look).unwrap();
        asked(&counted);
        let blocks = image.chunks(BLOCK_SIZE as usize).map(|plain| {
            let hash = vault.sealer().hash_of(plain);
            Some(LookedFor { plain, hash })
        });
        let mut all = 0;
        for some in blocks.collect::<Vec<_>>().chunks(16) {
            let found = elsewhere.find(some).unwrap();
            all += found.iter().flatten().count();
        }
        (all, elsewhere.trouble().map(ToString::to_string))
    };
    let (all, trouble) = found(64 << 20);
    assert!(all > 200 && trouble.is_none(), "{all} {trouble:?}");
    let (few, trouble) = found(1);
    let trouble = trouble.unwrap();
    assert!(
        few < all && trouble.contains("as much as it may"),
        "{few} {trouble}"
    );
}
