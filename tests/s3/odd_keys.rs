//! One key that XML cannot hold, which anybody may put who can put, ends no listing: neither those
//! of runs nor those of who looks for what was stolen. In Ceph's radosgw.

use super::locked::{PLACE, disk, location, snapshot};
use super::rados::Rados;
use super::recovered::{assert_stands, contents, moment, name, recovered, store_of};
use super::server::BUCKET;
use crate::support::vaults::{check_all, vault_options};
use std::sync::Arc;
use stillpoint::store::{self, ObjectName, ObjectStore};

const FOLDERS: [&str; 9] = [
    "condemned",
    "damaged",
    "footers",
    "index",
    "keeps",
    "keys",
    "segments",
    "sessions",
    "snapshots/host",
];

/// Puts a key below each folder that no XML can hold; or takes them away.
fn odd_keys(server: &Rados, is_there: bool) {
    for folder in FOLDERS {
        let key = format!("vault/{folder}/\u{fffe}%25");
        server
            .owner(async |client| match is_there {
                true => {
                    let put = client.put_object().bucket(BUCKET).key(&key);
                    put.send().await.map(drop).map_err(drop)
                }
                false => {
                    let delete = client.delete_object().bucket(BUCKET).key(&key);
                    delete.send().await.map(drop).map_err(drop)
                }
            })
            .expect("this store takes any key");
    }
}

#[test]
fn one_key_that_no_listing_can_show_ends_none() {
    let test = "one_key_that_no_listing_can_show_ends_none";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_bucket();
    server.switch_versioning_on();
    let vault = Arc::new(store::create(&location(&server, PLACE), vault_options()).unwrap());
    let (disks, store) = (disk(), store_of(&server));
    let first = snapshot(&vault, &disks);
    let at = moment(&server);
    let before = contents(&server);
    odd_keys(&server, true);

    // Whoever takes snapshots, lists and verifies goes on.
    let open = || Arc::new(store::open(&location(&server, PLACE)).unwrap());
    let second = snapshot(&open(), &disks);
    check_all(&open(), &[first, second]);
    for folder in ["index", "segments", "footers", "snapshots"] {
        let listed = store.list_all(&name(folder)).unwrap();
        let known = before.keys().filter(|key| key.starts_with(folder));
        for key in known {
            assert!(listed.iter().any(|one| one.name.as_str() == key), "{key}");
        }
    }
    // So does who brings back what was hidden.
    let all = before.keys().map(|key| name(key));
    let all = all.filter(|name| *name != ObjectName::vault_info());
    all.for_each(|name| store.delete(&name).unwrap());
    assert_eq!(recovered(&server, at, false).put_count(), before.len() - 1);
    odd_keys(&server, false);
    // Their versions are there still: no listing of versions is without them.
    assert_eq!(recovered(&server, at, false).put_count(), 0);
    assert_stands(&before, &contents(&server));
}
