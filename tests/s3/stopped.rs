//! A run that is told to stop does so, whatever it asks of its store at that moment, and takes out
//! what it has put as long as that is quickly done. Pages of a long listing are tried again, too.

use super::proxy::{Fault, Plan, Proxy};
use super::server::{Server, place};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, take, vault_options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use stillpoint::model::{BLOCK_SIZE, ObjectId};
use stillpoint::store::{
    Blob, Draft, FaultStore, ObjectName, ObjectStore, RetryPolicy, RetryStore, S3Store, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

fn unless(stopped: &AtomicBool) -> Result<()> {
    match stopped.load(Ordering::SeqCst) {
        true => Err(Error::new(ErrorKind::Interrupted(15), "stopped")),
        false => Ok(()),
    }
}

/// Objects of more than two pages below `many/index`, put by hand: requests would be slow.
fn many(server: &Server) -> usize {
    let folder = server.files("many/index");
    std::fs::create_dir_all(&folder).unwrap();
    for at in 0..2500 {
        std::fs::write(folder.join(format!("{at:05}")), b"x").unwrap();
    }
    2500
}

fn bad(server: &Server, seed: u64) -> Proxy {
    let plan = Plan {
        seed,
        percent: 0,
        faults: vec![
            Fault::Refused(503, "SlowDown"),
            Fault::CutShort,
            Fault::Reset,
        ],
    };
    Proxy::start(&server.endpoint, plan)
}

#[test]
fn a_page_that_is_lost_is_asked_for_again_and_the_listing_is_whole() {
    let server = Server::start();
    let all = many(&server);
    let index = ObjectName::parse("index").unwrap();
    let mut faults = 0;
    for seed in 0..3 {
        let proxy = bad(&server, seed);
        let store = S3Store::open(place(&proxy.endpoint, &server.credentials(), "many")).unwrap();
        let mut found = Vec::new();
        let listed = store.list(&index, &mut |object| {
            // From the second page on.
            proxy.worse(60);
            found.push(object.name);
            Ok(())
        });
        listed.unwrap();
        assert_eq!(found.len(), all, "no object comes twice");
        found.sort();
        found.dedup();
        assert_eq!(found.len(), all);
        let pages = proxy.seen().len() as u64;
        assert_eq!(pages, 3 + proxy.faults(), "no page is got twice");
        faults += proxy.faults();
    }
    assert!(faults > 0);
}

#[test]
fn a_listing_ends_with_a_stop() {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    let server = Server::start();
    many(&server);
    let proxy = bad(&server, 1);
    let place = place(&proxy.endpoint, &server.credentials(), "many");
    let store = S3Store::open_until(place, || unless(&STOPPED)).unwrap();
    let mut found = 0;
    let listed = store.list(&ObjectName::parse("index").unwrap(), &mut |_| {
        found += 1;
        STOPPED.store(true, Ordering::SeqCst);
        Ok(())
    });
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Interrupted(15));
    assert_eq!((found, proxy.seen().len()), (1000, 1));
}

/// A vault whose operations are counted and fail as a test says, with the layer that it has in
/// earnest before it.
fn vault(
    server: &Server,
    stop: fn() -> Result<()>,
    step: impl Fn(stillpoint::store::Operation<'_>) -> Result<()> + Send + Sync + 'static,
) -> Arc<Vault> {
    let inner: Arc<dyn ObjectStore> = Arc::new(server.store("vault"));
    Vault::create(Arc::clone(&inner), vault_options()).unwrap();
    let store = RetryStore::new(Arc::new(FaultStore::new(inner, step)), RetryPolicy::DISTANT);
    Arc::new(Vault::open(Arc::new(store.until(stop))).unwrap())
}

fn put_many(vault: &Arc<Vault>) -> Draft {
    let draft = Draft::begin(vault);
    for _ in 0..40 {
        let bytes = Blob::from_static(b"bytes");
        draft.put_segment(ObjectId::generate(), bytes, &[]).unwrap();
    }
    draft
}

fn left(server: &Server) -> usize {
    let store = server.store("vault");
    store.list_all(&ObjectName::segments()).unwrap().len()
}

#[test]
fn who_is_stopped_while_he_confirms_takes_out_what_he_has_put() {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    let server = Server::start();
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let vault = vault(
        &server,
        || unless(&STOPPED),
        move |operation| {
            let is_it =
                operation.verb == "size" && operation.name.is_below(&ObjectName::segments());
            if is_it && !operation.done && counted.fetch_add(1, Ordering::SeqCst) == 3 {
                STOPPED.store(true, Ordering::SeqCst);
            }
            Ok(())
        },
    );
    let disks = [ModelDisk::new(0, 4 * BLOCK_SIZE, 1)];
    let mut taken = take(&vault, &disks, Take::default()).unwrap();
    let before = left(&server);
    assert!(!STOPPED.load(Ordering::SeqCst));
    let error = put_many(&vault).commit(&mut taken.manifest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted(15), "{error}");
    // Those that were on their way.
    assert!(asked.load(Ordering::SeqCst) < 1 + 2 * 8, "{asked:?}");
    assert_eq!(left(&server), before);
}

#[test]
fn a_delete_that_fails_after_a_stop_is_the_last() {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    let server = Server::start();
    let deletes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&deletes);
    let vault = vault(
        &server,
        || unless(&STOPPED),
        move |operation| {
            if operation.verb == "delete" && !operation.done {
                counted.fetch_add(1, Ordering::SeqCst);
                return Err(Error::new(ErrorKind::Io, "the test says so"));
            }
            Ok(())
        },
    );
    let draft = put_many(&vault);
    STOPPED.store(true, Ordering::SeqCst);
    drop(draft);
    // So many at once, and none is tried again.
    assert_eq!(deletes.load(Ordering::SeqCst), 8);
    assert_eq!(left(&server), 40);
}
