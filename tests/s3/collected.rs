//! `gc` of a vault in a bucket of a real server: it waits for listings, and deletes what it
//! planned.

use super::server::Server;
use crate::collect::actors::manifest;
use crate::support::vaults::{session_record, vault_options};
use jiff::SignedDuration;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use stillpoint::engine::{
    CollectOptions, CollectPace, PlanOutcome, RewriteRules, Silent, collect_at, plan_collection,
};
use stillpoint::format::Packed;
use stillpoint::model::{BlockIndex, Content, Run, RunMap, SnapshotId};
use stillpoint::store::{Draft, SessionPace, Vault};

/// Makes all files below a folder 30 hours older, but for those of a live session.
fn make_older(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            make_older(&path);
            continue;
        }
        let then = SystemTime::now() - Duration::from_secs(30 * 60 * 60);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(then).unwrap();
    }
}

fn snapshot(vault: &Arc<Vault>, number: u64) -> SnapshotId {
    let run = SnapshotId::generate(number);
    let session = vault.begin_session(run, session_record()).unwrap();
    let draft = Draft::begin_in(vault, session, None);
    let mut packed = Packed::default();
    let mut writer = draft.sealer().create_segment(Vec::new()).unwrap();
    let chunk = draft
        .sealer()
        .encode_chunk(&[7; 65536], &mut packed)
        .unwrap();
    writer.push(&chunk, &packed);
    let (segment, bytes) = writer.finish();
    draft.put_segment(segment, bytes.into(), &[]).unwrap();
    let mut map = RunMap::new();
    let mut insert = |start, count, content| {
        map.insert(Run {
            start: BlockIndex(start),
            count,
            content,
        });
    };
    insert(0, 8, Content::Zero);
    insert(3, 1, Content::Data { segment, slot: 0 });
    let index = draft.put_index(&map, 8, true).unwrap();
    let mut record = manifest(vault, "host", run, &index);
    record.disks[0].footers = draft.finish_copies().unwrap();
    draft.commit(&mut record).unwrap();
    run
}

#[test]
fn what_nothing_needs_in_a_bucket_is_deleted() {
    let server = Server::start();
    let vault = Vault::create(Arc::new(server.store("vault")), vault_options());
    let vault = Arc::new(vault.unwrap());
    let (gone, kept) = (snapshot(&vault, 1), snapshot(&vault, 2));
    vault
        .delete(&vault.find(&gone.to_string()).unwrap())
        .unwrap();
    make_older(&server.files("vault"));
    let options = CollectOptions {
        grace: SignedDuration::from_hours(24),
        rewrite: RewriteRules::USUAL,
    };
    let would = plan_collection(&vault, options, &Silent).unwrap();
    assert_eq!(
        would.planned.unwrap().objects.all().objects,
        3,
        "segment, index, copies"
    );
    let waited = Mutex::new(Vec::new());
    let wait = |long: Duration| {
        waited.lock().unwrap().push(long.as_secs());
        Ok(())
    };
    let pace = CollectPace {
        session: SessionPace::default(),
        wait: &wait,
    };
    let gc = || collect_at(&pace, &vault, options, &Silent).unwrap();
    assert!(gc().planned.is_some());
    assert_eq!(
        *waited.lock().unwrap(),
        Vec::<u64>::new(),
        "there is nothing to wait for"
    );
    make_older(&server.files("vault"));
    let done = gc();
    let PlanOutcome::CarriedOut { deleted, .. } = &done.earlier[0].outcome else {
        panic!("{done:?}");
    };
    assert_eq!(deleted.all().objects, 3);
    assert_eq!(*waited.lock().unwrap(), [900], "listings may be late");
    // The plan stays until a look finds nothing of what it names.
    let after = gc();
    assert_eq!(after.earlier.len(), 1, "{after:?}");
    assert_eq!(*waited.lock().unwrap(), [900, 900]);
    let last = gc();
    assert!(
        last.earlier.is_empty() && last.planned.is_none(),
        "{last:?}"
    );
    assert_eq!(last.needed.all().objects, 3);
    let report = crate::support::vaults::verify_all(&vault).unwrap();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_eq!(vault.snapshots().unwrap()[0].id, kept);
}
